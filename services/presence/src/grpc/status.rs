//! Errors as gRPC statuses, with `google.rpc` details that a program can act on.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{attach::Refusal, store, watch::WATCHERS};

/// What callers are asked to wait before they try again.
const RETRY: Duration = Duration::from_secs(1);

/// A field of the request is wrong.
pub(super) fn invalid(field: &str, why: impl Into<String>) -> Status {
    let why = why.into();
    let details = ErrorDetails::with_bad_request_violation(field, &why);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {why}"), details)
}

pub(super) fn wrong_door() -> Status {
    Status::permission_denied(
        "Attach is for gateways and served at presence' internal door (port 9001 by default); here are the reads",
    )
}

pub(super) fn closing() -> Status {
    unavailable("this presence replica is stopping; go to another")
}

pub(super) fn silent(patience: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "nothing came for {} ms; attach again",
        patience.as_millis()
    ))
}

pub(super) fn no_log() -> Status {
    let why = "nothing is kept for those who watch: `presence.log` is 0";
    let details = ErrorDetails::with_precondition_failure_violation("CONFIGURATION", "presence.log", why);
    Status::with_error_details(Code::FailedPrecondition, why, details)
}

pub(super) fn too_many_watch() -> Status {
    let why = format!("{WATCHERS} watch this replica already, which is as many as may");
    Status::with_error_details(
        Code::ResourceExhausted,
        why,
        ErrorDetails::with_retry_info(Some(RETRY)),
    )
}

fn unavailable(why: impl Into<String>) -> Status {
    Status::with_error_details(Code::Unavailable, why, ErrorDetails::with_retry_info(Some(RETRY)))
}

impl From<store::Error> for Status {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::Ended { lease } | store::Error::Outdated { lease } => {
                let advice = "attach again and report everyone";
                let (name, owner) = (lease.to_string(), lease.gateway.as_str());
                let details = ErrorDetails::with_resource_info("lease", name, owner, advice);
                Self::with_error_details(Code::Aborted, format!("{error}; {advice}"), details)
            }
            store::Error::Unavailable(cause) => unavailable(format!("{error}: {cause}")),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OutOfOrder { field, why } => invalid(field, why),
            Refusal::Store(error) => error.into(),
        }
    }
}
