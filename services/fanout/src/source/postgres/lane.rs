//! The rows of one lane, published: those of a partition one after the other, partitions at the same time.
//!
//! What cannot be published now holds up its own partition and no other; it is remembered here until it can be, and meanwhile
//! the partition is not read. A row that never can is set aside, and its partition goes on.

use std::{collections::HashMap, time::Duration};

use backon::ExponentialBackoff;
use futures_util::future;
use tokio::time::Instant;

use super::{row::Row, table::Dead};
use crate::source::{Mouth, backoff, metrics::Tried, outcome::Outcome};

/// How long rows may be published after their lane was taken. A node that was stopped in between, and has lost its session
/// without knowing, must not publish when repeats are no longer known.
pub(super) const TERM: Duration = Duration::from_secs(60);

/// The most partitions that are remembered to wait. When there are more, something is wrong with the bus, and nothing is
/// read until one has been published.
pub(super) const MAX_HELD: usize = 1000;

/// What became of a partition's rows.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) done: Vec<i64>,
    pub(super) dead: Vec<Dead>,
    /// The row with which it stopped, and why.
    pub(super) stopped: Option<(i64, Stop)>,
}

/// Why a partition does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bus is away.
    Wait(String),
    /// Something refused the row.
    Again(String),
}

/// Partitions whose first row waits to be tried again, by their keys.
#[derive(Default)]
pub(super) struct Held(HashMap<String, Holding>);

struct Holding {
    row: i64,
    tried: u32,
    due: Instant,
    backoff: ExponentialBackoff,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_HELD
    }

    /// Those that are not to be read yet.
    pub(super) fn keys(&self, now: Instant) -> Vec<String> {
        let held = self.0.iter().filter(|(_, holding)| holding.due > now);
        held.map(|(key, _)| key.clone()).collect()
    }

    /// When the next is to be tried.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().map(|holding| holding.due).min()
    }

    /// How often a row was refused.
    fn tried(&self, key: &str, row: i64) -> u32 {
        let holding = self.0.get(key).filter(|holding| holding.row == row);
        holding.map_or(0, |holding| holding.tried)
    }

    /// A partition went on.
    pub(super) fn release(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// A partition stopped at a row.
    pub(super) fn hold(&mut self, key: String, row: i64, stop: &Stop, now: Instant) {
        let fresh = || Holding {
            row,
            tried: 0,
            due: now,
            backoff: backoff(),
        };
        let holding = self.0.entry(key).or_insert_with(fresh);
        if holding.row != row {
            *holding = fresh();
        }
        if matches!(stop, Stop::Again(_)) {
            holding.tried += 1;
        }
        holding.due = now + holding.backoff.next().unwrap_or_default();
    }

    /// Forgets those that were due long ago: others have published or removed their rows.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, holding| holding.due + TERM >= now);
    }
}

/// Publishes rows of one lane that are in the order of their ids, until it is `over`. `attempts`: how often a row may be refused.
pub(super) async fn publish(
    mouth: &Mouth,
    rows: Vec<Row>,
    held: &Held,
    attempts: u32,
    over: impl Fn() -> bool + Copy,
) -> Vec<(String, Tries)> {
    let partitions = by_key(rows).into_iter().map(|(key, rows)| async move {
        let tried = |row| held.tried(&key, row);
        let tries = partition(mouth, rows, tried, attempts, over).await;
        (key, tries)
    });
    future::join_all(partitions).await
}

/// The partitions, each in the order of its rows.
fn by_key(rows: Vec<Row>) -> Vec<(String, Vec<Row>)> {
    let mut places = HashMap::new();
    let mut partitions: Vec<(String, Vec<Row>)> = Vec::new();
    for row in rows {
        let place = *places.entry(row.key.clone()).or_insert_with(|| {
            partitions.push((row.key.clone(), Vec::new()));
            partitions.len() - 1
        });
        partitions[place].1.push(row);
    }
    partitions
}

async fn partition(
    mouth: &Mouth,
    rows: Vec<Row>,
    tried: impl Fn(i64) -> u32,
    attempts: u32,
    over: impl Fn() -> bool,
) -> Tries {
    let mut tries = Tries::default();
    for row in rows {
        if over() {
            break;
        }
        let outcome = match row.event() {
            Ok(event) => mouth.publish(event).await,
            Err(why) => {
                mouth.malformed();
                Outcome::Never(why)
            }
        };
        let stop = match outcome {
            Outcome::Done => {
                mouth.metrics.count(&mouth.name, Tried::Published, 1);
                tries.done.push(row.id);
                continue;
            }
            Outcome::Never(why) => {
                tries.dead.push(Dead { id: row.id, why });
                continue;
            }
            Outcome::Again(why) if tried(row.id) + 1 >= attempts => {
                tries.dead.push(Dead { id: row.id, why });
                continue;
            }
            Outcome::Again(why) => Stop::Again(why),
            Outcome::Wait(why) => Stop::Wait(why),
        };
        mouth.metrics.count(&mouth.name, Tried::Retried, 1);
        tries.stopped = Some((row.id, stop));
        break;
    }
    tries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::row::test_row;

    #[test]
    fn rows_of_a_partition_stay_in_their_order() {
        let rows = [(1, "a"), (2, "b"), (3, "a"), (5, "c"), (8, "b"), (9, "a")];
        let partitions = by_key(rows.map(|(id, key)| test_row(id, key)).into());
        let ids = partitions
            .iter()
            .map(|(key, rows)| (key.as_str(), rows.iter().map(|row| row.id).collect::<Vec<_>>()));
        assert_eq!(
            ids.collect::<Vec<_>>(),
            [("a", vec![1, 3, 9]), ("b", vec![2, 8]), ("c", vec![5])]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_held_at_its_row_until_that_is_due_or_done() {
        let mut held = Held::default();
        let begin = Instant::now();
        let again = Stop::Again("no".to_owned());
        held.hold("a".to_owned(), 1, &Stop::Wait("away".to_owned()), begin);
        assert_eq!(
            held.tried("a", 1),
            0,
            "an outage of the bus is no fault of the row's"
        );
        held.hold("a".to_owned(), 1, &again, begin);
        held.hold("a".to_owned(), 1, &again, begin);
        assert_eq!(
            (held.tried("a", 1), held.tried("a", 2), held.tried("b", 1)),
            (2, 0, 0)
        );
        assert_eq!(held.keys(begin), ["a"]);
        assert!(held.keys(held.due().unwrap()).is_empty(), "it is due");
        held.hold("a".to_owned(), 2, &again, begin);
        assert_eq!(held.tried("a", 2), 1, "the next row begins anew");
        held.release("a");
        assert!(held.is_empty());
        held.hold("b".to_owned(), 3, &again, begin);
        held.forget(begin + 2 * TERM);
        assert!(held.is_empty(), "somebody else has done it");
    }
}
