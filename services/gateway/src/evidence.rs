//! What this node knows to have been given in each stream: evidence, should Redis forget it.
//!
//! Redis that lost its newest writes cannot know that. The gateways that received them can: every read of a stream
//! carries the newest position that this node received or was told of, whichever core asks and for whom. A stream that
//! does not have it gets another epoch by being asked, which is how all its subscribers are told.
//!
//! Evidence is never replaced by older evidence, nor by newer that says nothing of it. It moves on with each publication
//! that follows it, and with each answer to a read that carried it, because then the stream knows of it. What was received
//! beyond a gap joins it when the gap was read. A position of another epoch is a *rival*: it is asked about first, and what
//! was known then. A provisional position is no evidence: there is nothing to lose before the first publication.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    mem,
    time::Duration,
};

use parking_lot::Mutex;
use tidings_broker::Watermark;
use tidings_core::{Channel, Position, Publication};
use tokio::time::Instant;

use crate::shrink::Shrink;

/// Locks that the table is spread over.
const SHARDS: usize = 64;

/// Epochs beside the known one that a channel's evidence may have before any of them was asked about.
const RIVALS: usize = 4;

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
    /// Channels without members that have evidence, each once, the one that lost its members first in front.
    retained: VecDeque<(Instant, Channel)>,
}

#[derive(Default)]
struct Entry {
    /// Cores that keep the stream for their members.
    cores: u32,
    known: Option<Watermark>,
    /// What was received after a gap, in the epoch of `known`.
    beyond: Option<Beyond>,
    /// Positions of other epochs than `known`, one of each, the last received last.
    rivals: Vec<Rival>,
    /// Since when no core keeps the stream.
    since: Option<Instant>,
    /// Without members: the bus may have lost something since it was compared.
    unconfirmed: bool,
}

/// Publications that follow each other, from the one after the first offset to the second.
struct Beyond {
    after: u64,
    to: u64,
}

struct Rival {
    mark: Watermark,
    /// The stream has it, as far as it was asked.
    is_current: bool,
}

impl Entry {
    /// What to ask about next: rivals that the stream was not asked about, then what is known.
    fn newest(&self) -> Option<&Watermark> {
        let mut rivals = self.rivals.iter().rev();
        let open = rivals.find(|rival| !rival.is_current);
        open.map(|rival| &rival.mark).or(self.known.as_ref())
    }

    fn received(&mut self, position: &Position, follows: u64) {
        match &mut self.known {
            None => self.known = Some(position.clone().into()),
            Some(known) if known.position.epoch != position.epoch => self.dispute(position),
            Some(known) if position.offset <= known.position.offset => {}
            Some(known) if follows == known.position.offset => advance(known, position.offset),
            Some(_) => match &mut self.beyond {
                Some(beyond) if follows == beyond.to => beyond.to = position.offset,
                _ => {
                    self.beyond = Some(Beyond {
                        after: follows,
                        to: position.offset,
                    });
                }
            },
        }
    }

    /// The stream has to be asked about a position that what is known says nothing of.
    fn dispute(&mut self, position: &Position) {
        let mut rivals = self.rivals.iter_mut();
        if let Some(rival) = rivals.find(|rival| rival.mark.position.epoch == position.epoch) {
            advance(&mut rival.mark, position.offset);
            return;
        }
        if self.rivals.len() == RIVALS {
            self.rivals.remove(0);
        }
        self.rivals.push(Rival {
            mark: position.clone().into(),
            is_current: false,
        });
    }

    /// The stream has what was known, and is at `top`.
    fn move_on(&mut self, top: &Position) {
        let before = self.known.take();
        if before
            .as_ref()
            .is_none_or(|known| known.position.epoch != top.epoch)
        {
            self.beyond = None;
        }
        if top.offset == 0 {
            return;
        }
        let same = before.filter(|known| known.position == *top);
        let known = self.known.insert(same.unwrap_or_else(|| top.clone().into()));
        self.rivals.retain(|Rival { mark, .. }| {
            let same = mark.position.epoch == top.epoch;
            if same {
                advance(known, mark.position.offset);
            }
            !same
        });
        if let Some(beyond) = self
            .beyond
            .take_if(|beyond| beyond.after <= known.position.offset)
        {
            advance(known, beyond.to);
        }
    }
}

/// Takes in that the stream was seen at an offset, if that is further on.
fn advance(mark: &mut Watermark, offset: u64) {
    if offset > mark.position.offset {
        (mark.position.offset, mark.at) = (offset, Instant::now());
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
        let mut guard = self.shard(channel).lock();
        let shard = &mut *guard;
        let entry = shard.entries.entry(channel.clone()).or_default();
        entry.cores += 1;
        // One place per channel, however often its last member goes: otherwise one client could push out the others.
        if entry.since.take().is_some()
            && let Some(at) = shard
                .retained
                .iter()
                .position(|(_, retained)| retained == channel)
        {
            shard.retained.remove(at);
        }
    }

    /// A core keeps the stream no more. What is known is retained for a while, a stream without publications is forgotten.
    /// `in_doubt`: the bus may have lost something since the core compared it.
    pub(crate) fn close(&self, channel: &Channel, in_doubt: bool) {
        let now = Instant::now();
        let mut shard = self.shard(channel).lock();
        if let Some(entry) = shard.entries.get_mut(channel) {
            entry.cores = entry.cores.saturating_sub(1);
            if entry.cores == 0 && entry.newest().is_some() {
                entry.since = Some(now);
                entry.unconfirmed = in_doubt;
                shard.retained.push_back((now, channel.clone()));
            } else if entry.cores == 0 {
                shard.entries.remove(channel);
            }
        }
        shard.sweep(now);
    }

    /// A publication was received, if it is one of a stream that a core keeps.
    pub(crate) fn received(&self, channel: &Channel, publication: &Publication) {
        let (Some(position), Some(follows)) = (&publication.position, publication.follows()) else {
            return;
        };
        if let Some(entry) = self.shard(channel).lock().entries.get_mut(channel) {
            entry.received(position, follows);
        }
    }

    /// A stream lacks a position that was received of it: the next read asks about that.
    pub(crate) fn lacks(&self, channel: &Channel, position: &Position) {
        if let Some(entry) = self.shard(channel).lock().entries.get_mut(channel) {
            entry.dispute(position);
            for rival in &mut entry.rivals {
                rival.is_current &= rival.mark.position.epoch != position.epoch;
            }
        }
    }

    /// What a read of the channel has to carry.
    pub(crate) fn of(&self, channel: &Channel) -> Option<Watermark> {
        let shard = self.shard(channel).lock();
        shard.entries.get(channel)?.newest().cloned()
    }

    /// A stream answered that it is at `top` to a question that carried `carried`. False when the answer proves nothing,
    /// because it names another epoch than what is known and was not asked about that: then ask again.
    pub(crate) fn answered(&self, channel: &Channel, carried: Option<&Watermark>, top: &Position) -> bool {
        let carried = carried.map(|it| &it.position);
        let mut shard = self.shard(channel).lock();
        let Some(entry) = shard.entries.get_mut(channel) else {
            return true;
        };
        let about = |position: &Position| {
            carried.is_some_and(|it| it.epoch == position.epoch && it.offset <= position.offset)
        };
        entry.rivals.retain_mut(|Rival { mark, is_current }| {
            let position = &mark.position;
            let has = position.epoch == top.epoch;
            *is_current = has && (*is_current || about(position));
            // A stream of another epoch that was asked about it has changed its own, or knows of it.
            has || !about(position)
        });
        match entry.known.as_ref().map(|it| &it.position) {
            None => entry.move_on(top),
            // What was received since is newer than the answer.
            Some(known) if known.epoch == top.epoch && (carried.is_none() || about(known)) => {
                if carried.is_some_and(|it| it == known) {
                    entry.move_on(top);
                }
            }
            Some(known) if about(known) => entry.move_on(top),
            Some(_) => return false,
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

    /// Channels without members whose evidence has to be compared, which the caller does: each ends in
    /// [`compared`](Self::compared) or [`unanswered`](Self::unanswered). A doubt in between counts anew.
    pub(crate) fn take_doubted(&self) -> Vec<Channel> {
        let mut doubted = Vec::new();
        for shard in &self.shards {
            for (channel, entry) in &mut shard.lock().entries {
                if entry.cores == 0 && mem::take(&mut entry.unconfirmed) {
                    doubted.push(channel.clone());
                }
            }
        }
        doubted
    }

    /// Takes the answer to a comparison, as [`answered`](Self::answered) does. An answer that proves nothing leaves a
    /// channel without members in doubt: what is known of it has not been asked about yet.
    pub(crate) fn compared(&self, channel: &Channel, carried: Option<&Watermark>, top: &Position) -> bool {
        let proves = self.answered(channel, carried, top);
        if !proves {
            self.unanswered(channel);
        }
        proves
    }

    /// The comparison of a channel without members was not answered: it stays in doubt.
    pub(crate) fn unanswered(&self, channel: &Channel) {
        if let Some(entry) = self.shard(channel).lock().entries.get_mut(channel) {
            entry.unconfirmed = entry.cores == 0;
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
            if *since + RETAINED > now && self.retained.len() <= RETAINED_CHANNELS {
                break;
            }
            self.entries.remove(channel);
            self.retained.pop_front();
        }
        self.entries.shrink();
        self.retained.shrink();
    }
}

#[cfg(test)]
mod tests;
