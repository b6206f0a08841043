//! The state machine itself: what may happen when. The modules are what it does.
//!
//! In reading order: `identity` is connect and refresh, `entering` the channels that come with a connection, `channels`
//! how a client comes to hear one and stops; `subscription`, `terms` and `recovery` are what it gets there; `requests` is
//! everything else that it asks for, `clock` and `expiry` are what time brings, `outside` what others do to it.

mod channels;
mod clock;
mod entering;
mod expiry;
mod identity;
mod outside;
mod recovery;
mod requests;
mod subscription;
mod terms;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Instant};

use tidings_core::{Channel, ClientId};
use tidings_protocol::{CloseReason, Command, Error, Reply, Request, command::Subscribe};

use self::{entering::Entering, identity::Known, subscription::Subscription};
use crate::{
    Action, Answer, Grant, Rules, Transport,
    budget::{Budget, Paid},
    heartbeat::Heartbeat,
    turn::{TooMany, Turn},
};

/// One connection, from the opening of its transport to its end.
#[derive(Debug)]
pub struct Session {
    rules: Arc<Rules>,
    client: ClientId,
    state: State,
    subscriptions: Subscriptions,
    /// No subscription has anything to do before; it may be earlier than need be.
    next_expiry: Option<Instant>,
    turn: Turn,
    budget: Budget,
    heartbeat: Heartbeat,
    /// Of a client that hears one channel and no other.
    only: Option<Box<Only>>,
}

/// The one channel of a client that hears no other.
#[derive(Debug)]
struct Only {
    channel: Channel,
    /// Its identity lets it in there.
    grant: Option<Grant>,
}

type Subscriptions = HashMap<Channel, Subscription>;

#[derive(Debug)]
enum State {
    /// It has not said who it is, or that is being found out.
    Opened(Box<Opening>),
    /// It is known, and waits for the bus to confirm the channels that it hears without asking.
    Entering(Box<Entering>),
    /// It was told that its connect failed; it is expected to go.
    Refused { leave_by: Instant },
    /// It is known.
    Known(Known),
    /// It is over.
    Closed,
}

#[derive(Debug)]
struct Opening {
    connect_by: Instant,
    transport: Transport,
    /// The channels that the client names as it connects.
    subs: Vec<Subscribe>,
    /// The user's backend says who the client is, and what it hears.
    by_backend: bool,
}

type Actions = Vec<Action>;

impl Session {
    /// A session whose transport has just opened. `spread` (0 to 1, random) sets the phase of its pings.
    #[must_use]
    pub fn open(
        rules: Arc<Rules>,
        client: ClientId,
        mut transport: Transport,
        spread: f64,
        now: Instant,
    ) -> Self {
        let only = transport.only.take();
        Self {
            only: only.map(|channel| Box::new(Only { channel, grant: None })),
            heartbeat: Heartbeat::start(&rules, transport.mute, spread, now),
            state: State::Opened(Box::new(Opening {
                connect_by: now + rules.connect_timeout,
                transport,
                subs: Vec::new(),
                by_backend: false,
            })),
            subscriptions: HashMap::new(),
            next_expiry: None,
            turn: Turn::default(),
            budget: Budget::full(rules.commands_per_second, now),
            client,
            rules,
        }
    }

    /// The connection's id.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The person behind it; `None` while that is not known.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<str>> {
        match &self.state {
            State::Known(known) => Some(&known.user),
            State::Entering(entering) => Some(&entering.known.user),
            State::Opened(_) | State::Refused { .. } | State::Closed => None,
        }
    }

    /// Whether it waits for the channels that it hears without asking, before it is told that it is connected.
    #[must_use]
    pub fn is_entering(&self) -> bool {
        matches!(self.state, State::Entering(_))
    }

    /// Whether it hears the channel.
    #[must_use]
    pub fn is_subscribed(&self, channel: &Channel) -> bool {
        self.subscriptions
            .get(channel)
            .is_some_and(|subscription| subscription.entered().is_some())
    }

    /// Takes a command.
    pub fn command(&mut self, command: Command, now: Instant, out: &mut Actions) {
        match self.state {
            // What an SDK sent together with a connect that failed is neither answered nor held against it.
            State::Closed => return,
            State::Refused { .. } => return self.transport_beat(now, out),
            State::Opened(_) | State::Entering(_) | State::Known(_) => {}
        }
        // A pong costs the client nothing and waits for nothing: it says that the client is alive, now.
        if command.request == Request::Pong {
            return self.pong(out);
        }
        let id = command.id;
        match self.budget.pay(self.rules.commands_per_second, now) {
            Paid::Yes => {}
            Paid::No => return self.overrun(id, out),
            Paid::Flood => return self.close(CloseReason::TooManyRequests, out),
        }
        let cancels = |command: &Command| channels::cancels(&self.subscriptions, command);
        match self.turn.take(command, cancels) {
            Ok(Some(command)) => self.start(command, now, out),
            Ok(None) => {}
            Err(TooMany) => self.overrun(id, out),
        }
    }

    /// Takes the answer to an action.
    pub fn answer(&mut self, answer: Answer, now: Instant, out: &mut Actions) {
        if matches!(self.state, State::Closed | State::Refused { .. }) {
            return;
        }
        // Work that no command asked for is nobody's turn.
        let alone = self.turn.is_alone();
        if answer.is_to_command() {
            self.turn.end();
        }
        match answer {
            Answer::Authenticated { id, result } => {
                self.authenticated(id, result.map(|identity| *identity), now, out);
            }
            Answer::Renewed { result } => self.renewed(result, now, out),
            Answer::Authorized { id, channel, result } => match id {
                0 => self.reauthorized(&channel, result, now, out),
                // A subscribe overlaps with others of its kind, a refresh with nothing.
                _ if alone => self.sub_refreshed(id, &channel, result, now, out),
                _ => self.authorized(id, channel, result, now, out),
            },
            Answer::Subscribed { channel, result, .. } => self.subscribed(channel, result, now, out),
            Answer::Published { id, result } => match result {
                Ok(()) => out.push(Action::Reply(Reply::Publish { id })),
                Err(refusal) => self.refused(id, refusal, out),
            },
            Answer::History { id, result } => {
                let answer = result.map(|(publications, top)| Reply::History {
                    id,
                    publications,
                    top,
                });
                reply(out, id, answer);
            }
            Answer::Presence { id, result } => {
                reply(out, id, result.map(|members| Reply::Presence { id, members }));
            }
            Answer::PresenceStats { id, result } => {
                let answer = result.map(|(clients, users)| Reply::PresenceStats { id, clients, users });
                reply(out, id, answer);
            }
            Answer::Rpc { id, result } => match result {
                Ok(payload) => out.push(Action::Reply(Reply::Rpc { id, payload })),
                Err(refusal) => self.refused(id, refusal, out),
            },
        }
        while matches!(self.state, State::Known(_))
            && let Some(command) = self
                .turn
                .next(|command| channels::cancels(&self.subscriptions, command))
        {
            self.start(command, now, out);
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Ends it: leaves every channel, then closes. Does nothing the second time.
    pub fn close(&mut self, reason: CloseReason, out: &mut Actions) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.turn = Turn::default();
        self.leave_all(out);
        out.push(Action::Close(reason));
    }

    fn start(&mut self, Command { id, request }: Command, now: Instant, out: &mut Actions) {
        if !matches!(self.state, State::Known(_)) && !matches!(request, Request::Connect(_)) {
            return self.close(CloseReason::BadRequest, out);
        }
        match request {
            Request::Connect(connect) => self.connect(id, connect, out),
            Request::Subscribe(subscribe) => self.subscribe(id, *subscribe, now, out),
            Request::Unsubscribe { channel } => self.unsubscribe(id, &channel, out),
            Request::Publish { channel, payload } => self.publish(id, &channel, payload, out),
            Request::Presence { channel } => self.presence(id, &channel, out),
            Request::PresenceStats { channel } => self.presence_stats(id, &channel, out),
            Request::History(history) => self.history(id, history, out),
            Request::Rpc { method, payload } => self.rpc(id, method, payload, out),
            Request::Refresh { token } => self.refresh(id, token, out),
            Request::SubRefresh { channel, token } => self.sub_refresh(id, &channel, token, out),
            Request::NotOffered => fail(out, id, Error::NOT_AVAILABLE),
            Request::Send => self.close(CloseReason::NotAvailable, out),
            Request::Unknown | Request::Pong => self.close(CloseReason::BadRequest, out),
        }
    }

    fn overrun(&mut self, id: u32, out: &mut Actions) {
        if id == 0 {
            return self.close(CloseReason::TooManyRequests, out); // a `send` has no reply
        }
        fail(out, id, Error::TOO_MANY_REQUESTS);
    }
}

fn reply(out: &mut Actions, id: u32, result: Result<Reply, Error>) {
    out.push(Action::Reply(
        result.unwrap_or_else(|error| Reply::Error { id, error }),
    ));
}

fn fail(out: &mut Actions, id: u32, error: Error) {
    out.push(Action::Reply(Reply::Error { id, error }));
}
