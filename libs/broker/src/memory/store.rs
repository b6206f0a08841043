//! The streams of a single process, and the answers of its idempotent publishes: the three things that Redis keeps of a
//! channel, each with an end of its own.
//!
//! Plain data: the caller holds the lock and tells the time.

use std::{collections::VecDeque, sync::Arc};

use tidings_core::{Channel, Position, Publication, Retention};
use tokio::time::Instant;

use super::expiring::Expiring;
use crate::stream::{History, Published, Query, REMEMBERED, Target, Version, bounded, new_epoch};

/// The most streams. When there are more, the one that was quiet for longest begins anew, with another epoch.
const STREAMS: usize = 1 << 20;

/// The most answers of idempotent publishes. When there are more, the oldest are forgotten early.
const ANSWERS: usize = 1 << 20;

pub(super) struct Store {
    tops: Expiring<Channel, Top>,
    streams: Expiring<Channel, VecDeque<Entry>>,
    answers: Expiring<(Channel, Arc<str>), Published>,
}

/// Where a stream is, and how new what it tells.
struct Top {
    position: Position,
    version: Option<Version>,
}

struct Entry {
    offset: u64,
    at: Instant,
    publication: Publication,
}

impl Default for Store {
    fn default() -> Self {
        Self {
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
        let top = self.top(channel, end + REMEMBERED, now);
        top.position.offset += 1;
        if version.is_some() {
            top.version.clone_from(version);
        }
        let position = top.position.clone();

        let entries = self.streams.keep(channel, end, now, VecDeque::new);
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
        let Some(entries) = self.streams.get(channel, now) else {
            let publications = Vec::new();
            return History {
                publications,
                top,
                provisional: String::new(),
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
            part.rev().take(limit).collect()
        } else {
            part.take(limit).collect()
        };
        History {
            publications,
            top,
            provisional: String::new(),
        }
    }

    pub(super) fn position(&mut self, channel: &Channel, now: Instant) -> Position {
        self.sweep(now);
        self.top(channel, now + REMEMBERED, now).position.clone()
    }

    pub(super) fn remove(&mut self, channel: &Channel) {
        self.tops.remove(channel);
        self.streams.remove(channel);
    }

    /// The top of a stream, which is remembered until `end`. Where there was none, the stream begins anew.
    fn top(&mut self, channel: &Channel, end: Instant, now: Instant) -> &mut Top {
        let Self { tops, streams, .. } = self;
        tops.keep(channel, end, now, || {
            streams.remove(channel);
            Top {
                position: Position {
                    offset: 0,
                    epoch: new_epoch(),
                },
                version: None,
            }
        })
    }

    fn sweep(&mut self, now: Instant) {
        self.tops.sweep(now);
        self.streams.sweep(now);
        self.answers.sweep(now);
    }
}

#[cfg(test)]
mod tests;
