//! The entries that a consumer has and has not told Redis the end of, in the order of the stream.
//!
//! An entry holds up what comes after it in the channels that do not have it, and nothing else. So an entry for a channel that
//! is unavailable and for one that is not reaches the latter at once, and those behind it do not wait for the former. What waits so is bounded; the bound keeps new entries from being read, and never one of these from being
//! tried again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use tidings_core::Channel;
use tokio::time::Instant;

use super::{
    entry::{Entry, EntryId},
    stream::Dead,
};
use crate::source::{Attempt, outcome::Outcome};

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
    pub(super) missing: HashMap<Channel, Missing>,
    /// Whether some channels have it. Then it goes to those that are missing, and to no others.
    pub(super) is_partly_published: bool,
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

/// Why a channel does not have an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It failed there, and is tried again when the entry [is due](Open::due).
    Failed,
    /// An earlier entry has to be published there first. It is tried as soon as that one was.
    Behind,
}

/// What is done in a round about one channel of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Publish,
    /// It waits, and what comes after it in the channel with it.
    Wait(Missing),
    /// The channel has it.
    Has,
}

/// The channels that take nothing more in a round.
#[derive(Default)]
pub(super) struct HeldUp(HashSet<Channel>);

impl HeldUp {
    fn holds(&self, channel: &Channel) -> bool {
        self.0.contains(channel)
    }

    pub(super) fn hold<'c>(&mut self, channels: impl IntoIterator<Item = &'c Channel>) {
        self.0.extend(channels.into_iter().cloned());
    }
}

impl Open {
    pub(super) fn new(entry: Entry, tried: u32) -> Self {
        Self {
            entry,
            tried,
            next: Next::Now,
            missing: HashMap::new(),
            is_partly_published: false,
        }
    }

    /// When it may be tried where it failed, or at all if it was not looked at yet. `bus`: when the bus is tried again; `None`:
    /// it is not known to be unavailable.
    pub(super) fn due(&self, bus: Option<Instant>, now: Instant) -> Instant {
        match self.next {
            Next::Now => now,
            Next::At(at) => at,
            Next::WithBus => bus.unwrap_or(now),
        }
    }

    /// When it may be tried in the first of its channels; `None`: earlier entries hold up all of them.
    fn first_due(&self, held: &HeldUp, bus: Option<Instant>, now: Instant) -> Option<Instant> {
        if self.missing.is_empty() {
            return Some(self.due(bus, now));
        }
        let free = self.missing.iter().filter(|(channel, _)| !held.holds(channel));
        free.map(|(_, why)| match why {
            Missing::Failed => self.due(bus, now),
            Missing::Behind => now,
        })
        .min()
    }

    /// Notes what was published of it, beside the channels in which it waits. What is to become of it.
    pub(super) fn published(&mut self, attempt: Attempt) -> Outcome {
        self.is_partly_published |= attempt.is_partly_published;
        let failed = attempt.failed.into_iter();
        self.missing
            .extend(failed.map(|channel| (channel, Missing::Failed)));
        let behind = attempt.behind.into_iter();
        self.missing
            .extend(behind.map(|channel| (channel, Missing::Behind)));
        match attempt.outcome {
            Outcome::Done if !self.missing.is_empty() => Outcome::Behind,
            outcome => outcome,
        }
    }

    /// Notes that it was refused before any channel was tried, and so is in all of them when it is tried again.
    pub(super) fn refused(&mut self, outcome: Outcome) -> Outcome {
        self.missing.values_mut().for_each(|why| *why = Missing::Failed);
        outcome
    }

    /// What is to be done now about a channel that it is for. `is_due`: whether it may be tried where it failed.
    pub(super) fn step(&self, channel: &Channel, held: &HeldUp, is_due: bool) -> Step {
        match self.missing.get(channel).copied() {
            None if self.is_partly_published => Step::Has,
            Some(Missing::Failed) if !is_due => Step::Wait(Missing::Failed),
            missing if held.holds(channel) => Step::Wait(missing.unwrap_or(Missing::Behind)),
            _ => Step::Publish,
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
            let Some(due) = open.first_due(&held, bus, now) else {
                continue;
            };
            if due <= now {
                return Some(due);
            }
            held.hold(open.missing.keys());
            earliest = Some(earliest.map_or(due, |earliest: Instant| earliest.min(due)));
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn open(next: Next, failed: &[&str], behind: &[&str]) -> Open {
        let entry = Entry {
            id: "1-0".to_owned(),
            fields: None,
        };
        let missing = |names: &[&str], why| names.iter().map(|name| (channel(name), why)).collect::<Vec<_>>();
        let failed = missing(failed, Missing::Failed);
        Open {
            next,
            missing: failed
                .into_iter()
                .chain(missing(behind, Missing::Behind))
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
        let first = || open(Next::At(later), &["a"], &[]);
        let behind = in_flight([first(), open(Next::Now, &[], &["a"])]);
        assert_eq!(behind.due(None, now), Some(later));
        let other = in_flight([first(), open(Next::Now, &[], &["b"])]);
        assert_eq!(other.due(None, now), Some(now));
        let unknown = in_flight([first(), open(Next::Now, &[], &[])]);
        assert_eq!(unknown.due(None, now), Some(now));
        let bus = in_flight([open(Next::WithBus, &["a"], &[]), open(Next::Now, &[], &["a"])]);
        assert_eq!(bus.due(Some(later), now), Some(later));
        assert_eq!(bus.due(None, now), Some(now));
        assert_eq!(in_flight([]).due(None, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_of_which_one_channel_waits_is_due_in_the_others_at_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let dead = || open(Next::WithBus, &["dead"], &[]);
        let both = in_flight([dead(), open(Next::Now, &[], &["dead", "well"])]);
        assert_eq!(both.due(Some(later), now), Some(now));
        let failed = in_flight([dead(), open(Next::WithBus, &["dead"], &["well"])]);
        assert_eq!(failed.due(Some(later), now), Some(now));
        // The second does not have to wait for the first in a channel that has the first.
        let after = in_flight([
            open(Next::WithBus, &["dead"], &[]),
            open(Next::Now, &[], &["well"]),
        ]);
        assert_eq!(after.due(Some(later), now), Some(now));
        let all = in_flight([
            dead(),
            open(Next::WithBus, &[], &["dead"]),
            open(Next::Now, &[], &["dead"]),
        ]);
        assert_eq!(all.due(Some(later), now), Some(later));
    }

    #[test]
    fn each_channel_of_an_entry_is_held_up_for_itself_alone() {
        let mut held = HeldUp::default();
        held.hold(&[channel("dead")]);
        let step = |open: &Open, name, is_due| open.step(&channel(name), &held, is_due);
        let new = open(Next::Now, &[], &[]);
        assert_eq!(step(&new, "dead", true), Step::Wait(Missing::Behind));
        assert_eq!(step(&new, "well", true), Step::Publish);
        let partly = Open {
            is_partly_published: true,
            ..open(Next::WithBus, &["failed", "dead"], &["behind"])
        };
        assert_eq!(
            step(&partly, "well", true),
            Step::Has,
            "it is not published there again"
        );
        assert_eq!(
            step(&partly, "behind", false),
            Step::Publish,
            "nothing holds it up any more"
        );
        assert_eq!(step(&partly, "failed", false), Step::Wait(Missing::Failed));
        assert_eq!(step(&partly, "failed", true), Step::Publish);
        assert_eq!(step(&partly, "dead", true), Step::Wait(Missing::Failed));
        // Of an entry that no channel has, the routes of now decide.
        let refused = open(Next::Now, &["failed"], &[]);
        assert_eq!(step(&refused, "well", true), Step::Publish);
    }

    #[test]
    fn an_entry_is_missing_in_the_channels_where_it_failed_or_waits_and_ends_when_there_are_none() {
        let attempt = |outcome, failed: &[&str], is_partly_published| Attempt {
            outcome,
            failed: failed.iter().map(|name| channel(name)).collect(),
            behind: Vec::new(),
            is_partly_published,
        };
        let mut entry = open(Next::Now, &[], &["dead"]);
        let outcome = entry.published(attempt(Outcome::Done, &[], true));
        assert_eq!(outcome, Outcome::Behind, "it still waits");
        assert!(entry.is_partly_published);
        entry.missing.clear();
        let away = || Outcome::Wait("away".to_owned());
        assert_eq!(entry.published(attempt(away(), &["dead"], false)), away());
        assert_eq!(entry.missing, HashMap::from([(channel("dead"), Missing::Failed)]));
        entry.missing.clear();
        assert_eq!(entry.published(attempt(Outcome::Done, &[], true)), Outcome::Done);
    }

    #[test]
    fn a_full_in_flight_batch_takes_nothing_more() {
        let mut in_flight = in_flight([]);
        assert_eq!(in_flight.room(100), 100);
        for number in 0..MAX_OPEN as u64 - 1 {
            let id = EntryId::parse(&format!("1-{number}")).unwrap();
            in_flight.open.insert(id, open(Next::Now, &[], &[]));
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
