//! Who in this core hears what: from the wish to subscribe to the last publication.
//!
//! A client that has been told where it enters a stream, but has not entered, gets what comes meanwhile when it does. That
//! is so while what it missed is read, and while the other channels of its connect are waited for.

use std::{sync::Arc, time::Instant};

use tidings_core::Channel;
use tidings_protocol::Error;
use tidings_session::{Action, Answer, Hears, Place, Read, Seen};

use super::{Core, stream::Waiting};
use crate::{delivery::Delivery, inbox::Address, interest::Wanted, shrink::Shrink};

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
    pub(super) buffered: Vec<Arc<Delivery>>,
    bytes: usize,
    /// The last that came, if it has a position, buffered or not.
    pub(super) newest: Option<Arc<Delivery>>,
    /// More came than is buffered: it cannot enter without missing something.
    pub(super) overflowed: bool,
}

impl Entering {
    pub(super) fn push(&mut self, delivery: &Arc<Delivery>, limit: usize) {
        self.bytes += delivery.size();
        self.overflowed |= self.bytes > limit;
        if delivery.publication.position.is_some() {
            self.newest = Some(delivery.clone());
        }
        if self.overflowed {
            self.buffered = Vec::new();
        } else {
            self.buffered.push(delivery.clone());
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
            let waiting = self.awaited.remove(channel).unwrap_or_default();
            self.awaited.shrink();
            for waiting in waiting {
                self.confirmed(channel, waiting, now);
            }
            return;
        };
        // Who asks again while the others are told is told the same: the bus has not been asked since.
        while let Some(waiting) = self.awaited.get_mut(channel).and_then(Vec::pop) {
            self.answer_subscribe(waiting.from, waiting.id, channel, Err(error.clone()), now);
        }
        self.awaited.remove(channel);
        self.awaited.shrink();
    }

    /// This core listens to the channel.
    pub(super) fn confirmed(&mut self, channel: &Channel, waiting: Waiting, now: Instant) {
        match self.node.retention(channel) {
            Some(retention) => self.locate(channel, retention, waiting, now),
            None => self.answer_subscribe(waiting.from, waiting.id, channel, Ok(Place::default()), now),
        }
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
        if entering.overflowed
            && positioned
            && let Some(connection) = self.connections.get_mut(key)
        {
            return connection.session.insufficient(channel, more);
        }
        for delivery in entering.buffered {
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
            self.awaited.shrink();
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
