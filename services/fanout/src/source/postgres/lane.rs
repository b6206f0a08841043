//! The rows of one lane, published: those of a partition one after the other, partitions at the same time.
//!
//! What cannot be published now holds up its own partition and no other. A row that never can is set aside, and its partition
//! goes on.

use std::{collections::HashMap, time::Duration};

use futures_util::future;

use super::{
    blocked::Blocked,
    row::{Key, Row},
    table::Dead,
};
use crate::source::{Mouth, metrics::Tried, outcome::Outcome};

/// How long rows may be published after their lane was taken; far shorter than any idempotency window. A node that was
/// stopped in between, and has lost its session without knowing, must not publish when repeats are no longer known.
pub(super) const TERM: Duration = Duration::from_secs(60);

/// What became of a partition's rows.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) done: Vec<i64>,
    pub(super) dead: Vec<Dead>,
    /// The row with which it stopped, and why.
    pub(super) stopped: Option<(i64, Stop)>,
}

impl Tries {
    /// The first row that was tried.
    pub(super) fn first(&self) -> Option<i64> {
        let done = self.done.iter().copied();
        let dead = self.dead.iter().map(|dead| dead.id);
        let stopped = self.stopped.iter().map(|(row, _)| *row);
        done.chain(dead).chain(stopped).min()
    }

    /// Whether the first row did not find the bus unavailable.
    pub(super) fn found_the_bus(&self) -> bool {
        let refused = matches!(self.stopped, Some((_, Stop::Again(_))));
        refused || !self.done.is_empty() || !self.dead.is_empty()
    }
}

/// Why a partition does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bus is away.
    Wait(String),
    /// Something refused the row.
    Again(String),
}

/// Publishes rows of one lane, those of a partition in the order of their ids, until it is `over`. `attempts`: how often a row
/// may be refused.
pub(super) async fn publish(
    mouth: &Mouth,
    lane: i16,
    rows: Vec<Row>,
    blocked: &Blocked,
    attempts: u32,
    over: impl Fn() -> bool + Copy,
) -> Vec<(Key, Tries)> {
    let partitions = by_key(rows).into_iter().map(|(key, rows)| async move {
        let refused = |row| blocked.refused(lane, key, row);
        let tries = partition(mouth, rows, refused, attempts, over).await;
        (key, tries)
    });
    future::join_all(partitions).await
}

/// The partitions, each in the order of its rows.
fn by_key(rows: Vec<Row>) -> Vec<(Key, Vec<Row>)> {
    let mut places = HashMap::new();
    let mut partitions: Vec<(Key, Vec<Row>)> = Vec::new();
    for row in rows {
        let place = *places.entry(row.key).or_insert_with(|| {
            partitions.push((row.key, Vec::new()));
            partitions.len() - 1
        });
        partitions[place].1.push(row);
    }
    partitions
}

async fn partition(
    mouth: &Mouth,
    rows: Vec<Row>,
    refused: impl Fn(i64) -> u32,
    attempts: u32,
    over: impl Fn() -> bool,
) -> Tries {
    let mut tries = Tries::default();
    for row in rows {
        if over() {
            break;
        }
        let outcome = publish_row(mouth, &row).await;
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
            Outcome::Again(why) if refused(row.id) + 1 >= attempts => {
                tries.dead.push(Dead { id: row.id, why });
                continue;
            }
            Outcome::Again(why) => Stop::Again(why),
            Outcome::Wait(why) => Stop::Wait(why),
            // Each row is published on its own, after its predecessor was.
            Outcome::Behind => break,
        };
        mouth.metrics.count(&mouth.name, Tried::Retried, 1);
        tries.stopped = Some((row.id, stop));
        break;
    }
    tries
}

async fn publish_row(mouth: &Mouth, row: &Row) -> Outcome {
    let event = match row.event() {
        Ok(event) => event,
        Err(why) => {
            mouth.malformed();
            return Outcome::Never(why);
        }
    };
    match mouth.plan(event) {
        Ok(mut plan) => {
            // Each of many rows would wait for it until the command timeout.
            mouth.publish().leave_out_unavailable(&mut plan);
            let ready = mouth.publish().room(plan).await;
            mouth.start(ready, None).await.outcome
        }
        Err(outcome) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::row::test_row;

    #[test]
    fn rows_of_a_partition_stay_in_their_order() {
        let rows = [(1, 10), (2, 20), (3, 10), (5, 30), (8, 20), (9, 10)];
        let partitions = by_key(rows.map(|(id, key)| test_row(id, key)).into());
        let ids = partitions
            .iter()
            .map(|(key, rows)| (*key, rows.iter().map(|row| row.id).collect::<Vec<_>>()));
        assert_eq!(
            ids.collect::<Vec<_>>(),
            [(10, vec![1, 3, 9]), (20, vec![2, 8]), (30, vec![5])]
        );
    }
}
