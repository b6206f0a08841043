//! The partitions whose first row waits to be tried again. They are not read with the others, and hold up no other: only
//! their first rows are, by id, a few at a time.
//!
//! What is remembered is bounded. Of partitions beyond the bound a lane remembers only up to which id they begin: the rows up
//! to there, and the partitions that these belong to, are left out of what is read first, and gone through a few at a time.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use super::{lane::Stop, row::Key};
use crate::source::pause;

/// The most partitions that are remembered: about 2 MB.
const MAX_PARTITIONS: usize = 20_000;

/// Partitions by their lanes and keys.
#[derive(Default)]
pub(super) struct Blocked {
    lanes: BTreeMap<i16, Lane>,
    /// How many partitions are remembered.
    count: usize,
}

#[derive(Default)]
struct Lane {
    partitions: HashMap<Key, Partition>,
    backlog: Option<Backlog>,
}

struct Partition {
    row: i64,
    /// How often it was refused.
    refused: u32,
    /// Whether it found its part of the bus unavailable when it was tried last.
    waits: bool,
    /// When it may be tried again. Where it waits for the bus that is at any time: since when it may.
    due: Instant,
}

/// The rows at the front of a lane among which are some of partitions that could not be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    /// The id of the last of them.
    pub(super) end: i64,
    /// The id up to which they were tried again.
    pub(super) tried: i64,
}

/// The most rows that are tried again at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    pub(super) refused: usize,
    pub(super) waiting: usize,
}

impl Lane {
    fn one_that_waits(&self) -> Option<Key> {
        let mut partitions = self.partitions.iter();
        let (key, _) = partitions.find(|(_, holding)| holding.waits)?;
        Some(*key)
    }

    /// Leaves a row, whose partition is not remembered, to the backlog.
    fn put_off(&mut self, row: i64) {
        let backlog = self.backlog.get_or_insert(Backlog {
            end: i64::MIN,
            tried: i64::MIN,
        });
        backlog.end = backlog.end.max(row);
    }
}

impl Blocked {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The partitions of a lane.
    pub(super) fn keys(&self, lane: i16) -> Vec<Key> {
        let lane = self.lanes.get(&lane);
        lane.map_or_else(Vec::new, |lane| lane.partitions.keys().copied().collect())
    }

    /// The rows of a lane that are to be tried again now, with their partitions: those first that were tried least recently.
    pub(super) fn due(&self, lane: i16, quota: Quota, now: Instant) -> Vec<(Key, i64)> {
        let Some(Lane { partitions, .. }) = self.lanes.get(&lane) else {
            return Vec::new();
        };
        let of = |waits, most| {
            let due = partitions.iter();
            let due = due.filter(|(_, holding)| holding.waits == waits && holding.due <= now);
            let mut due: Vec<_> = due.collect();
            due.sort_unstable_by_key(|(_, holding)| (holding.due, holding.row));
            due.truncate(most);
            due.into_iter().map(|(key, holding)| (*key, holding.row))
        };
        of(false, quota.refused).chain(of(true, quota.waiting)).collect()
    }

    /// When the next row that was refused is to be tried.
    pub(super) fn next(&self) -> Option<Instant> {
        let all = self.lanes.values().flat_map(|lane| lane.partitions.values());
        all.filter(|holding| !holding.waits)
            .map(|holding| holding.due)
            .min()
    }

    /// Whether any row waits for the bus.
    pub(super) fn waits(&self) -> bool {
        let mut lanes = self.lanes.values();
        lanes.any(|lane| lane.backlog.is_some() || lane.partitions.values().any(|holding| holding.waits))
    }

    /// How often a row was refused.
    pub(super) fn refused(&self, lane: i16, key: Key, row: i64) -> u32 {
        let holding = self.lanes.get(&lane).and_then(|lane| lane.partitions.get(&key));
        let holding = holding.filter(|holding| holding.row == row);
        holding.map_or(0, |holding| holding.refused)
    }

    /// A partition went on, or its row is gone. Whether it had waited for the bus.
    pub(super) fn release(&mut self, lane: i16, key: Key) -> bool {
        let Some(of) = self.lanes.get_mut(&lane) else {
            return false;
        };
        let released = of.partitions.remove(&key);
        self.count -= usize::from(released.is_some());
        if of.partitions.is_empty() && of.backlog.is_none() {
            self.lanes.remove(&lane);
        }
        released.is_some_and(|holding| holding.waits)
    }

    /// A partition of a lane stopped at a row.
    pub(super) fn hold(&mut self, lane: i16, key: Key, row: i64, stop: &Stop, now: Instant) {
        let of = self.lanes.entry(lane).or_default();
        if !of.partitions.contains_key(&key) {
            // Of a partition that was refused it has to be remembered how often: it takes the place of one that waits.
            let is_refused = matches!(stop, Stop::Again(_));
            if self.count < MAX_PARTITIONS {
                self.count += 1;
            } else if let Some(waits) = of.one_that_waits().filter(|_| is_refused) {
                let forgotten = of.partitions.remove(&waits);
                of.put_off(forgotten.map_or(i64::MIN, |holding| holding.row));
            } else {
                return of.put_off(row);
            }
        }
        let fresh = || Partition {
            row,
            refused: 0,
            waits: false,
            due: now,
        };
        let holding = of.partitions.entry(key).or_insert_with(fresh);
        if holding.row != row {
            *holding = fresh();
        }
        holding.waits = matches!(stop, Stop::Wait(_));
        holding.due = now;
        if !holding.waits {
            holding.refused += 1;
            holding.due += pause(holding.refused);
        }
    }

    /// The rows of a lane that are left out of what is read first.
    pub(super) fn backlog(&self, lane: i16) -> Option<Backlog> {
        self.lanes.get(&lane)?.backlog
    }

    /// The rows of a lane's backlog behind those that were tried before were tried, up to one; `None`: up to the end.
    pub(super) fn tried(&mut self, lane: i16, from: Backlog, up_to: Option<i64>) {
        let is_full = self.count >= MAX_PARTITIONS;
        let Some(of) = self.lanes.get_mut(&lane) else {
            return;
        };
        let Some(backlog) = &mut of.backlog else {
            return;
        };
        backlog.tried = up_to.unwrap_or(i64::MIN);
        // All of it was tried at once, and what stopped is remembered.
        let is_over = up_to.is_none() && from.tried == i64::MIN && backlog.end == from.end && !is_full;
        if is_over {
            of.backlog = None;
            if of.partitions.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// Forgets what was in lanes that have no rows: others have published or removed them. `lanes`: those that have some.
    pub(super) fn keep(&mut self, lanes: &[i16]) {
        self.lanes.retain(|lane, _| lanes.contains(lane));
        self.count = self.lanes.values().map(|lane| lane.partitions.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALL: Quota = Quota {
        refused: 100,
        waiting: 100,
    };

    fn again() -> Stop {
        Stop::Again("no".to_owned())
    }

    fn wait() -> Stop {
        Stop::Wait("away".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_held_at_its_row_until_that_is_due_or_done() {
        let mut blocked = Blocked::default();
        let begin = Instant::now();
        blocked.hold(7, 1, 1, &wait(), begin);
        assert_eq!(
            blocked.refused(7, 1, 1),
            0,
            "an outage of the bus is no fault of the row's"
        );
        blocked.hold(7, 1, 1, &again(), begin);
        blocked.hold(7, 1, 1, &again(), begin);
        let refused = |blocked: &Blocked, key, row| blocked.refused(7, key, row);
        assert_eq!(
            (
                refused(&blocked, 1, 1),
                refused(&blocked, 1, 2),
                refused(&blocked, 2, 1)
            ),
            (2, 0, 0)
        );
        assert_eq!(blocked.keys(7), [1]);
        assert!(blocked.keys(8).is_empty(), "it is in another lane");
        assert!(blocked.due(7, ALL, begin).is_empty(), "it was refused just now");
        assert_eq!(blocked.due(7, ALL, blocked.next().unwrap()), [(1, 1)]);
        blocked.hold(7, 1, 2, &again(), begin);
        assert_eq!(blocked.refused(7, 1, 2), 1, "the next row begins anew");
        assert!(!blocked.release(7, 1), "it was refused");
        assert!(blocked.is_empty());
        blocked.hold(7, 2, 3, &again(), begin);
        blocked.keep(&[6, 7]);
        assert_eq!(blocked.keys(7), [2]);
        blocked.keep(&[6]);
        assert!(blocked.is_empty(), "others have done it");
    }

    #[tokio::test(start_paused = true)]
    async fn rows_that_wait_for_the_bus_are_retried_in_turn_within_a_quota_of_their_own() {
        let mut blocked = Blocked::default();
        let now = Instant::now();
        for key in 0..5 {
            blocked.hold(0, key, key, &wait(), now);
        }
        blocked.hold(0, 9, 9, &again(), now);
        let quota = Quota {
            refused: 1,
            waiting: 2,
        };
        let later = now + Duration::from_secs(1);
        assert_eq!(blocked.due(0, quota, later), [(9, 9), (0, 0), (1, 1)]);
        blocked.hold(0, 0, 0, &wait(), later);
        blocked.hold(0, 1, 1, &wait(), later);
        assert_eq!(blocked.due(0, quota, later), [(9, 9), (2, 2), (3, 3)]);
        assert!(blocked.waits());
        assert!(blocked.release(0, 2), "it had waited");
    }

    #[tokio::test(start_paused = true)]
    async fn partitions_beyond_the_bound_are_a_backlog_until_all_of_it_was_retried_and_there_is_room() {
        let mut blocked = Blocked::default();
        let now = Instant::now();
        for key in 0..MAX_PARTITIONS as i64 {
            blocked.hold(0, key, key, &again(), now);
        }
        assert_eq!(blocked.backlog(0), None);
        blocked.hold(0, 0, 0, &again(), now);
        assert_eq!(
            blocked.refused(0, 0, 0),
            2,
            "a partition that is remembered is counted"
        );
        blocked.hold(0, -1, 30_000, &wait(), now);
        let backlog = Backlog {
            end: 30_000,
            tried: i64::MIN,
        };
        assert_eq!(blocked.backlog(0), Some(backlog));
        blocked.tried(0, backlog, Some(25_000));
        assert_eq!(blocked.backlog(0).unwrap().tried, 25_000);
        blocked.tried(0, blocked.backlog(0).unwrap(), None);
        assert_eq!(blocked.backlog(0), Some(backlog), "there is no room yet");
        blocked.release(0, 0);
        blocked.hold(0, -1, 30_000, &wait(), now);
        blocked.release(0, 1);
        blocked.tried(0, backlog, None);
        assert_eq!(blocked.backlog(0), None);
        assert!(blocked.keys(0).contains(&-1));
    }

    #[tokio::test(start_paused = true)]
    async fn refused_rows_are_counted_though_all_that_is_remembered_waits_for_the_bus() {
        let mut blocked = Blocked::default();
        let now = Instant::now();
        for key in 0..MAX_PARTITIONS as i64 {
            blocked.hold(0, key, key, &wait(), now);
        }
        for _ in 0..2 {
            blocked.hold(0, -1, 30_000, &again(), now);
        }
        assert_eq!(blocked.refused(0, -1, 30_000), 2);
        assert_eq!(blocked.keys(0).len(), MAX_PARTITIONS);
        let end = blocked.backlog(0).unwrap().end;
        assert!(
            !blocked.keys(0).contains(&end),
            "one that waits is left to the backlog"
        );
        blocked.hold(1, 5, 5, &again(), now);
        assert_eq!(
            blocked.backlog(1).unwrap().end,
            5,
            "that lane has none that waits"
        );
    }
}
