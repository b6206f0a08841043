//! What the answer to a publish means to the source of the event: is it done with?

use tidings_proto::fanout as proto;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All its channels have it, or nobody is to hear of it.
    Done,
    /// The bus is away: it waits, for as long as that takes. No fault of the event's.
    Wait(String),
    /// Something refused it that may be put right: it is tried a few times.
    Again(String),
    /// It is wrong as it is, and always will be.
    Never(String),
}

impl Outcome {
    pub(super) fn of(answer: Result<proto::PublishResponse, Status>) -> Self {
        match answer {
            Ok(response) => {
                let refused = response.results.into_iter().find_map(|result| result.error);
                refused.map_or(Self::Done, |error| {
                    let code = Code::from_i32(error.code.try_into().unwrap_or_default());
                    Self::refused(code, error.message)
                })
            }
            Err(status) => Self::refused(
                status.code(),
                out_of_scope(&status).unwrap_or_else(|| status.message().to_owned()),
            ),
        }
    }

    fn refused(code: Code, why: String) -> Self {
        match code {
            Code::Unavailable | Code::DeadlineExceeded => Self::Wait(why),
            // A namespace, a route or a scope may be corrected; but the event was refused by what is in force.
            Code::InvalidArgument | Code::PermissionDenied | Code::NotFound => Self::Never(why),
            _ => Self::Again(why),
        }
    }
}

/// What was out of the source's scope, in its own words: the status speaks of API keys.
fn out_of_scope(status: &Status) -> Option<String> {
    let about = status.get_details_error_info()?.metadata;
    let said = |name, what, key| {
        let value = about.get(name)?;
        Some(format!("{what} {value:?} is out of its scope, `{key}`"))
    };
    match status.code() {
        Code::PermissionDenied => said("channel", "the channel", "source.channels")
            .or_else(|| said("event_type", "the event type", "source.events")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(errors: &[Code]) -> Outcome {
        let results = errors.iter().map(|&code| proto::ChannelResult {
            error: (code != Code::Ok).then(|| proto::Error {
                code: code as u32,
                message: "why".to_owned(),
                ..proto::Error::default()
            }),
            ..proto::ChannelResult::default()
        });
        Outcome::of(Ok(proto::PublishResponse {
            results: results.collect(),
            ..proto::PublishResponse::default()
        }))
    }

    #[test]
    fn an_event_is_done_with_when_every_channel_has_it() {
        assert_eq!(answered(&[]), Outcome::Done);
        assert_eq!(answered(&[Code::Ok, Code::Ok]), Outcome::Done);
        let why = "why".to_owned();
        assert_eq!(
            answered(&[Code::Ok, Code::Unavailable]),
            Outcome::Wait(why.clone())
        );
        assert_eq!(answered(&[Code::Ok, Code::Internal]), Outcome::Again(why));
    }

    #[test]
    fn an_outage_of_the_bus_is_no_fault_of_the_events() {
        let refused = |code| Outcome::of(Err(Status::new(code, "why")));
        let why = || "why".to_owned();
        assert_eq!(refused(Code::Unavailable), Outcome::Wait(why()));
        assert_eq!(refused(Code::FailedPrecondition), Outcome::Again(why()));
        assert_eq!(refused(Code::InvalidArgument), Outcome::Never(why()));
        assert_eq!(refused(Code::PermissionDenied), Outcome::Never(why()));
        assert_eq!(refused(Code::NotFound), Outcome::Never(why()));
    }
}
