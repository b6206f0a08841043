//! What this node knows to have been given in each stream: evidence, should Redis forget it.
//!
//! Redis that lost its newest writes cannot know that. The gateways that received them can: every read of a stream
//! carries the newest position that this node received or was told of, whichever core asks and for whom. A stream that
//! does not have it gets another epoch by being asked, which is how all its subscribers are told.
//!
//! Evidence is never replaced by older evidence. Within an epoch only the highest offset counts. A position of another
//! epoch is a *rival*: it is presented once, and the known position is replaced only by an answer to a read that
//! carried it, because then the stream knows of it. A provisional position is none: there is nothing to lose before
//! the first publication.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use tidings_core::{Channel, Position};
use tokio::time::Instant;

use crate::shrink::Shrink;

/// Locks that the table is spread over.
const SHARDS: usize = 64;

/// How long evidence outlives the last member of this node, and for how many channels of each shard: 16,384 in all.
const RETAINED: Duration = Duration::from_secs(600);
const RETAINED_CHANNELS: usize = 256;

/// The evidence of a node, by channel.
pub(crate) struct Evidence {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Channel, Entry>,
    /// Channels without members that have evidence, oldest first. A channel that has members again leaves a stale line.
    retained: VecDeque<(Instant, Channel)>,
}

#[derive(Default)]
struct Entry {
    /// Cores that keep the stream for their members.
    cores: u32,
    known: Option<Position>,
    /// A position of another epoch than `known`, which no read has carried yet.
    rival: Option<Position>,
    /// Since when no core keeps the stream.
    since: Option<Instant>,
    /// Without members: the bus may have lost something since it was compared.
    unconfirmed: bool,
}

impl Entry {
    fn newest(&self) -> Option<&Position> {
        self.rival.as_ref().or(self.known.as_ref())
    }
}

impl Evidence {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            hasher: RandomState::new(),
        }
    }

    /// A core begins to keep the stream of a channel. Undone by [`close`](Self::close).
    pub(crate) fn open(&self, channel: &Channel) {
        let mut shard = self.shard(channel).lock();
        let entry = shard.entries.entry(channel.clone()).or_default();
        entry.cores += 1;
        entry.since = None;
    }

    /// A core keeps the stream no more. What is known is retained for a while, a stream without publications is forgotten.
    pub(crate) fn close(&self, channel: &Channel) {
        let now = Instant::now();
        let mut shard = self.shard(channel).lock();
        if let Some(entry) = shard.entries.get_mut(channel) {
            entry.cores = entry.cores.saturating_sub(1);
            if entry.cores == 0 && entry.newest().is_some() {
                entry.since = Some(now);
                shard.retained.push_back((now, channel.clone()));
            } else if entry.cores == 0 {
                shard.entries.remove(channel);
            }
        }
        shard.sweep(now);
    }

    /// A publication at this position was received.
    pub(crate) fn received(&self, channel: &Channel, position: &Position) {
        if position.is_provisional() {
            return;
        }
        let mut shard = self.shard(channel).lock();
        let Some(entry) = shard.entries.get_mut(channel) else {
            return;
        };
        match &mut entry.known {
            Some(known) if known.epoch != position.epoch => entry.rival = Some(position.clone()),
            Some(known) => known.offset = known.offset.max(position.offset),
            None => entry.known = Some(position.clone()),
        }
    }

    /// What a read of the channel has to carry.
    pub(crate) fn of(&self, channel: &Channel) -> Option<Position> {
        let shard = self.shard(channel).lock();
        shard.entries.get(channel)?.newest().cloned()
    }

    /// A stream answered that it is at `top` to a question that carried `carried`. False when the answer proves nothing,
    /// because it names another epoch than what is known and was not asked about that: then ask again.
    pub(crate) fn answered(&self, channel: &Channel, carried: Option<&Position>, top: &Position) -> bool {
        let mut shard = self.shard(channel).lock();
        let Some(entry) = shard.entries.get_mut(channel) else {
            return true;
        };
        if entry.rival.as_ref() == carried {
            entry.rival = None;
        }
        let Some(known) = &mut entry.known else {
            if !top.is_provisional() && top.offset > 0 {
                entry.known = Some(top.clone());
            }
            return true;
        };
        if known.epoch == top.epoch {
            known.offset = known.offset.max(top.offset);
        } else if carried.is_some_and(|carried| carried.epoch == known.epoch) {
            entry.known = (top.offset > 0).then(|| top.clone());
        } else {
            return false;
        }
        // A rival of the epoch that is known by now is newer or older than it, and no rival any more.
        if let (Some(known), Some(rival)) = (&mut entry.known, &entry.rival)
            && rival.epoch == known.epoch
        {
            known.offset = known.offset.max(rival.offset);
            entry.rival = None;
        }
        true
    }

    /// The bus may have lost something: what is retained of channels without members has to be compared.
    pub(crate) fn doubt(&self) {
        for shard in &self.shards {
            for entry in shard.lock().entries.values_mut() {
                entry.unconfirmed = entry.cores == 0;
            }
        }
    }

    /// Channels without members whose evidence has to be compared.
    pub(crate) fn doubted(&self) -> Vec<Channel> {
        let mut doubted = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let unconfirmed = |(_, entry): &(&Channel, &Entry)| entry.unconfirmed && entry.cores == 0;
            doubted.extend(shard.entries.iter().filter(unconfirmed).map(|(channel, _)| channel.clone()));
        }
        doubted
    }

    /// The evidence of a channel without members was compared.
    pub(crate) fn confirmed(&self, channel: &Channel) {
        if let Some(entry) = self.shard(channel).lock().entries.get_mut(channel) {
            entry.unconfirmed = false;
        }
    }

    fn shard(&self, channel: &Channel) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(channel);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }
}

impl Shard {
    /// Forgets what was retained for long enough, and what is too much.
    fn sweep(&mut self, now: Instant) {
        while let Some((since, channel)) = self.retained.front() {
            let stale = self.entries.get(channel).is_none_or(|entry| entry.since != Some(*since));
            let over = *since + RETAINED <= now || self.retained.len() > RETAINED_CHANNELS;
            if !stale && !over {
                break;
            }
            if !stale {
                self.entries.remove(channel);
            }
            self.retained.pop_front();
        }
        self.entries.shrink();
        self.retained.shrink();
    }
}

#[cfg(test)]
mod tests;
