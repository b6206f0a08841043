//! The streams of a single process, and the answers of its idempotent publishes: the three things that Redis keeps of a
//! channel, each with an end of its own.
//!
//! Plain data: the caller holds the lock and tells the time.

use std::{collections::VecDeque, mem, num::NonZeroU32, sync::Arc};

use tidings_core::{Channel, Position, Publication, Retention};
use tokio::time::Instant;

use super::expiring::Expiring;
use crate::stream::{History, Published, Query, REMEMBERED, Target, Version, bounded, new_epoch};

/// The most streams. When there are more, the one that was quiet for longest begins anew, with another epoch.
const STREAMS: usize = 1 << 20;

/// The most answers of idempotent publishes. When there are more, the oldest are forgotten early.
const ANSWERS: usize = 1 << 20;

/// Provisional epochs, of streams without a publication, are named after the half day in which they were given.
const HALF_DAY: u64 = 12 * 60 * 60;

pub(super) struct Store {
    /// What sets this process' provisional epochs apart from those of others.
    name: String,
    /// When the first half day began.
    begun: Option<Instant>,
    tops: Expiring<Channel, Top>,
    streams: Expiring<Channel, VecDeque<Entry>>,
    answers: Expiring<(Channel, Arc<str>), Published>,
}

/// Where a stream is, and how new what it tells.
struct Top {
    position: Position,
    version: Option<Version>,
    /// The provisional epochs that were given before the first publication.
    provisional: String,
}

struct Entry {
    offset: u64,
    at: Instant,
    publication: Publication,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            name: new_epoch(),
            begun: None,
            tops: Expiring::new(STREAMS),
            streams: Expiring::new(STREAMS),
            answers: Expiring::new(ANSWERS),
        }
    }
}

impl Store {
    /// Takes a publication. Whether it is to be sent, too, is in the answer: a duplicate is not.
    pub(super) fn publish(&mut self, target: &Target, publication: &Publication, now: Instant) -> Published {
        self.sweep(now);
        let name = target
            .once
            .as_ref()
            .map(|once| (target.channel.clone(), once.key.clone()));
        if let Some(name) = &name
            && let Some(first) = self.answers.get(name, now)
        {
            return Published {
                duplicate: true,
                ..first.clone()
            };
        }
        if let (Some(_), Some(version)) = (target.retention, &target.version)
            && let Some(top) = self.tops.get(&target.channel, now)
            && top
                .version
                .as_ref()
                .is_some_and(|known| known.epoch == version.epoch && version.number <= known.number)
        {
            return Published {
                position: Some(top.position.clone()),
                duplicate: true,
            };
        }
        let published = Published {
            position: target
                .retention
                .map(|retention| self.append(target, retention, publication, now)),
            duplicate: false,
        };
        if let (Some(once), Some(name)) = (&target.once, &name) {
            let end = now + bounded(once.window);
            self.answers.keep(name, end, now, || published.clone());
        }
        published
    }

    fn append(
        &mut self,
        Target { channel, version, .. }: &Target,
        Retention { size, ttl }: Retention,
        publication: &Publication,
        now: Instant,
    ) -> Position {
        let ttl = bounded(ttl);
        let end = now + ttl;
        let provisional = format!("{},{}", self.provisional(0, now), self.provisional(1, now));
        let Self { tops, streams, .. } = self;
        let top = tops.keep(channel, end + REMEMBERED, now, || {
            streams.remove(channel);
            Top::new(provisional)
        });
        top.position.offset += 1;
        if version.is_some() {
            top.version.clone_from(version);
        }
        let position = top.position.clone();

        let entries = streams.keep(channel, end, now, VecDeque::new);
        entries.push_back(Entry {
            offset: position.offset,
            at: now,
            publication: Publication {
                position: Some(position.clone()),
                ..publication.clone()
            },
        });
        let kept = entries.partition_point(|entry| {
            position.offset - entry.offset >= u64::from(size.get()) || now - entry.at >= ttl
        });
        entries.drain(..kept);
        position
    }

    pub(super) fn read(
        &mut self,
        channel: &Channel,
        Retention { size, ttl }: Retention,
        query: Query,
        now: Instant,
    ) -> History {
        let top = self.position(channel, now);
        let provisional = self.tops.get(channel, now);
        let provisional = provisional.map_or_else(String::new, |top| top.provisional.clone());
        let Some(entries) = self.streams.get(channel, now) else {
            let publications = Vec::new();
            return History {
                publications,
                top,
                provisional,
            };
        };
        // Offsets and times only rise, so that each limit is a place in the row.
        let first = entries.partition_point(|entry| {
            top.offset - entry.offset >= u64::from(size.get()) || now - entry.at >= bounded(ttl)
        });
        let after = |offset| entries.partition_point(|entry| entry.offset <= offset);
        let before = |offset| entries.partition_point(|entry| entry.offset < offset);
        let (from, to) = match query.since {
            None => (first, entries.len()),
            Some(since) if query.reverse => (first, before(since)),
            Some(since) => (first.max(after(since)), entries.len()),
        };
        let part = entries
            .range(from..to.max(from))
            .map(|entry| entry.publication.clone());
        let limit = query.limit as usize;
        let publications = if query.reverse {
            within(query.bytes, part.rev().take(limit))
        } else {
            within(query.bytes, part.take(limit))
        };
        History {
            publications,
            top,
            provisional,
        }
    }

    /// Where a stream is. Nothing is kept for one without a publication.
    pub(super) fn position(&mut self, channel: &Channel, now: Instant) -> Position {
        self.sweep(now);
        if self.tops.get(channel, now).is_none() {
            return Position {
                offset: 0,
                epoch: self.provisional(0, now),
            };
        }
        let top = self
            .tops
            .keep(channel, now + REMEMBERED, now, || Top::new(String::new()));
        top.position.clone()
    }

    /// Forgets a stream, but not that it was there: who was given a position in it is given another epoch.
    pub(super) fn remove(&mut self, channel: &Channel, now: Instant) {
        self.streams.remove(channel);
        if self.tops.get(channel, now).is_some() {
            self.tops.remove(channel);
            self.tops
                .keep(channel, now + REMEMBERED, now, || Top::new(String::new()));
        }
    }

    /// The provisional epoch of so many half days ago.
    fn provisional(&mut self, ago: u64, now: Instant) -> String {
        let begun = *self.begun.get_or_insert(now);
        let half_days = (now - begun).as_secs() / HALF_DAY + 1;
        format!("{}{:x}-{}", Position::PROVISIONAL, half_days - ago, self.name)
    }

    fn sweep(&mut self, now: Instant) {
        self.tops.sweep(now);
        self.streams.sweep(now);
        self.answers.sweep(now);
    }
}

impl Top {
    fn new(provisional: String) -> Self {
        Self {
            position: Position {
                offset: 0,
                epoch: new_epoch(),
            },
            version: None,
            provisional,
        }
    }
}

/// As many publications as fit into so many bytes, one at the least.
fn within(bytes: Option<NonZeroU32>, publications: impl Iterator<Item = Publication>) -> Vec<Publication> {
    let mut room = bytes.map_or(usize::MAX, |bytes| bytes.get() as usize);
    let mut is_first = true;
    let fit = publications.take_while(|publication| {
        let fits = mem::take(&mut is_first) || publication.data.len() <= room;
        room = room.saturating_sub(publication.data.len());
        fits
    });
    fit.collect()
}

#[cfg(test)]
mod tests;
