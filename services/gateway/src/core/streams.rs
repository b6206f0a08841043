//! Streams as this core's members get them: without holes, without repeats, or with word that something is missing.
//!
//! Of each channel that keeps a stream the core knows what its members got. What comes next is handed out; what jumps
//! ahead waits until the publications in between have been read, once for all members, who notice nothing. Only when the
//! stream has them no more are those told whose position is watched. Where the stream is, is read when the core begins to
//! subscribe; so whoever subscribes later, or comes back having missed nothing, costs no read.

use std::{collections::HashMap, mem, sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_broker::Error;
use tidings_core::{Channel, Retention};
use tidings_session::{Place, Read};
use tracing::Span;

use super::{
    Core,
    retry::Retry,
    stream::{Found, Next, Stream, Waiting},
};
use crate::{
    delivery::Delivery,
    evidence::Evidence,
    inbox::{Address, Letter},
    reads::Outcome,
    shrink::Shrink,
};

/// All streams of a core that have subscribers.
pub(super) struct Streams {
    by_channel: HashMap<Channel, Box<Stream>>,
    lives: u64,
    evidence: Arc<Evidence>,
    pub(super) retry: Retry,
    /// The positions of some are being asked for.
    pub(super) comparing: bool,
    /// Something may have been lost since.
    pub(super) compare_again: bool,
    /// Answers of a while ago will not do.
    pub(super) doubtful: bool,
}

impl Streams {
    pub(super) fn new(evidence: Arc<Evidence>) -> Self {
        Self {
            by_channel: HashMap::new(),
            lives: 0,
            evidence,
            retry: Retry::default(),
            comparing: false,
            compare_again: false,
            doubtful: false,
        }
    }

    pub(super) fn get(&mut self, channel: &Channel) -> Option<&mut Stream> {
        self.by_channel.get_mut(channel).map(|stream| &mut **stream)
    }

    /// The stream of a channel, in this life of it.
    pub(super) fn of(&mut self, channel: &Channel, life: u64) -> Option<&mut Stream> {
        self.get(channel).filter(|stream| stream.life == life)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Channel, &mut Stream)> {
        self.by_channel
            .iter_mut()
            .map(|(channel, stream)| (channel, &mut **stream))
    }

    fn begin(&mut self, channel: &Channel, retention: Retention, deltas: bool, now: Instant) {
        if self.by_channel.contains_key(channel) {
            return;
        }
        self.lives += 1;
        self.evidence.open(channel);
        let stream = Stream::new(self.lives, retention, deltas, now);
        self.by_channel.insert(channel.clone(), Box::new(stream));
    }

    /// The last subscriber is gone.
    pub(super) fn remove(&mut self, channel: &Channel) {
        let Some(stream) = self.by_channel.remove(channel) else {
            return;
        };
        if stream.is_unreadable() {
            self.retry.readable();
        }
        self.evidence.close(channel, stream.is_in_doubt());
        self.by_channel.shrink();
    }

    /// Forgets a client that waits. The id of its command, if it did.
    pub(super) fn cancel(&mut self, channel: &Channel, from: Address) -> Option<u32> {
        let stream = self.get(channel)?;
        let mut waiting = stream.waiting.iter();
        if let Some(at) = waiting.position(|waiting| waiting.from == from) {
            return Some(stream.waiting.swap_remove(at).id);
        }
        let at = stream.early.iter().position(|early| early.waiting.from == from)?;
        Some(stream.early.swap_remove(at).waiting.id)
    }

    /// What the next publication of a channel may be a delta from.
    pub(super) fn base(&self, channel: &Channel) -> Option<Bytes> {
        self.by_channel.get(channel)?.base.clone()
    }

    /// A publication was handed out.
    pub(super) fn handed_out(&mut self, delivery: &Delivery, now: Instant) {
        if let Some(stream) = self.get(&delivery.channel) {
            stream.handed_out(delivery, now);
        }
    }
}

impl Core {
    /// A client wants to be told where a stream is, whose channel this core is subscribed to.
    pub(super) fn locate(&mut self, channel: &Channel, retention: Retention, waiting: Waiting, now: Instant) {
        let deltas = self.node.differs(channel);
        self.streams.begin(channel, retention, deltas, now);
        let Some(stream) = self.streams.get(channel) else {
            return;
        };
        match (&stream.reading, stream.delivered.clone()) {
            (None, Some(delivered)) => self.admit(channel, retention, waiting, delivered, now),
            (None, None) => self.wait_for_read(channel, waiting),
            (Some(_), _) if stream.failed == 0 => stream.waiting.push(waiting),
            (Some(_), _) => self.turn_away(channel, waiting, now),
        }
    }

    /// A client waits until the stream was read, which is begun.
    pub(super) fn wait_for_read(&mut self, channel: &Channel, waiting: Waiting) {
        if let Some(stream) = self.streams.get(channel) {
            stream.waiting.push(waiting);
            let life = stream.life;
            self.begin_reading(channel, life);
        }
    }

    /// The stream cannot be read for now. Who need not know where it is enters all the same; the others come back.
    fn turn_away(&mut self, channel: &Channel, waiting: Waiting, now: Instant) {
        let Waiting { from, id, read } = waiting;
        match read {
            Read::Nothing => self.place(from, id, channel, Place::default(), now),
            _ => self.answer_subscribe(from, id, channel, Err(tidings_protocol::Error::INTERNAL), now),
        }
    }

    pub(super) fn begin_reading(&mut self, channel: &Channel, life: u64) {
        if self.streams.of(channel, life).is_some_and(Stream::want_read) {
            self.read_stream(channel, life);
        }
    }

    /// Takes a publication from the bus.
    pub(super) fn deliver(&mut self, delivery: &Arc<Delivery>, now: Instant) {
        let (Some(position), Some(stream)) = (
            &delivery.publication.position,
            self.streams.get(&delivery.channel),
        ) else {
            return self.hand_out(delivery, now);
        };
        let (next, life, early) = (
            stream.receive(delivery, position),
            stream.life,
            !stream.early.is_empty(),
        );
        match next {
            Next::HandOut => {
                self.hand_out(delivery, now);
                if early {
                    self.serve_early(&delivery.channel, life, now);
                }
            }
            Next::Nothing => {}
            Next::Read => self.read_stream(&delivery.channel, life),
        }
    }

    /// Has a stream read from where its members are. Until the answer comes, live publications wait. No more is read at
    /// once than outboxes should take at once.
    pub(super) fn read_stream(&mut self, channel: &Channel, life: u64) {
        let (limit, bytes) = (self.node.rules.history, self.node.outbox / 4);
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        let (query, retention) = (stream.question(limit, bytes), stream.retention);
        let (channel, reads) = (channel.clone(), self.node.reads.clone());
        self.node.post(&self.inbox, async move {
            let outcome = reads.read(&channel, retention, query).await;
            Letter::Read(channel, life, outcome)
        });
    }

    /// A stream was read.
    pub(super) fn stream_read(&mut self, channel: &Channel, life: u64, outcome: Outcome, now: Instant) {
        self.streams.retry.answered(life);
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        stream.checked = now;
        let reading = match outcome {
            Ok(reading) => reading,
            Err(error) => return self.read_failed(channel, life, &error, now),
        };
        let history = &reading.history;
        if !self
            .node
            .evidence
            .answered(channel, reading.carried.as_ref(), &history.top)
        {
            return self.read_stream(channel, life);
        }
        let was_unreadable = stream.is_unreadable();
        let read = history.publications.iter().map(|publication| {
            let metrics = self.node.metrics.clone();
            Arc::new(Delivery::new(
                channel.clone(),
                publication.clone(),
                metrics,
                Span::none(),
            ))
        });
        let found = stream.answered(history, read);
        if found == Found::Outdated {
            if let Some(lacking) = stream.lacking(&history.top) {
                self.node.evidence.lacks(channel, lacking);
            }
            let reason = "the answer is older than what was received of the stream".to_owned();
            return self.read_failed(channel, life, &Error::Away { reason }, now);
        }
        if was_unreadable {
            self.streams.retry.readable();
        }
        match found {
            Found::Connected if !history.publications.is_empty() => self.node.metrics.repaired(),
            Found::Lost => self.insufficient(channel, now),
            Found::Located | Found::Connected | Found::Outdated => {}
        }
        self.hand_out_backlog(channel, life, now);
    }

    /// Hands out what was read and what waited for that; goes on reading, or serves the clients that waited.
    pub(super) fn hand_out_backlog(&mut self, channel: &Channel, life: u64, now: Instant) {
        while let Some(delivery) = self.streams.of(channel, life).and_then(Stream::next) {
            self.hand_out(&delivery, now);
        }
        if self.streams.of(channel, life).is_some_and(Stream::reads_again) {
            self.read_stream(channel, life);
        } else {
            self.serve_waiting(channel, life, now);
        }
        self.serve_early(channel, life, now);
    }

    /// Answers the clients that waited for a read.
    fn serve_waiting(&mut self, channel: &Channel, life: u64, now: Instant) {
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        let (retention, delivered) = (stream.retention, stream.delivered.clone());
        for waiting in mem::take(&mut stream.waiting) {
            match delivered.clone() {
                Some(delivered) => self.admit(channel, retention, waiting, delivered, now),
                None => self.place(waiting.from, waiting.id, channel, Place::default(), now),
            }
        }
    }

    /// A stream could not be read. Its members would rather wait than be told that they miss something: it is read again,
    /// for as long as it takes. Who subscribes meanwhile is turned away.
    fn read_failed(&mut self, channel: &Channel, life: u64, error: &Error, now: Instant) {
        let keeps_up = self.streams.retry.keeps_up(now);
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        stream.failed += 1;
        stream.attempts += 1;
        let attempts = stream.attempts;
        // An outage concerns many streams at once: the log has their number where readiness has it.
        tracing::debug!(channel.name = %channel, %error, "read of a stream failed");
        // One timeout need not concern who has just come. More than one does.
        let retried = stream.delivered.is_some()
            || (stream.failed == 1 && keeps_up && matches!(error, Error::Away { .. }));
        let first = stream.delivered.is_some() && stream.failed == 1;
        let all = stream.delivered.is_some() || !retried;
        let waiting = mem::take(&mut stream.waiting);
        let early = mem::take(&mut stream.early);
        if retried {
            self.streams.retry.read(channel.clone(), life, attempts, now);
        }
        if first {
            self.streams.retry.unreadable(error);
        }
        for waiting in waiting {
            if all || waiting.read == Read::Nothing {
                self.turn_away(channel, waiting, now);
            } else if let Some(stream) = self.streams.of(channel, life) {
                stream.waiting.push(waiting);
            }
        }
        for early in early {
            self.turn_away(channel, early.waiting, now);
        }
        if !retried && let Some(stream) = self.streams.of(channel, life) {
            stream.give_up();
            self.hand_out_backlog(channel, life, now);
        }
    }
}
