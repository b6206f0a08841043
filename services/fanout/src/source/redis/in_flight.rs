//! The entries that a consumer has and has not told Redis the end of, in the order of the stream.
//!
//! An entry that failed, or that is behind one that failed, holds up what comes after it in the channels that do not have it,
//! and nothing else. What waits so is bounded; the bound keeps new entries from being read, and never one of these from being
//! tried again.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tidings_core::Channel;
use tokio::time::Instant;

use super::{
    entry::{Entry, EntryId},
    stream::Dead,
};

/// The most entries that wait.
const MAX_OPEN: usize = 10_000;

/// About the most bytes of entries that wait; what is read at once comes on top.
const MAX_BYTES: usize = 32 << 20;

/// What Redis has given to this consumer and not been told the end of.
#[derive(Default)]
pub(super) struct InFlight {
    pub(super) open: BTreeMap<EntryId, Open>,
    pub(super) done: Vec<String>,
    pub(super) dead: VecDeque<Dead>,
}

/// An entry that is not published yet.
pub(super) struct Open {
    pub(super) entry: Entry,
    /// How often it was refused, or its node died.
    pub(super) tried: u32,
    pub(super) next: Next,
    /// The channels that it was found to be for, and that do not have it; none: it was not looked at yet.
    pub(super) channels: Vec<Channel>,
}

/// When an entry may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// As soon as nothing earlier holds it up.
    Now,
    /// Not before: it was refused.
    At(Instant),
    /// When the bus is tried again.
    WithBus,
}

/// The channels that take nothing more in a round.
#[derive(Default)]
pub(super) struct HeldUp(HashSet<Channel>);

impl HeldUp {
    /// Whether any of an entry's channels is held up. Then all of them are, for what comes after it.
    pub(super) fn holds<'c>(&mut self, channels: impl Iterator<Item = &'c Channel> + Clone) -> bool {
        let holds = channels.clone().any(|channel| self.0.contains(channel));
        if holds {
            self.hold(channels);
        }
        holds
    }

    pub(super) fn hold<'c>(&mut self, channels: impl Iterator<Item = &'c Channel>) {
        self.0.extend(channels.cloned());
    }
}

impl Open {
    pub(super) fn new(entry: Entry, tried: u32) -> Self {
        Self {
            entry,
            tried,
            next: Next::Now,
            channels: Vec::new(),
        }
    }

    /// When it may be tried, if nothing earlier holds it up. `bus`: when the bus is tried again; `None`: it is not known to be
    /// unavailable.
    pub(super) fn due(&self, bus: Option<Instant>, now: Instant) -> Instant {
        match self.next {
            Next::Now => now,
            Next::At(at) => at,
            Next::WithBus => bus.unwrap_or(now),
        }
    }
}

impl InFlight {
    pub(super) fn has(&self, id: &str) -> bool {
        EntryId::parse(id).is_some_and(|id| self.open.contains_key(&id))
            || self.done.iter().any(|done| done == id)
            || self.dead.iter().any(|dead| dead.entry.id == id)
    }

    /// How many entries may be added, of `batch`.
    pub(super) fn room(&self, batch: usize) -> usize {
        let bytes = || -> usize { self.open.values().map(|open| open.entry.size()).sum() };
        let room = MAX_OPEN.saturating_sub(self.open.len()).min(batch);
        if room == 0 || bytes() >= MAX_BYTES {
            0
        } else {
            room
        }
    }

    /// When the next entry may be tried.
    pub(super) fn due(&self, bus: Option<Instant>, now: Instant) -> Option<Instant> {
        let (mut held, mut earliest) = (HeldUp::default(), None);
        for open in self.open.values() {
            if held.holds(open.channels.iter()) {
                continue;
            }
            let due = open.due(bus, now);
            if due <= now {
                return Some(due);
            }
            held.hold(open.channels.iter());
            earliest = Some(earliest.map_or(due, |earliest: Instant| earliest.min(due)));
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn open(next: Next, channels: &[&str]) -> Open {
        let entry = Entry {
            id: "1-0".to_owned(),
            fields: None,
        };
        Open {
            next,
            channels: channels
                .iter()
                .map(|name| Channel::parse(name).unwrap())
                .collect(),
            ..Open::new(entry, 0)
        }
    }

    fn in_flight<const N: usize>(entries: [Open; N]) -> InFlight {
        let ids = (1..).map(|number| EntryId::parse(&format!("1-{number}")).unwrap());
        InFlight {
            open: ids.zip(entries).collect(),
            ..InFlight::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_behind_one_that_waits_is_due_with_it_and_others_are_due_at_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let first = || open(Next::At(later), &["a"]);
        let behind = in_flight([first(), open(Next::Now, &["a", "b"]), open(Next::Now, &["b"])]);
        assert_eq!(behind.due(None, now), Some(later));
        let other = in_flight([first(), open(Next::Now, &["b"])]);
        assert_eq!(other.due(None, now), Some(now));
        let unknown = in_flight([first(), open(Next::Now, &[])]);
        assert_eq!(unknown.due(None, now), Some(now));
        let bus = in_flight([open(Next::WithBus, &["a"]), open(Next::Now, &["a"])]);
        assert_eq!(bus.due(Some(later), now), Some(later));
        assert_eq!(bus.due(None, now), Some(now));
        assert_eq!(in_flight([]).due(None, now), None);
    }

    #[test]
    fn a_hand_that_is_full_takes_nothing_more() {
        let mut in_flight = in_flight([]);
        assert_eq!(in_flight.room(100), 100);
        for number in 0..MAX_OPEN as u64 - 1 {
            let id = EntryId::parse(&format!("1-{number}")).unwrap();
            in_flight.open.insert(id, open(Next::Now, &[]));
        }
        assert_eq!(in_flight.room(100), 1);
        let large = Entry {
            id: "2-0".to_owned(),
            fields: Some(vec![("data".into(), vec![0; MAX_BYTES].into())]),
        };
        in_flight.open.clear();
        in_flight
            .open
            .insert(EntryId::parse("2-0").unwrap(), Open::new(large, 0));
        assert_eq!(in_flight.room(100), 0);
    }
}
