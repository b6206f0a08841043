//! Streams as this core's members hear them: without holes, without repeats, or with word that something is missing.
//!
//! Of each channel that keeps a stream the core knows what its members have heard. What comes next is handed out; what
//! jumps ahead waits until the publications in between have been read, once for all members, who notice nothing. Only when
//! the stream has them no more are those told whose position is watched. Where the stream is, is read when the core begins
//! to listen; so whoever subscribes later, or comes back having missed nothing, costs no read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidings_broker::{Error, History};
use tidings_core::{Channel, Position, Retention};
use tidings_session::{Place, Read};
use tokio::time::sleep;
use tracing::Span;

use super::{
    Core,
    stream::{Held, Next, Quiet, Stream, Waiting, connects},
};
use crate::{delivery::Delivery, inbox::Letter, quiet, reads::Outcome};

/// How often a stream that members wait for is tried to be read, and how long it is left alone in between: at first, and
/// at most. Half a minute in all, beside the command timeouts.
const TRIES: u32 = 12;
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// After how long streams are compared again that could not be, at most.
const AGAIN: Duration = Duration::from_secs(1);

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
                failed: 0,
                waiting: Vec::new(),
                checked: now,
            };
            self.streams.by_channel.insert(channel.clone(), stream);
        }
        let Some(stream) = self.streams.by_channel.get_mut(channel) else {
            return;
        };
        match (&stream.reading, &stream.heard) {
            // Who knows of more than the members have heard shows that they miss something.
            (None, Some(heard)) if !waiting.is_ahead_of(heard) => {
                let heard = heard.clone();
                self.admit(channel, retention, waiting, heard, now);
            }
            (None, _) => {
                stream.waiting.push(waiting);
                let life = stream.life;
                self.begin_reading(channel, life);
            }
            (Some(_), _) if stream.failed == 0 => stream.waiting.push(waiting),
            (Some(_), _) => self.turn_away(channel, waiting, now),
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

    fn begin_reading(&mut self, channel: &Channel, life: u64) {
        if let Some(stream) = self.streams.of(channel, life) {
            stream.reading = Some(Held::default());
            self.read_stream(channel.clone(), life, Duration::ZERO);
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
                    self.read_stream(delivery.channel.clone(), life, Duration::ZERO);
                }
            }
            Next::Lost => {
                self.insufficient(&delivery.channel, now);
                self.hand_out(delivery, now);
            }
        }
    }

    /// Has a stream read from where its members are, after a pause. Until the answer comes, live publications wait.
    fn read_stream(&self, channel: Channel, life: u64, pause: Duration) {
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
            bytes: None,
        };
        let (retention, reads) = (stream.retention, self.node.reads.clone());
        self.node.post(&self.inbox, async move {
            sleep(pause).await;
            let outcome = reads.read(&channel, retention, query).await;
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
                stream.failed = 0;
                if let Some(rest) = self.catch_up(channel, life, &history, now) {
                    return self.go_on_later(channel, life, held, rest);
                }
            }
            (Ok(history), heard) => {
                let lost = heard.is_some();
                let now_at = if lost {
                    history.top.clone()
                } else {
                    held.before(&history.top)
                };
                (stream.heard, stream.base, stream.failed) = (Some(now_at), None, 0);
                if lost {
                    self.insufficient(channel, now);
                }
            }
            (Err(Error::Away { .. }), Some(_)) if stream.failed < TRIES => {
                return self.try_again(channel, life, held, now);
            }
            (Err(error), heard) => {
                tracing::warn!(channel.name = %channel, %error, "a stream could not be read");
                let lost = heard.is_some();
                (stream.heard, stream.base, stream.failed) = (None, None, 0);
                if lost {
                    self.insufficient(channel, now);
                }
            }
        }
        if let Some(stream) = self.streams.of(channel, life) {
            stream.again |= held.spilled;
        }
        for delivery in held.deliveries {
            self.deliver(&delivery, now);
        }
        self.read_again(channel, life);
        self.serve_waiting(channel, life, now);
    }

    /// The members would rather wait than be told that they miss something. Who subscribes meanwhile is turned away.
    fn try_again(&mut self, channel: &Channel, life: u64, held: Held, now: Instant) {
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        let pause = PAUSE.0.saturating_mul(1 << stream.failed).min(PAUSE.1);
        stream.failed += 1;
        stream.reading = Some(held);
        let waiting = std::mem::take(&mut stream.waiting);
        let jitter = rand::random_range(0.5..1.0);
        self.read_stream(channel.clone(), life, pause.mul_f64(jitter));
        for waiting in waiting {
            self.turn_away(channel, waiting, now);
        }
    }

    /// The rest of what was read is handed out in the next round: whoever reads what it gets has got the first part by then.
    fn go_on_later(&mut self, channel: &Channel, life: u64, held: Held, rest: History) {
        if let Some(stream) = self.streams.of(channel, life) {
            stream.reading = Some(held);
            let rest = Letter::Read(channel.clone(), life, Ok(Arc::new(rest)));
            self.inbox.put(rest);
        }
    }

    /// Hands out what was missed, or as much of it as outboxes should take at once: then the rest is given back. When even
    /// that is not all there is, the stream is read again.
    fn catch_up(&mut self, channel: &Channel, life: u64, history: &History, now: Instant) -> Option<History> {
        if !history.publications.is_empty() {
            self.node.metrics.repaired();
        }
        let mut room = self.node.outbox / 4;
        for (index, publication) in history.publications.iter().enumerate() {
            if index > 0 && publication.data.len() > room {
                return Some(History {
                    publications: history.publications[index..].to_vec(),
                    top: history.top.clone(),
                    provisional: history.provisional.clone(),
                });
            }
            room = room.saturating_sub(publication.data.len());
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
        None
    }

    /// Reads a stream once more, where that is known to be needed.
    fn read_again(&mut self, channel: &Channel, life: u64) {
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        if std::mem::take(&mut stream.again) && stream.reading.is_none() {
            self.begin_reading(channel, life);
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

    /// The bus, or this core's inbox, may have lost something: every stream is looked at, all in one task.
    pub(super) fn check_streams(&mut self, before: Instant, now: Instant) {
        if std::mem::replace(&mut self.streams.checking, true) {
            self.streams.check_again |= before == now;
            return;
        }
        let quiet = self.streams.quiet(before, now);
        let (node, streams) = (self.node.clone(), self.node.streams.clone());
        self.node.post(&self.inbox, async move {
            let found = if before == now {
                quiet::positions(&streams, &quiet).await
            } else {
                node.quiet.positions(&streams, &quiet, now).await
            };
            Letter::Positions(quiet.into_iter().zip(found).collect())
        });
    }

    /// Where streams are: those whose members are elsewhere are read.
    pub(super) fn positions(&mut self, positions: Vec<(Quiet, Result<Position, Error>)>, now: Instant) {
        let unanswered = positions
            .iter()
            .any(|(_, position)| matches!(position, Err(Error::Away { .. })));
        for (Quiet { channel, life, .. }, position) in positions {
            let Some(stream) = self.streams.of(&channel, life) else {
                continue;
            };
            let in_step = match (&stream.heard, &position) {
                (Some(heard), Ok(position)) => heard == position,
                // Nobody's position is watched here, or nobody can tell; the next gap or check will.
                (None, _) | (_, Err(_)) => true,
            };
            if !in_step && stream.reading.is_none() {
                self.begin_reading(&channel, life);
            }
        }
        self.streams.checking = false;
        if std::mem::take(&mut self.streams.check_again) {
            self.check_streams(now, now);
        } else if unanswered {
            // The bus brings publications again before commands get through, or part of it is away: nobody else would look.
            let pause = AGAIN.mul_f64(rand::random_range(0.5..1.0));
            self.node.post(&self.inbox, async move {
                sleep(pause).await;
                Letter::Gap
            });
        }
    }
}
