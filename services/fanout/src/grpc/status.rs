//! How a call is refused: a status whose message says what to do, and `google.rpc` details for programs.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tidings_broker as broker;
use tidings_core::Channel;
use tidings_proto::fanout as proto;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    control, publish,
    routing::{self, Origin},
    template,
};

/// Who says so, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "tidings";

/// When to come back after UNAVAILABLE: about as long as the broker takes to notice that its bus has returned.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// INVALID_ARGUMENT with the fields that are wrong; there is at least one.
pub(crate) fn invalid(violations: Vec<FieldViolation>) -> Status {
    let message = match violations.as_slice() {
        [one] => format!("{}: {}", one.field, one.description),
        [first, rest @ ..] => {
            format!(
                "{}: {} (and {} more, see the details)",
                first.field,
                first.description,
                rest.len()
            )
        }
        [] => "the request is invalid".to_owned(),
    };
    Status::with_error_details(
        Code::InvalidArgument,
        message,
        ErrorDetails::with_bad_request(violations),
    )
}

/// A refusal that a program can tell by `reason`.
pub(crate) fn refused(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    about: &[(&str, &str)],
) -> Status {
    let about: HashMap<String, String> = about
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(reason, DOMAIN, about),
    )
}

/// UNAVAILABLE with the time after which to try again.
pub(crate) fn away(reason: &str, message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::Unavailable, message, details)
}

/// NOT_FOUND with the namespace that nobody configured, and what to do about it.
fn unconfigured(channel: &Channel, route: Option<&Origin>, message: &str) -> Status {
    let name = channel.namespace().unwrap_or_default();
    let mut advice = format!("add a [[namespace]] with name = {name:?} to the configuration");
    if name.is_empty() {
        advice.push_str(", which is for the channels that have none");
    }
    let mut about = HashMap::from([("channel".to_owned(), channel.to_string())]);
    if let Some(route) = route {
        about.insert("route".to_owned(), route.to_string());
    }
    let message = format!("{message}; {advice}");
    let mut details = ErrorDetails::with_resource_info("namespace", name, "", advice);
    details.set_error_info("NAMESPACE_NOT_CONFIGURED", DOMAIN, about);
    Status::with_error_details(Code::NotFound, message, details)
}

/// What to tell a backend whose event was not published.
pub(crate) fn of(error: &publish::Error) -> Status {
    let message = error.to_string();
    match error {
        publish::Error::Event { key, kind } => refused(
            Code::PermissionDenied,
            "EVENT_OUT_OF_SCOPE",
            format!("{message}; its scope is backends.key.events"),
            &[("key", key), ("event_type", kind)],
        ),
        publish::Error::Channel { key, channel } => refused(
            Code::PermissionDenied,
            "CHANNEL_OUT_OF_SCOPE",
            format!("{message}; its scope is backends.key.channels"),
            &[("key", key), ("channel", channel.as_str())],
        ),
        publish::Error::Rate { key, after, .. } => {
            let mut details = ErrorDetails::with_retry_info(Some(*after));
            let about = HashMap::from([("key".to_owned(), key.clone())]);
            details.set_error_info("RATE_EXCEEDED", DOMAIN, about);
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        publish::Error::Namespace { channel, route } => unconfigured(channel, route.as_ref(), &message),
        publish::Error::Routing(error) => invalid(vec![FieldViolation::new(field_of(error), message)]),
        publish::Error::Bus(error) => match code_of(error) {
            Code::Unavailable => {
                let advice = "retry with the same event id (without one, the event may be published twice)";
                away("BUS_AWAY", format!("{message}; {advice}"))
            }
            Code::Aborted => {
                let advice = "send again from the first event that failed, in order, with the same ids";
                refused(
                    code_of(error),
                    "EARLIER_FAILED",
                    format!("{message}: {advice}"),
                    &[],
                )
            }
            code => refused(code, "BUS_REFUSED", message, &[]),
        },
    }
}

/// What to tell a backend that has waited as long as it wanted to.
pub(crate) fn late() -> Status {
    let message = "the call's deadline has passed: what it asked for may or may not have happened; retry with the same \
                   event id (without one, the event may be published twice)";
    Status::deadline_exceeded(message)
}

/// What to tell a backend whose stream ends because the server does.
pub(crate) fn leaving() -> Status {
    let message = "this node is shutting down: what has been answered is published; go on with another node";
    away("SHUTTING_DOWN", message)
}

/// What to tell a backend whose batch reaches too many channels, from this event on.
pub(crate) fn too_many_channels(max: usize) -> Status {
    let message = format!(
        "the events of this batch up to this one reach more than {max} channels: publish it in another batch"
    );
    refused(Code::ResourceExhausted, "BATCH_TOO_LARGE", message, &[])
}

/// A status as a part of an answer.
pub(crate) fn on_the_wire(status: &Status) -> proto::Error {
    let details = tonic_types::pb::Status::decode(status.details()).unwrap_or_default();
    proto::Error {
        code: status.code() as u32,
        message: status.message().to_owned(),
        details: details.details,
    }
}

/// What to tell a backend whose order did not go out.
pub(crate) fn of_control(error: &control::Error) -> Status {
    let message = error.to_string();
    match error {
        control::Error::TooMany => {
            let mut details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
            details.set_error_info("TOO_MANY_ORDERS", DOMAIN, HashMap::new());
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        control::Error::Bus(broker::Error::TooLong { .. }) => {
            refused(Code::ResourceExhausted, "REQUEST_TOO_LARGE", message, &[])
        }
        control::Error::Bus(error) => match code_of(error) {
            Code::Unavailable => away("BUS_AWAY", message),
            code => refused(code, "BUS_REFUSED", message, &[]),
        },
    }
}

/// What a failure of the bus is called on the wire.
pub(crate) fn code_of(error: &broker::Error) -> Code {
    match error {
        broker::Error::Away { .. } => Code::Unavailable,
        broker::Error::Aborted { .. } => Code::Aborted,
        // The rest is for an operator to put right: permissions, memory, settings.
        _ => Code::FailedPrecondition,
    }
}

/// The field of the request that a route needed.
fn field_of(error: &routing::Error) -> String {
    use template::Error;
    let routing::Error::Template { source, .. } = error else {
        return "event".to_owned();
    };
    match source.as_ref() {
        Error::Missing { field }
        | Error::Kind { field, .. }
        | Error::Value { field, .. }
        | Error::Several { field, .. } => {
            format!("event.{field}")
        }
        Error::Unreadable { .. } => "event.data".to_owned(),
        Error::NotJson { .. } => "event.data_content_type".to_owned(),
        Error::Name { .. } | Error::TooLong | Error::TooMany => "event".to_owned(),
    }
}
