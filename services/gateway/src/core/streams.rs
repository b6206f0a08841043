//! Streams as this core's members hear them: without holes, without repeats, or with word that something is missing.
//!
//! Of each channel that keeps a stream the core knows what its members have heard. What comes next is handed out; what
//! jumps ahead waits until the publications in between have been read, once for all members, who notice nothing. Only when
//! the stream has them no more are those told whose position is watched. Where the stream is, is read when the core begins
//! to listen; so whoever subscribes later, or comes back having missed nothing, costs no read.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_broker::{Error, History};
use tidings_core::{Channel, Position, Retention};
use tidings_session::{Place, Read};
use tracing::Span;

use super::Core;
use crate::{
    delivery::Delivery,
    inbox::{Address, Letter},
    reads::Outcome,
};

/// Bytes of live publications that may wait for a read, per stream. What is beyond is read as well.
const HELD: usize = 4 * 1024 * 1024;

/// Channels whose positions are asked for in one go.
const POSITIONS: usize = 512;

/// All streams of a core that somebody wants.
#[derive(Default)]
pub(super) struct Streams {
    by_channel: HashMap<Channel, Stream>,
    lives: u64,
}

/// One stream.
pub(super) struct Stream {
    /// Which of the channel's lives here this is: what was asked for in an earlier one is not for this.
    life: u64,
    retention: Retention,
    /// The members have heard everything up to here. `None`: where the stream is, is not known.
    heard: Option<Position>,
    /// Differences are made from the last publication, which is kept for that.
    differs: bool,
    base: Option<Bytes>,
    /// Set while the stream is read.
    reading: Option<Held>,
    /// Something may have been lost after the read began.
    again: bool,
    /// Clients that wait to be told where the stream is.
    waiting: Vec<Waiting>,
    /// When it was last known to be in step.
    checked: Instant,
}

/// Live publications that wait until those before them have been read.
#[derive(Default)]
struct Held {
    deliveries: Vec<Arc<Delivery>>,
    bytes: usize,
}

/// A client that subscribes.
pub(super) struct Waiting {
    pub(super) from: Address,
    pub(super) id: u32,
    pub(super) read: Read,
}

/// What becomes of a live publication.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is the next one, or nobody knows.
    HandOut,
    /// It was heard before, or waits.
    Nothing,
    /// Some before it are missing.
    Gap,
    /// It belongs to another stream than what was heard.
    Lost,
}

impl Stream {
    fn next(&mut self, delivery: &Arc<Delivery>, position: &Position) -> Next {
        if let Some(held) = &mut self.reading {
            held.hold(delivery);
            return Next::Nothing;
        }
        let next = match &self.heard {
            None => Next::HandOut,
            Some(heard) if heard.epoch != position.epoch => Next::Lost,
            Some(heard) if position.offset <= heard.offset => return Next::Nothing,
            Some(heard) if position.offset == heard.offset + 1 => Next::HandOut,
            Some(_) => Next::Gap,
        };
        match next {
            Next::Gap => {
                let mut held = Held::default();
                held.hold(delivery);
                self.reading = Some(held);
            }
            _ => self.heard = Some(position.clone()),
        }
        next
    }
}

impl Held {
    fn hold(&mut self, delivery: &Arc<Delivery>) {
        let size = delivery.size();
        // What does not fit is in the stream, and found missing when these are handed out.
        if self.bytes + size <= HELD {
            self.bytes += size;
            self.deliveries.push(delivery.clone());
        }
    }

    /// The place before everything that is held, in the stream that is at `top` now.
    fn before(&self, top: &Position) -> Position {
        let first = self
            .deliveries
            .first()
            .and_then(|first| first.publication.position.as_ref());
        match first {
            Some(first) if first.epoch == top.epoch && first.offset <= top.offset => Position {
                offset: first.offset - 1,
                epoch: top.epoch.clone(),
            },
            _ => top.clone(),
        }
    }
}

impl Streams {
    pub(super) fn remove(&mut self, channel: &Channel) {
        self.by_channel.remove(channel);
    }

    /// Forgets a client that waits. The id of its command, if it did.
    pub(super) fn cancel(&mut self, channel: &Channel, from: Address) -> Option<u32> {
        let waiting = &mut self.by_channel.get_mut(channel)?.waiting;
        let at = waiting.iter().position(|waiting| waiting.from == from)?;
        Some(waiting.swap_remove(at).id)
    }

    /// Where the members of a channel are.
    pub(super) fn heard(&self, channel: &Channel) -> Option<&Position> {
        self.by_channel.get(channel)?.heard.as_ref()
    }

    /// What the next publication of a channel may be a difference from.
    pub(super) fn base(&self, channel: &Channel) -> Option<Bytes> {
        self.by_channel.get(channel)?.base.clone()
    }

    /// A publication was handed out.
    pub(super) fn handed_out(&mut self, delivery: &Delivery, now: Instant) {
        if let Some(stream) = self.by_channel.get_mut(&delivery.channel) {
            stream.checked = now;
            // What has no place in the stream is no base: clients that enter later have not got it.
            let base = stream.differs && delivery.publication.position.is_some();
            stream.base = base.then(|| delivery.publication.data.clone());
        }
    }

    /// Streams that nobody has spoken of since `before`; they count as checked now. Those that are being read will be read
    /// once more.
    fn quiet(&mut self, before: Instant, now: Instant) -> Vec<(Channel, u64)> {
        let mut quiet = Vec::new();
        for (channel, stream) in &mut self.by_channel {
            if stream.checked > before {
                continue;
            }
            stream.checked = now;
            match &stream.reading {
                Some(_) => stream.again = true,
                None => quiet.push((channel.clone(), stream.life)),
            }
        }
        quiet
    }

    fn of(&mut self, channel: &Channel, life: u64) -> Option<&mut Stream> {
        self.by_channel
            .get_mut(channel)
            .filter(|stream| stream.life == life)
    }
}

impl Core {
    /// A client wants to be told where a stream is, whose channel this core listens to.
    pub(super) fn locate(&mut self, channel: &Channel, retention: Retention, waiting: Waiting, now: Instant) {
        if !self.streams.by_channel.contains_key(channel) {
            self.streams.lives += 1;
            let stream = Stream {
                life: self.streams.lives,
                retention,
                heard: None,
                differs: self.node.differs(channel),
                base: None,
                reading: None,
                again: false,
                waiting: Vec::new(),
                checked: now,
            };
            self.streams.by_channel.insert(channel.clone(), stream);
        }
        let Some(stream) = self.streams.by_channel.get_mut(channel) else {
            return;
        };
        match (&stream.reading, &stream.heard) {
            (None, Some(heard)) => {
                let heard = heard.clone();
                self.admit(channel, retention, waiting, heard, now);
            }
            (Some(_), _) => stream.waiting.push(waiting),
            (None, None) => {
                stream.waiting.push(waiting);
                stream.reading = Some(Held::default());
                let life = stream.life;
                self.read_stream(channel.clone(), life);
            }
        }
    }

    /// Takes a publication from the bus.
    pub(super) fn deliver(&mut self, delivery: &Arc<Delivery>, now: Instant) {
        let next = match (
            &delivery.publication.position,
            self.streams.by_channel.get_mut(&delivery.channel),
        ) {
            (Some(position), Some(stream)) => stream.next(delivery, position),
            _ => Next::HandOut,
        };
        match next {
            Next::HandOut => self.hand_out(delivery, now),
            Next::Nothing => {}
            Next::Gap => {
                if let Some(stream) = self.streams.by_channel.get(&delivery.channel) {
                    let life = stream.life;
                    self.read_stream(delivery.channel.clone(), life);
                }
            }
            Next::Lost => {
                self.insufficient(&delivery.channel, now);
                self.hand_out(delivery, now);
            }
        }
    }

    /// Has a stream read from where its members are. Until the answer comes, live publications wait.
    fn read_stream(&self, channel: Channel, life: u64) {
        let Some(stream) = self.streams.by_channel.get(&channel) else {
            return;
        };
        let since = stream.heard.as_ref().map(|heard| heard.offset);
        let query = tidings_broker::Query {
            since,
            limit: if since.is_some() {
                self.node.rules.history
            } else {
                0
            },
            reverse: false,
        };
        let (retention, reads) = (stream.retention, self.node.reads.clone());
        self.node.post(&self.inbox, async move {
            // Those who subscribe would rather hear soon that it failed; those who are members would rather it succeeded.
            let outcome = match since {
                None => reads.read(&channel, retention, query).await,
                Some(_) => reads.insist(&channel, retention, query).await,
            };
            Letter::Read(channel, life, outcome)
        });
    }

    /// A stream was read.
    pub(super) fn stream_read(&mut self, channel: &Channel, life: u64, outcome: Outcome, now: Instant) {
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        let held = stream.reading.take().unwrap_or_default();
        stream.checked = now;
        match (outcome, &stream.heard) {
            (Ok(history), Some(heard)) if connects(heard, &history) => {
                self.catch_up(channel, life, &history, now);
            }
            (Ok(history), Some(_)) => {
                stream.heard = Some(history.top.clone());
                stream.base = None;
                self.insufficient(channel, now);
            }
            (Ok(history), None) => stream.heard = Some(held.before(&history.top)),
            (Err(error), heard) => {
                tracing::warn!(channel.name = %channel, %error, "a stream could not be read");
                if heard.is_some() {
                    stream.heard = None;
                    self.insufficient(channel, now);
                }
            }
        }
        for delivery in held.deliveries {
            self.deliver(&delivery, now);
        }
        self.read_again(channel, life);
        self.serve_waiting(channel, life, now);
    }

    /// Hands out what was missed. When that was not all, the rest is read too.
    fn catch_up(&mut self, channel: &Channel, life: u64, history: &History, now: Instant) {
        if !history.publications.is_empty() {
            self.node.metrics.repaired();
        }
        for publication in &history.publications {
            let metrics = self.node.metrics.clone();
            let delivery = Delivery::new(channel.clone(), publication.clone(), metrics, Span::none());
            self.deliver(&Arc::new(delivery), now);
        }
        if let Some(stream) = self.streams.of(channel, life) {
            stream.again |= stream
                .heard
                .as_ref()
                .is_some_and(|heard| heard.offset < history.top.offset);
        }
    }

    /// Reads a stream once more, where that is known to be needed.
    fn read_again(&mut self, channel: &Channel, life: u64) {
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        if std::mem::take(&mut stream.again) && stream.reading.is_none() {
            stream.reading = Some(Held::default());
            self.read_stream(channel.clone(), life);
        }
    }

    /// Answers those who waited for a read, unless handing out what was held has begun another.
    fn serve_waiting(&mut self, channel: &Channel, life: u64, now: Instant) {
        let Some(stream) = self
            .streams
            .of(channel, life)
            .filter(|stream| stream.reading.is_none())
        else {
            return;
        };
        let (retention, heard) = (stream.retention, stream.heard.clone());
        for waiting in std::mem::take(&mut stream.waiting) {
            match heard.clone() {
                Some(heard) => self.admit(channel, retention, waiting, heard, now),
                None => self.place(waiting.from, waiting.id, channel, Place::default(), now),
            }
        }
    }

    /// The bus, or this core's inbox, may have lost something: every stream is looked at.
    pub(super) fn check_streams(&mut self, before: Instant, now: Instant) {
        let quiet = self.streams.quiet(before, now);
        for part in quiet.chunks(POSITIONS) {
            let (channels, lives): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
            let streams = self.node.streams.clone();
            self.node.post(&self.inbox, async move {
                let positions = streams.positions(&channels).await;
                Letter::Positions(channels.into_iter().zip(lives).zip(positions).collect())
            });
        }
    }

    /// Where streams are: those whose members are elsewhere are read.
    pub(super) fn positions(&mut self, positions: Vec<((Channel, u64), Result<Position, Error>)>) {
        for ((channel, life), position) in positions {
            let Some(stream) = self.streams.of(&channel, life) else {
                continue;
            };
            let in_step = match (&stream.heard, &position) {
                (Some(heard), Ok(position)) => heard == position,
                // Nobody's position is watched here, or nobody can tell; the next gap or check will.
                (None, _) | (_, Err(_)) => true,
            };
            if !in_step && stream.reading.is_none() {
                stream.reading = Some(Held::default());
                self.read_stream(channel, life);
            }
        }
    }
}

/// Whether what was read takes those who are at `heard` to where the stream is, leaving nothing out.
fn connects(heard: &Position, history: &History) -> bool {
    if heard.epoch != history.top.epoch || heard.offset > history.top.offset {
        return false;
    }
    let first = history
        .publications
        .first()
        .and_then(|first| first.position.as_ref());
    match first {
        Some(first) => first.offset == heard.offset + 1,
        None => heard.offset == history.top.offset,
    }
}
