//! What the answer to a publish means to the source of the event: is it done with?

use tidings_broker as broker;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::publish::Results;

/// Of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All its channels have it, or nobody is to hear of it.
    Done,
    /// The bus is unavailable: it waits, for as long as that takes. No fault of the event's.
    Wait(String),
    /// An earlier event of the same channel failed: it waits for that one.
    Behind,
    /// Something refused it that may be put right: it is tried a few times.
    Again(String),
    /// It is wrong as it is, and always will be.
    Never(String),
}

impl Outcome {
    /// Of an event that was published, by its channels.
    pub(super) fn of(results: &Results) -> Self {
        let errors = || results.iter().filter_map(|(_, result)| result.as_ref().err());
        let first =
            |is: fn(&broker::Error) -> bool| errors().find(|error| is(error)).map(ToString::to_string);
        // While any of its channels cannot be reached, an event is not counted as tried.
        if let Some(why) = first(|error| matches!(error, broker::Error::Away { .. })) {
            Self::Wait(why)
        } else if let Some(why) = first(|error| !matches!(error, broker::Error::Aborted { .. })) {
            Self::Again(why)
        } else if errors().next().is_some() {
            Self::Behind
        } else {
            Self::Done
        }
    }

    /// Of an event of which nothing was published. A namespace, a route or a scope may be corrected; but it was refused by
    /// what is in force.
    pub(super) fn refused(status: &Status) -> Self {
        let why = out_of_scope(status).unwrap_or_else(|| status.message().to_owned());
        match status.code() {
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
    use tidings_broker::Published;
    use tidings_core::Channel;

    use super::*;

    fn channel() -> Channel {
        Channel::parse("tasks:1").unwrap()
    }

    fn away() -> Option<broker::Error> {
        Some(broker::Error::Away {
            reason: "away".to_owned(),
        })
    }

    fn refused() -> Option<broker::Error> {
        Some(broker::Error::Refused {
            peer: "redis".into(),
            answer: "NOPERM".to_owned(),
        })
    }

    fn aborted() -> Option<broker::Error> {
        Some(broker::Error::Aborted { channel: channel() })
    }

    fn of<const N: usize>(errors: [Option<broker::Error>; N]) -> Outcome {
        let published = Published {
            position: None,
            duplicate: false,
        };
        let results = errors.map(|error| (channel(), error.map_or(Ok(published.clone()), Err)));
        Outcome::of(&results.into())
    }

    #[test]
    fn an_event_is_done_with_when_every_channel_has_it() {
        assert_eq!(of([]), Outcome::Done);
        assert_eq!(of([None, None]), Outcome::Done);
        assert_eq!(of([None, away()]), Outcome::Wait("away".to_owned()));
        let why = "redis refused: NOPERM".to_owned();
        assert_eq!(of([None, refused()]), Outcome::Again(why.clone()));
        assert_eq!(of([aborted(), refused()]), Outcome::Again(why));
        assert_eq!(of([None, aborted()]), Outcome::Behind);
    }

    #[test]
    fn an_outage_of_the_bus_is_no_fault_of_the_events() {
        assert_eq!(of([refused(), away()]), Outcome::Wait("away".to_owned()));
        let refused = |code| Outcome::refused(&Status::new(code, "why"));
        let why = || "why".to_owned();
        assert_eq!(refused(Code::FailedPrecondition), Outcome::Again(why()));
        assert_eq!(refused(Code::InvalidArgument), Outcome::Never(why()));
        assert_eq!(refused(Code::PermissionDenied), Outcome::Never(why()));
        assert_eq!(refused(Code::NotFound), Outcome::Never(why()));
    }
}
