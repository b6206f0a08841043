//! Who was refused, and that nobody heard of an event, for the log: the same once a minute, however often it happens.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
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

#[cfg(test)]
mod tests {
    use super::*;

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
