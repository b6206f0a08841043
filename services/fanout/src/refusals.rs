//! Who was refused, what the bus refused, and that an event has no subscribers, for the log: the same once a minute, however
//! often it happens.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tidings_broker as broker;
use tidings_core::Channel;
use tokio::time::Instant;

/// How long the same is not said again.
const AGAIN: Duration = Duration::from_secs(60);

/// What has been said. As many entries as there are keys and reasons, at the most.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<(String, &'static str), Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    /// How many were not said since.
    more: u64,
}

impl Refusals {
    /// Notes that the key called `key` (empty: none that is known) was refused. `why` must not have the key in it.
    pub(crate) fn note(&self, key: &str, reason: &'static str, why: &str) {
        if let Some(unsaid) = self.due(key, reason, Instant::now()) {
            tracing::warn!(
                key.name = key,
                reason,
                unsaid,
                "a call at the backends' door was refused: {why}"
            );
        }
    }

    /// Notes that an event of the type `kind` was accepted, and no route matches it.
    pub(crate) fn unrouted(&self, kind: &str) {
        // One entry for all types: backends can make up any number of them.
        if let Some(unsaid) = self.due("", "UNROUTED", Instant::now()) {
            tracing::info!(
                event.r#type = kind,
                unsaid,
                "an event matches no route and names no channel: nobody hears of it"
            );
        }
    }

    /// Notes that the bus refused a publication.
    pub(crate) fn by_bus(&self, event_id: Option<&str>, channel: &Channel, error: &broker::Error) {
        // One entry for all events and channels: a Redis that is full refuses them all.
        if let Some(unsaid) = self.due(code(error), "BUS", Instant::now()) {
            tracing::error!(
                event.id = event_id,
                channel.name = %channel,
                %error,
                unsaid,
                "the bus refused a publication"
            );
        }
    }

    /// Whether it is to be said, and how many were not.
    fn due(&self, key: &str, reason: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        match said.get_mut(&(key.to_owned(), reason)) {
            Some(last) if now < last.at + AGAIN => {
                last.more += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.more))
            }
            None => {
                said.insert((key.to_owned(), reason), Said { at: now, more: 0 });
                Some(0)
            }
        }
    }
}

/// What Redis calls its reason (`OOM`, `NOPERM`), so that one does not keep another out of the log; empty: it gave none.
fn code(error: &broker::Error) -> &str {
    let broker::Error::Refused { answer, .. } = error else {
        return "";
    };
    let code = answer.split(':').next().unwrap_or_default().trim_matches('"');
    let is_code = code.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_code { code } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_bus_is_logged_by_its_code() {
        let refused = |answer: &str| broker::Error::Refused {
            peer: "redis".into(),
            answer: answer.to_owned(),
        };
        assert_eq!(code(&refused("\"OOM\": command not allowed")), "OOM");
        assert_eq!(code(&refused("ReadOnly: no writes")), "ReadOnly");
        assert_eq!(code(&refused("some script failed")), "");
        assert_eq!(code(&refused("")), "");
        assert_eq!(code(&broker::Error::TooLong { size: 1 }), "");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_a_minute_with_how_many_there_were() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.due("tasks", "RATE", start), Some(0));
        assert_eq!(refusals.due("tasks", "RATE", start), None);
        assert_eq!(refusals.due("tasks", "RATE", start + AGAIN / 2), None);
        assert_eq!(refusals.due("bills", "RATE", start), Some(0));
        assert_eq!(refusals.due("tasks", "SCOPE", start), Some(0));
        assert_eq!(refusals.due("tasks", "RATE", start + AGAIN), Some(2));
    }
}
