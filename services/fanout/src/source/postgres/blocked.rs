//! The partitions whose first row waits to be tried again. They are not read with the others, and hold up no other: only
//! their first rows are, by id, a few at a time.
//!
//! What is remembered is bounded. Of partitions beyond the bound a shard of the table remembers only up to which id they begin:
//! the rows up to there, and the partitions that these belong to, are left out of what is read first, and gone through a batch
//! at a time.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    time::Duration,
};

use tokio::time::Instant;

use super::{lane::Stop, row::Key};
use crate::source::pause;

/// The most partitions that are remembered: about 2 MB.
const MAX_PARTITIONS: usize = 20_000;

/// How long a backlog of refused rows waits while there is no room to remember any of them, and what is due in a shard that
/// another node has.
const PAUSE: Duration = Duration::from_secs(1);

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
    /// Another node had it when it was tried last: until when it is not tried again for what is due in it.
    elsewhere: Option<Instant>,
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

/// The rows at the front of a shard among which are some of partitions that could not be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    /// The id of the last of them.
    pub(super) end: i64,
    /// The id up to which they were tried again.
    pub(super) tried: i64,
    /// Whether some of them wait for the bus. Otherwise all were refused.
    waits: bool,
    /// Whether some were found to wait since the first of them was tried last.
    again_waits: bool,
    /// When they may be tried again though none can be remembered.
    due: Instant,
}

impl Backlog {
    /// Whether a row is one of those of which some wait for the bus.
    pub(super) fn waits_with(&self, row: i64) -> bool {
        self.waits && row <= self.end
    }
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

    /// Leaves a row, whose partition is not remembered, to the backlog. `waits`: whether it waits for the bus.
    fn put_off(&mut self, row: i64, waits: bool, now: Instant) {
        let backlog = self.backlog.get_or_insert(Backlog {
            end: i64::MIN,
            tried: i64::MIN,
            waits: false,
            again_waits: false,
            due: now + PAUSE,
        });
        backlog.end = backlog.end.max(row);
        backlog.waits |= waits;
        backlog.again_waits |= waits;
    }

    /// When the next row that was refused is to be tried.
    fn next(&self, has_room: bool, now: Instant) -> Option<Instant> {
        let partitions = self.partitions.values().filter(|blocked| !blocked.waits);
        let backlog = self.backlog.filter(|backlog| !backlog.waits);
        let backlog = backlog.map(|backlog| if has_room { now } else { backlog.due });
        let due = partitions.map(|blocked| blocked.due).chain(backlog).min()?;
        Some(self.elsewhere.map_or(due, |until| due.max(until)))
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
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let lanes = self.lanes.values();
        lanes.filter_map(|lane| lane.next(self.has_room(), now)).min()
    }

    /// Whether any row waits for the bus.
    pub(super) fn waits(&self) -> bool {
        self.lanes.values().any(|lane| {
            lane.backlog.is_some_and(|backlog| backlog.waits)
                || lane.partitions.values().any(|blocked| blocked.waits)
        })
    }

    /// Whether a partition waits for the bus.
    pub(super) fn is_waiting(&self, lane: i16, key: Key) -> bool {
        let blocked = self.lanes.get(&lane).and_then(|lane| lane.partitions.get(&key));
        blocked.is_some_and(|blocked| blocked.waits)
    }

    /// Whether rows of a backlog are to be tried. `bus`: whether the bus is to be tried.
    pub(super) fn is_due(&self, backlog: Backlog, bus: bool, now: Instant) -> bool {
        if backlog.waits {
            bus
        } else {
            // Without room for it, a row that is refused once more is not even counted.
            self.has_room() || backlog.due <= now
        }
    }

    fn has_room(&self) -> bool {
        self.count < MAX_PARTITIONS
    }

    /// Notes whether a shard could be had, or is another node's now: what is due in it is then tried there.
    pub(super) fn entered(&mut self, lane: i16, entered: bool, now: Instant) {
        if let Some(of) = self.lanes.get_mut(&lane) {
            of.elsewhere = (!entered).then(|| now + PAUSE);
        }
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
        let has_room = self.has_room();
        let of = self.lanes.entry(lane).or_default();
        if !of.partitions.contains_key(&key) {
            // Of a partition that was refused it has to be remembered how often: it takes the place of one that waits.
            let is_refused = matches!(stop, Stop::Again(_));
            if has_room {
                self.count += 1;
            } else if let Some(waits) = of.one_that_waits().filter(|_| is_refused) {
                let forgotten = of.partitions.remove(&waits);
                of.put_off(forgotten.map_or(i64::MIN, |blocked| blocked.row), true, now);
            } else {
                return of.put_off(row, !is_refused, now);
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
    pub(super) fn tried(&mut self, lane: i16, from: Backlog, up_to: Option<i64>, now: Instant) {
        let is_full = !self.has_room();
        let Some(of) = self.lanes.get_mut(&lane) else {
            return;
        };
        let Some(backlog) = &mut of.backlog else {
            return;
        };
        backlog.tried = up_to.unwrap_or(i64::MIN);
        backlog.due = now + PAUSE;
        if up_to.is_none() {
            backlog.waits = mem::take(&mut backlog.again_waits);
        }
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
mod tests;
