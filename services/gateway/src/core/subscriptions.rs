//! Who in this core hears what: from the wish to subscribe to the last publication.
//!
//! A client that has been told where it enters a stream, but has not entered, gets what comes meanwhile when it does. That
//! is so while what it missed is read, and while the other channels of its connect are waited for.

use std::{sync::Arc, time::Instant};

use tidings_broker::Query;
use tidings_core::{Channel, Position, Publication, Retention};
use tidings_protocol::Error;
use tidings_session::{Action, Answer, Hears, Place, Read, Seen};

use super::{Core, actions::sizes, stream::Waiting};
use crate::{
    delivery::Delivery,
    inbox::{Address, Letter},
    interest::Wanted,
    reads::Outcome,
};

/// A client in a channel.
pub(super) enum Member {
    /// It knows, or is about to be told, where it enters.
    Entering(Box<Entering>),
    /// It hears.
    In(Hears),
}

/// What comes before a client has entered.
#[derive(Default)]
pub(super) struct Entering {
    held: Vec<Arc<Delivery>>,
    bytes: usize,
    /// More came than is held: it cannot enter without missing something.
    pub(super) spilled: bool,
}

impl Entering {
    pub(super) fn hold(&mut self, delivery: &Arc<Delivery>, limit: usize) {
        self.bytes += delivery.size();
        self.spilled |= self.bytes > limit;
        if self.spilled {
            self.held = Vec::new();
        } else {
            self.held.push(delivery.clone());
        }
    }
}

impl Core {
    /// A client wants a channel. It is answered when the bus has confirmed, and what it has to know was read.
    pub(super) fn subscribe(&mut self, from: Address, id: u32, channel: Channel, read: Read) {
        let first = self.hub.claim(&channel);
        let waiting = Waiting { from, id, read };
        if let Some(others) = self.awaited.get_mut(&channel) {
            others.push(waiting);
        } else if first && self.node.interest.want(self.number, &channel) == Wanted::Asked {
            self.awaited.insert(channel, vec![waiting]);
        } else {
            self.ready.push_back((channel, waiting));
        }
    }

    /// The bus has answered: so are those who waited for it.
    pub(super) fn interest(&mut self, channel: &Channel, result: &Result<(), Error>, now: Instant) {
        let Err(error) = result else {
            for waiting in self.awaited.remove(channel).unwrap_or_default() {
                self.confirmed(channel, waiting, now);
            }
            return;
        };
        // Who asks again while the others are told is told the same: the bus has not been asked since.
        while let Some(waiting) = self.awaited.get_mut(channel).and_then(Vec::pop) {
            self.answer_subscribe(waiting.from, waiting.id, channel, Err(error.clone()), now);
        }
        self.awaited.remove(channel);
    }

    /// This core listens to the channel.
    pub(super) fn confirmed(&mut self, channel: &Channel, waiting: Waiting, now: Instant) {
        match self.node.retention(channel) {
            Some(retention) => self.locate(channel, retention, waiting, now),
            None => self.answer_subscribe(waiting.from, waiting.id, channel, Ok(Place::default()), now),
        }
    }

    /// A client enters a stream whose members are at `heard`; first it is given what it missed, where it asks for that.
    pub(super) fn admit(
        &mut self,
        channel: &Channel,
        retention: Retention,
        waiting: Waiting,
        heard: Position,
        now: Instant,
    ) {
        let Waiting { from, id, read } = waiting;
        let Some(query) = missing(&read, &heard, self.node.rules.history) else {
            let place = Place {
                position: Some(heard),
                publications: Vec::new(),
            };
            return self.place(from, id, channel, place, now);
        };
        if self.connection(from).is_none() {
            return;
        }
        self.hub.join(channel, from.key, Member::Entering(Box::default()));
        let (channel, reads) = (channel.clone(), self.node.reads.clone());
        self.node.post(&self.inbox, async move {
            let outcome = reads.recover(&channel, retention, query).await;
            Letter::Recovered(from, id, channel, outcome)
        });
    }

    /// What a client missed was read. Together with what came meanwhile it is what takes the client to where the members are.
    pub(super) fn recovered(
        &mut self,
        from: Address,
        id: u32,
        channel: &Channel,
        outcome: Outcome,
        now: Instant,
    ) {
        if self.connection(from).is_none() {
            return;
        }
        let heard = self.streams.heard(channel).cloned();
        let held = match self.hub.member(channel, from.key) {
            Some(Member::Entering(entering)) => std::mem::take(&mut entering.held),
            // It has left since.
            _ => return self.answer_subscribe(from, id, channel, Err(Error::INTERNAL), now),
        };
        let place = match (outcome, heard) {
            (Ok(history), Some(heard)) => {
                let publications = up_to(&heard, &history.publications, &history.top, &held);
                self.affordable(from, heard, publications)
            }
            (Ok(_), None) => Ok(Place::default()),
            (Err(error), _) => {
                tracing::debug!(channel.name = %channel, %error, "what a client missed could not be read");
                Err(Error::INTERNAL)
            }
        };
        match place {
            Ok(place) => self.place(from, id, channel, place, now),
            Err(error) => self.answer_subscribe(from, id, channel, Err(error), now),
        }
    }

    /// What a client missed, if it can be given all of it: more than half of its outbox is too much for one recovery, and
    /// counts as not kept. What only does not fit beside what waits for the client can be had when that has left.
    fn affordable(
        &mut self,
        from: Address,
        heard: Position,
        publications: Vec<Publication>,
    ) -> Result<Place, Error> {
        let most = self.node.outbox / 2;
        let size = sizes(&publications);
        let mut place = Place {
            publications,
            position: Some(heard),
        };
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

    /// Tells a client where it enters. What comes from now on is kept for it until it does.
    pub(super) fn place(&mut self, from: Address, id: u32, channel: &Channel, place: Place, now: Instant) {
        if self.connection(from).is_none() {
            return;
        }
        self.hub.join(channel, from.key, Member::Entering(Box::default()));
        self.answer_subscribe(from, id, channel, Ok(place), now);
    }

    pub(super) fn answer_subscribe(
        &mut self,
        from: Address,
        id: u32,
        channel: &Channel,
        result: Result<Place, Error>,
        now: Instant,
    ) {
        let answer = Answer::Subscribed {
            id,
            channel: channel.clone(),
            result,
        };
        self.completed(from, answer, now);
    }

    /// A client has been told that it is subscribed.
    pub(super) fn enter(
        &mut self,
        key: usize,
        channel: &Channel,
        hears: Hears,
        seen: Option<Seen>,
        more: &mut Vec<Action>,
    ) {
        let positioned = hears.positioned;
        let joins = hears.joins;
        let before = self.hub.join(channel, key, Member::In(hears));
        self.follow(channel, joins, before.as_ref());
        self.node.metrics.subscribed();
        if let Some(seen) = seen {
            self.node.members.joined(channel, &seen);
        }
        let Some(Member::Entering(entering)) = before else {
            return;
        };
        if entering.spilled
            && positioned
            && let Some(connection) = self.connections.get_mut(key)
        {
            return connection.session.insufficient(channel, more);
        }
        for delivery in entering.held {
            self.give(key, &delivery, more);
        }
    }

    /// A client wants to be told of joins and leaves, or not, and did so `before`, or not. Where nothing is lost on the way to
    /// here, nothing need be remembered.
    fn follow(&self, channel: &Channel, joins: bool, before: Option<&Member>) {
        let did = matches!(before, Some(Member::In(Hears { joins: true, .. })));
        let followed = self.node.members.followed();
        match (did, joins && self.node.deliver.is_shared()) {
            (false, true) => followed.follow(channel),
            (true, false) => followed.unfollow(channel),
            _ => {}
        }
    }

    /// A client wants the channel no more.
    pub(super) fn leave(
        &mut self,
        from: Address,
        channel: &Channel,
        seen: bool,
        now: Instant,
        more: &mut Vec<Action>,
    ) {
        let released = self.hub.release(channel, from.key);
        if matches!(released.member, Some(Member::In(_))) {
            self.node.metrics.unsubscribed();
        }
        self.follow(channel, false, released.member.as_ref());
        let cancelled = self.cancel(channel, from);
        if released.last {
            self.awaited.remove(channel);
            self.streams.remove(channel);
            self.node.interest.release(self.number, channel);
        }
        if seen {
            self.node.members.left(channel, from.client);
        }
        // Every question gets its answer, also one that was taken back.
        if let (Some(id), Some(connection)) = (cancelled, self.connection(from)) {
            let answer = Answer::Subscribed {
                id,
                channel: channel.clone(),
                result: Err(Error::INTERNAL),
            };
            connection.session.answer(answer, now, more);
        }
    }

    /// Forgets that a client waits to be told where it enters. The id of its command, if it did.
    fn cancel(&mut self, channel: &Channel, from: Address) -> Option<u32> {
        if let Some(awaited) = self.awaited.get_mut(channel)
            && let Some(at) = awaited.iter().position(|waiting| waiting.from == from)
        {
            return Some(awaited.swap_remove(at).id);
        }
        let ready = |(ready, waiting): &(Channel, Waiting)| ready == channel && waiting.from == from;
        if let Some(at) = self.ready.iter().position(ready) {
            return self.ready.remove(at).map(|(_, waiting)| waiting.id);
        }
        self.streams.cancel(channel, from)
    }
}

/// What has to be read for a client that enters where the members are at `heard`; `None`: nothing.
fn missing(read: &Read, heard: &Position, most: u32) -> Option<Query> {
    match read {
        Read::Nothing | Read::Position => None,
        Read::Since(at) => {
            let same = at.epoch.is_empty() || at.epoch == heard.epoch;
            (same && at.offset < heard.offset).then_some(Query {
                since: Some(at.offset),
                limit: most,
                reverse: false,
            })
        }
        Read::Latest => (heard.offset > 0).then_some(Query {
            since: None,
            limit: 1,
            reverse: true,
        }),
    }
}

/// What was read and what came meanwhile, up to where the members are.
fn up_to(heard: &Position, read: &[Publication], top: &Position, held: &[Arc<Delivery>]) -> Vec<Publication> {
    let within = |publication: &&Publication| {
        publication
            .position
            .as_ref()
            .is_some_and(|at| at.epoch == heard.epoch && at.offset <= heard.offset)
    };
    let later = held
        .iter()
        .map(|delivery| &delivery.publication)
        .filter(|publication| {
            publication
                .position
                .as_ref()
                .is_some_and(|at| at.offset > top.offset)
        });
    read.iter().chain(later).filter(within).cloned().collect()
}
