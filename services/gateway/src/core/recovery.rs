//! A client comes back to a stream: what it missed is read, and joined with what its members get meanwhile.
//!
//! The members are at one position when the read is asked for and at a later one when it is answered; what they got in
//! between was buffered for the client. So what was read and what was buffered are two parts of one stream that overlap
//! or touch, and the client enters where the members are. A read that is ahead of the members is cut off there, because
//! the rest comes to the client with them; where the newest publication is all that counts, the client waits for them.

use std::{sync::Arc, time::Instant};

use tidings_broker::{History, Query};
use tidings_core::{Channel, Position, Publication, Retention};
use tidings_protocol::Error;
use tidings_session::{Place, Read};

use super::{
    Core,
    actions::sizes,
    stream::{Early, Waiting},
    subscriptions::{Entering, Member},
};
use crate::{
    delivery::Delivery,
    inbox::{Address, Letter},
    position::{is_of_or_both_provisional, is_same},
    reads::{Outcome, Reading, budget},
};

impl Core {
    /// A client enters a stream whose members are at `delivered`; first it is given what it missed, where it asks for that.
    pub(super) fn admit(
        &mut self,
        channel: &Channel,
        retention: Retention,
        waiting: Waiting,
        delivered: Position,
        now: Instant,
    ) {
        let most = (self.node.rules.history, self.node.outbox / 2);
        let Some(query) = missing(&waiting.read, &delivered, most) else {
            let place = Place {
                position: Some(delivered),
                ..Place::default()
            };
            return self.place(waiting.from, waiting.id, channel, place, now);
        };
        if self.connection(waiting.from).is_none() {
            return;
        }
        self.hub
            .join(channel, waiting.from.key, Member::Entering(Box::default()));
        let (channel, reads) = (channel.clone(), self.node.reads.clone());
        self.node.post(&self.inbox, async move {
            let outcome = reads.recover(&channel, retention, query).await;
            Letter::Recovered(Box::new(waiting), channel, outcome)
        });
    }

    /// What a client missed was read.
    pub(super) fn recovered(&mut self, channel: &Channel, waiting: Waiting, outcome: Outcome, now: Instant) {
        let Waiting { from, id, .. } = waiting;
        if self.connection(from).is_none() {
            return;
        }
        match outcome {
            Ok(reading) => {
                let (carried, top) = (reading.carried.as_ref(), &reading.history.top);
                if self.node.evidence.answered(channel, carried, top) {
                    return self.join_members(channel, waiting, reading, now);
                }
                // The stream was not asked about all that is known: once more.
                let stream = self.streams.get(channel);
                let known = stream.and_then(|it| Some((it.retention, it.delivered.clone()?)));
                match known {
                    Some((retention, delivered)) => self.admit(channel, retention, waiting, delivered, now),
                    None => self.answer_subscribe(from, id, channel, Err(Error::INTERNAL), now),
                }
            }
            Err(error) => {
                tracing::debug!(channel.name = %channel, %error, "read of what a client missed failed");
                self.answer_subscribe(from, id, channel, Err(Error::INTERNAL), now);
            }
        }
    }

    /// Takes a client to where the members are.
    fn join_members(&mut self, channel: &Channel, waiting: Waiting, reading: Arc<Reading>, now: Instant) {
        let Waiting { from, id, .. } = waiting;
        let unknown = |core: &mut Self| core.answer_subscribe(from, id, channel, Err(Error::INTERNAL), now);
        let Some(stream) = self.streams.get(channel) else {
            return unknown(self);
        };
        let (Some(delivered), history) = (stream.delivered.clone(), &reading.history) else {
            return unknown(self);
        };
        let (retention, unreadable, life) = (stream.retention, stream.is_unreadable(), stream.life);
        if !is_of_or_both_provisional(&delivered, history) || waiting.is_ahead_of(&delivered, &history.top) {
            // The members miss something, which they find out by reading. With them the client begins anew.
            if unreadable {
                return unknown(self);
            }
            return self.wait_for_read(channel, waiting);
        }
        if waiting.read == Read::Latest && history.top.offset > delivered.offset {
            if unreadable {
                return unknown(self);
            }
            stream.early.push(Early { waiting, reading });
            return self.begin_reading(channel, life);
        }
        let Some(Member::Entering(entering)) = self.hub.member(channel, from.key) else {
            return unknown(self); // it has left since
        };
        let publications = match &waiting.read {
            Read::Since(since) => join(since.offset, history, entering.buffered(), &delivered),
            Read::Latest => newest(history, entering.newest(), &delivered)
                .into_iter()
                .collect(),
            Read::Nothing | Read::Position => Vec::new(),
        };
        // Of what was read and missed meanwhile, the newest is neither: the members were told that they missed it.
        if waiting.read == Read::Latest && publications.is_empty() && history.top.offset < delivered.offset {
            return self.admit(channel, retention, waiting, delivered, now);
        }
        let place = Place {
            position: Some(delivered),
            publications,
            provisional: history.provisional.clone(),
        };
        match self.affordable(from, place) {
            Ok(place) => self.place(from, id, channel, place, now),
            Err(error) => self.answer_subscribe(from, id, channel, Err(error), now),
        }
    }

    /// Goes on with the clients that had read further than the members were.
    pub(super) fn serve_early(&mut self, channel: &Channel, life: u64, now: Instant) {
        let Some(stream) = self.streams.of(channel, life) else {
            return;
        };
        for Early { waiting, reading } in stream.caught_up() {
            self.join_members(channel, waiting, reading, now);
        }
        if self
            .streams
            .of(channel, life)
            .is_some_and(|stream| !stream.early.is_empty() && stream.reading.is_none())
        {
            self.begin_reading(channel, life);
        }
    }

    /// What a client missed, if it can be given all of it: more than half of its outbox is too much for one recovery, and
    /// counts as not kept. What only does not fit beside what waits for the client can be had when that has left.
    fn affordable(&mut self, from: Address, mut place: Place) -> Result<Place, Error> {
        let most = self.node.outbox / 2;
        let size = sizes(&place.publications);
        let Some(connection) = self.connection(from) else {
            return Ok(place);
        };
        // A client that connects gets what it missed in all its channels at once.
        let entering = connection.session.is_entering();
        let before = if entering {
            connection.recovered as usize
        } else {
            connection.waiting()
        };
        let fits = before + size <= most;
        if size > most || (entering && !fits) {
            place.publications.clear();
        } else if !fits {
            return Err(
                Error::TOO_MANY_REQUESTS.because("what was missed has to wait for what is on its way")
            );
        } else if entering {
            connection.recovered += u32::try_from(size).unwrap_or(u32::MAX);
        }
        Ok(place)
    }
}

/// What comes before a client has entered.
impl Entering {
    fn buffered(&self) -> &[Arc<Delivery>] {
        &self.buffered
    }

    fn newest(&self) -> Option<&Publication> {
        Some(&self.newest.as_ref()?.publication)
    }
}

/// What has to be read for a client that enters where the members are at `delivered`, of at most so many publications and
/// bytes; `None`: nothing.
pub(super) fn missing(read: &Read, delivered: &Position, (limit, bytes): (u32, usize)) -> Option<Query> {
    match read {
        Read::Nothing | Read::Position => None,
        Read::Since(at) => {
            let same = at.epoch.is_empty() || at.epoch == delivered.epoch;
            if is_same(at, delivered) || (at.epoch.is_empty() && at.offset >= delivered.offset) {
                return None;
            }
            // Of a position that the members do not know it is enough to learn where the stream is. A provisional epoch
            // may be one of the stream's.
            let known = (same && at.offset < delivered.offset) || at.epoch.starts_with(Position::PROVISIONAL);
            Some(Query {
                since: Some(at.offset),
                limit: if known { limit } else { 0 },
                reverse: false,
                bytes: budget(bytes),
            })
        }
        Read::Latest => (delivered.offset > 0).then_some(Query {
            since: None,
            limit: 1,
            reverse: true,
            bytes: None,
        }),
    }
}

/// All that comes after the offset `since`, as far as it was read or buffered, up to where the members are.
pub(super) fn join(
    since: u64,
    history: &History,
    buffered: &[Arc<Delivery>],
    delivered: &Position,
) -> Vec<Publication> {
    let within = |publication: &&Publication| {
        let position = publication.position.as_ref();
        position.is_some_and(|at| at.epoch == delivered.epoch && at.offset <= delivered.offset)
    };
    let offset = |publication: &Publication| publication.position.as_ref().map(|at| at.offset);
    let mut joined: Vec<_> = history.publications.iter().filter(within).cloned().collect();
    let reached = joined.last().and_then(offset).unwrap_or(since);
    let buffered = buffered.iter().map(|delivery| &delivery.publication);
    let later = buffered
        .filter(within)
        .filter(|publication| offset(publication) > Some(reached));
    joined.extend(later.cloned());
    joined
}

/// The publication that the members got last, if it was read or came since.
pub(super) fn newest(
    history: &History,
    buffered: Option<&Publication>,
    delivered: &Position,
) -> Option<Publication> {
    let at = |publication: &&Publication| publication.position.as_ref() == Some(delivered);
    let read = history.publications.last();
    buffered.filter(at).or(read.filter(at)).cloned()
}

#[cfg(test)]
mod tests;
