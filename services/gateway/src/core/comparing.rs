//! Comparing streams with what their members got, in batches: after the bus, or this core's inbox, may have lost
//! something, and when nothing was received of a stream for a while.
//!
//! What is in doubt stays so until it was answered. Every question carries the evidence of the node. A stream that is being
//! read is not compared but read once more, which says the same.

use std::time::Instant;

use tidings_broker::Error;
use tidings_core::Position;

use super::{
    Core,
    stream::{Compared, Comparison, Stream},
};
use crate::{inbox::Letter, position::is_same, quiet};

impl Core {
    /// The bus, or this core's inbox, may have lost something: every stream is in doubt.
    pub(super) fn doubt_streams(&mut self, now: Instant) {
        for (_, stream) in self.streams.iter_mut() {
            stream.comparison = Comparison::Due;
            stream.attempts = 0;
        }
        self.streams.doubtful = true;
        self.streams.retry.hasten(now);
        self.compare(now);
    }

    /// Streams of which nothing was received since `before` are compared.
    pub(super) fn check_idle_streams(&mut self, before: Instant, now: Instant) {
        for (_, stream) in self.streams.iter_mut() {
            if stream.checked <= before && stream.reading.is_none() {
                stream.checked = now;
                stream.comparison = Comparison::Due;
            }
        }
        self.compare(now);
    }

    /// Asks where the streams are that are in doubt, all in one task, one task at a time.
    pub(super) fn compare(&mut self, now: Instant) {
        if self.streams.comparing {
            self.streams.compare_again = true;
            return;
        }
        let evidence = self.node.evidence.clone();
        let mut compared = Vec::new();
        for (channel, stream) in self.streams.iter_mut() {
            if stream.comparison != Comparison::Due {
                continue;
            }
            if stream.reading.is_some() {
                stream.comparison = Comparison::Idle;
                stream.want_read();
                continue;
            }
            stream.comparison = Comparison::Asked;
            compared.push(Compared {
                channel: channel.clone(),
                life: stream.life,
                delivered: stream.delivered.clone(),
                known: evidence.of(channel),
            });
        }
        if self.number == 0 {
            compared.extend(evidence.take_doubted().into_iter().map(|channel| Compared {
                known: evidence.of(&channel),
                channel,
                life: 0,
                delivered: None,
            }));
        }
        if compared.is_empty() {
            return;
        }
        self.streams.comparing = true;
        let (node, doubtful) = (self.node.clone(), self.streams.doubtful);
        self.node.post(&self.inbox, async move {
            let found = if doubtful {
                quiet::positions(&node.streams, &compared).await
            } else {
                node.quiet.positions(&node.streams, &compared, now).await
            };
            Letter::Positions(compared.into_iter().zip(found).collect())
        });
    }

    /// Where streams are: those whose members are elsewhere are read.
    pub(super) fn positions(&mut self, positions: Vec<(Compared, Result<Position, Error>)>, now: Instant) {
        let mut unanswered = false;
        for (compared, position) in positions {
            match position {
                Ok(position) => unanswered |= !self.compared(&compared, &position, now),
                Err(error) => {
                    tracing::debug!(channel.name = %compared.channel, %error, "a stream could not be compared; retrying");
                    unanswered = true;
                    if compared.life == 0 {
                        self.node.evidence.unanswered(&compared.channel);
                    } else if let Some(stream) = self.streams.of(&compared.channel, compared.life) {
                        stream.comparison = Comparison::Due;
                    }
                }
            }
        }
        self.streams.comparing = false;
        self.streams.doubtful &= unanswered;
        if std::mem::take(&mut self.streams.compare_again) {
            self.streams.doubtful = true;
            self.compare(now);
        } else if unanswered {
            // The bus brings publications again before commands get through, or part of it is unavailable.
            self.streams.retry.compare(now);
        } else {
            self.streams.retry.compared();
        }
    }

    /// False when a channel without members has to be asked for again.
    fn compared(&mut self, compared: &Compared, position: &Position, now: Instant) -> bool {
        let Compared {
            channel,
            life,
            delivered,
            known,
        } = compared;
        let proves = self.node.evidence.compared(channel, known.as_ref(), position);
        if *life == 0 {
            // Ends: each answer that proves nothing was about one of the few rivals, and the next is about another.
            return proves;
        }
        let Some(stream) = self.streams.of(channel, *life) else {
            return true;
        };
        stream.checked = now;
        if stream.comparison == Comparison::Asked {
            stream.comparison = Comparison::Idle;
        }
        if !proves || !stream.is_in_step(delivered.as_ref(), position) {
            self.begin_reading(channel, *life);
        }
        true
    }
}

impl Stream {
    /// Whether the stream has still to say that the members lack nothing.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.comparison != Comparison::Idle || self.reading.is_some()
    }

    /// Whether the members lack nothing where the stream answered that it is at `position` to a question from when they
    /// were at `asked`.
    pub(super) fn is_in_step(&mut self, asked: Option<&Position>, position: &Position) -> bool {
        // A read that is under way says more; it was asked for again if it began before the doubt.
        let (None, Some(at)) = (&self.reading, &mut self.delivered) else {
            return true;
        };
        if is_same(at, position) {
            // Of provisional positions the newest is valid for longest.
            at.clone_from(position);
            return true;
        }
        // Publications that came since the question have taken the members on.
        let since = asked.is_some_and(|asked| asked.epoch == at.epoch && asked.offset <= position.offset);
        since && at.epoch == position.epoch && position.offset <= at.offset
    }
}
