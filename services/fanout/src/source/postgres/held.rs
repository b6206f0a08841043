//! The partitions whose first row waits to be tried again. They are not read meanwhile, and hold up no other.
//!
//! What is remembered is bounded. A partition beyond the bound is read and tried again with each round, until one that is
//! remembered was published or set aside: the bound keeps nothing from being tried.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{lane::Stop, row::Key};
use crate::source::pause;

/// The most partitions that are remembered: about 1.5 MB.
const MAX_HELD: usize = 20_000;

/// How long one is remembered after it was due: by then others have published or removed its rows.
const FORGET: Duration = Duration::from_secs(60);

/// Partitions by their keys.
#[derive(Default)]
pub(super) struct Held(HashMap<Key, Holding>);

struct Holding {
    lane: i16,
    row: i64,
    /// How often it was refused.
    refused: u32,
    /// How often it found its part of the bus unavailable.
    waited: u32,
    due: Instant,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of a lane that are not to be read yet.
    pub(super) fn keys(&self, lane: i16, now: Instant) -> Vec<Key> {
        let held = self.0.iter();
        let held = held.filter(|(_, holding)| holding.lane == lane && holding.due > now);
        held.map(|(key, _)| *key).collect()
    }

    /// When the next is to be tried.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().map(|holding| holding.due).min()
    }

    /// How often a row was refused.
    pub(super) fn refused(&self, key: Key, row: i64) -> u32 {
        let holding = self.0.get(&key).filter(|holding| holding.row == row);
        holding.map_or(0, |holding| holding.refused)
    }

    /// A partition went on.
    pub(super) fn release(&mut self, key: Key) {
        self.0.remove(&key);
    }

    /// A partition of a lane stopped at a row. Whether that could be remembered.
    pub(super) fn hold(&mut self, lane: i16, key: Key, row: i64, stop: &Stop, now: Instant) -> bool {
        if self.0.len() >= MAX_HELD && !self.0.contains_key(&key) {
            return false;
        }
        let fresh = || Holding {
            lane,
            row,
            refused: 0,
            waited: 0,
            due: now,
        };
        let holding = self.0.entry(key).or_insert_with(fresh);
        if holding.row != row {
            *holding = fresh();
        }
        let tried = match stop {
            Stop::Again(_) => &mut holding.refused,
            // It is tried again within two seconds, however long that takes.
            Stop::Wait(_) => {
                holding.waited = holding.waited.min(3);
                &mut holding.waited
            }
        };
        *tried += 1;
        holding.due = now + pause(*tried);
        true
    }

    /// The bus has come up: what waited for it is due.
    pub(super) fn bus_is_up(&mut self, now: Instant) {
        for holding in self.0.values_mut().filter(|holding| holding.waited > 0) {
            holding.due = holding.due.min(now);
        }
    }

    /// Forgets those that were due long ago.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, holding| holding.due + FORGET >= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again() -> Stop {
        Stop::Again("no".to_owned())
    }

    fn wait() -> Stop {
        Stop::Wait("away".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_held_at_its_row_until_that_is_due_or_done() {
        let mut held = Held::default();
        let begin = Instant::now();
        held.hold(7, 1, 1, &wait(), begin);
        assert_eq!(
            held.refused(1, 1),
            0,
            "an outage of the bus is no fault of the row's"
        );
        held.hold(7, 1, 1, &again(), begin);
        held.hold(7, 1, 1, &again(), begin);
        assert_eq!(
            (held.refused(1, 1), held.refused(1, 2), held.refused(2, 1)),
            (2, 0, 0)
        );
        assert_eq!(held.keys(7, begin), [1]);
        assert!(held.keys(8, begin).is_empty(), "it is in another lane");
        assert!(held.keys(7, held.due().unwrap()).is_empty(), "it is due");
        held.hold(7, 1, 2, &again(), begin);
        assert_eq!(held.refused(1, 2), 1, "the next row begins anew");
        held.release(1);
        assert!(held.is_empty());
        held.hold(7, 2, 3, &again(), begin);
        held.forget(begin + 2 * FORGET);
        assert!(held.is_empty(), "others have done it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_the_bus_is_due_when_it_comes_up_and_what_was_refused_is_not() {
        let mut held = Held::default();
        let now = Instant::now();
        held.hold(0, 1, 1, &wait(), now);
        held.hold(0, 2, 2, &again(), now);
        held.bus_is_up(now);
        assert_eq!(held.keys(0, now), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_bound_keeps_no_held_partition_from_being_counted_and_released() {
        let mut held = Held::default();
        let now = Instant::now();
        for key in 0..MAX_HELD as i64 {
            assert!(held.hold(0, key, key, &again(), now));
        }
        assert!(!held.hold(0, -1, 1, &again(), now), "there is no room");
        assert!(held.hold(0, 0, 0, &again(), now));
        assert_eq!(held.refused(0, 0), 2);
        held.release(0);
        assert!(held.hold(0, -1, 1, &again(), now));
    }
}
