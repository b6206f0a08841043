//! What became of an event, for the person who published it.

use std::fmt::Write as _;

use tidings_proto::fanout::{ChannelResult, PublishResponse};
use tidings_telemetry::trace;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The event's id and what each channel did with it, one line each.
pub(super) fn accepted(answer: &PublishResponse) -> String {
    let mut text = format!("event {}\n", answer.event_id);
    if answer.duplicate {
        text.push_str("published before; this is the first answer\n");
    }
    if answer.results.is_empty() {
        text.push_str("no channel hears of it: no route matches its type; name one with --channel\n");
    }
    for ChannelResult {
        channel,
        offset,
        epoch,
        error,
        duplicate,
    } in &answer.results
    {
        let published = if *duplicate {
            "published before"
        } else {
            "published"
        };
        let _ = match (error, offset) {
            (Some(error), _) => writeln!(text, "{channel}  failed: {}: {}", code(error.code), error.message),
            (None, 0) => writeln!(text, "{channel}  {published}"),
            (None, offset) => writeln!(text, "{channel}  {published}, offset {offset}, epoch {epoch}"),
        };
    }
    text
}

/// How many channels did not get it; `None` when all did.
pub(super) fn failures(answer: &PublishResponse) -> Option<String> {
    let failed = answer
        .results
        .iter()
        .filter(|result| result.error.is_some())
        .count();
    let id = &answer.event_id;
    (failed > 0).then(|| {
        let all = answer.results.len();
        format!("{failed} of {all} channels did not get the event; try again with --id {id}")
    })
}

/// A status and its details, the main thing first.
pub(super) fn refused(status: &Status) -> String {
    let mut text = format!("{}: {}", code(status.code() as u32), status.message());
    let details = status.get_error_details();
    for violation in details
        .bad_request()
        .into_iter()
        .flat_map(|bad| &bad.field_violations)
    {
        let _ = write!(text, "\n  {}: {}", violation.field, violation.description);
    }
    if let Some(resource) = details.resource_info() {
        let _ = write!(
            text,
            "\n  {} {}: {}",
            resource.resource_type, resource.resource_name, resource.description
        );
    }
    if let Some(info) = details.error_info() {
        let _ = write!(text, "\n  reason: {}", info.reason);
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        let _ = write!(text, "\n  try again in {}", humantime::format_duration(delay));
    }
    text
}

/// The name of a code, as every gRPC client writes it.
fn code(code: u32) -> &'static str {
    trace::status_name(Code::from(i32::try_from(code).unwrap_or(i32::MAX)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidings_proto::fanout::Error;
    use tonic_types::ErrorDetails;

    use super::*;

    fn result(channel: &str) -> ChannelResult {
        ChannelResult {
            channel: channel.to_owned(),
            ..ChannelResult::default()
        }
    }

    #[test]
    fn every_channel_has_its_line() {
        let failed = Error {
            code: 14,
            message: "redis://cache is away".to_owned(),
            details: Vec::new(),
        };
        let answer = PublishResponse {
            event_id: "e1".to_owned(),
            duplicate: false,
            results: vec![
                result("tasks:1"),
                ChannelResult {
                    offset: 7,
                    epoch: "xyz".to_owned(),
                    ..result("tasks:2")
                },
                ChannelResult {
                    error: Some(failed),
                    ..result("tasks:3")
                },
            ],
            error: None,
        };
        assert_eq!(
            accepted(&answer),
            "event e1\n\
             tasks:1  published\n\
             tasks:2  published, offset 7, epoch xyz\n\
             tasks:3  failed: UNAVAILABLE: redis://cache is away\n"
        );
        let failures = failures(&answer).unwrap();
        assert_eq!(
            failures,
            "1 of 3 channels did not get the event; try again with --id e1"
        );
    }

    #[test]
    fn an_event_that_nobody_hears_of_says_so_and_is_no_failure() {
        let answer = PublishResponse {
            event_id: "e1".to_owned(),
            ..PublishResponse::default()
        };
        assert!(accepted(&answer).contains("no route matches"));
        assert_eq!(failures(&answer), None);
    }

    #[test]
    fn a_refusal_is_shown_with_its_details() {
        let mut details = ErrorDetails::with_bad_request_violation("event.type", "is required");
        details.set_retry_info(Some(Duration::from_millis(1500)));
        details.set_error_info("EVENT_INVALID", "tidings", std::collections::HashMap::new());
        let status = Status::with_error_details(Code::InvalidArgument, "the event is malformed", details);
        assert_eq!(
            refused(&status),
            "INVALID_ARGUMENT: the event is malformed\n  \
               event.type: is required\n  \
               reason: EVENT_INVALID\n  \
               try again in 1s 500ms"
        );
    }
}
