//! The state machine itself: what may happen when. `identity` and `channels` are what it does.

mod channels;
mod identity;
mod outside;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Instant};

use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_protocol::{CloseReason, Command, Error, Reply, Request};

use crate::{
    Action, Answer, Identity, Rules,
    budget::{Budget, Paid},
    heartbeat::{Beat, Heartbeat},
    permission::Right,
    turn::{TooMany, Turn},
};

/// One connection, from the opening of its transport to its end.
#[derive(Debug)]
pub struct Session {
    rules: Arc<Rules>,
    client: ClientId,
    state: State,
    subscriptions: HashMap<Channel, Subscription>,
    turn: Turn,
    budget: Budget,
    heartbeat: Heartbeat,
    transport: Transport,
}

#[derive(Debug)]
enum State {
    /// It has not said who it is.
    Opened { connect_by: Instant },
    /// It is known, and waits for the bus to confirm the channels that it hears without asking.
    Entering {
        id: u32,
        identity: Identity,
        since: Instant,
        waiting: usize,
    },
    /// It was told that its connect failed; it is expected to go.
    Refused { leave_by: Instant },
    /// It is known.
    Known {
        identity: Identity,
        expires_at: Option<Instant>,
    },
    /// It is over.
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Subscription {
    /// The bus has confirmed and the client was told.
    entered: bool,
    presence: bool,
}

/// What a session has to know of the way its client is reached.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Its clients never answer pings, because they cannot.
    pub mute: bool,
    /// What requests apart from the connection address it by: told to the client.
    pub session: Option<Arc<str>>,
    /// The node that such requests are for: told to the client.
    pub node: Option<Arc<str>>,
}

type Actions = Vec<Action>;

impl Session {
    /// A session whose transport has just opened. `spread` (0 to 1, random) sets the phase of its pings.
    #[must_use]
    pub fn open(
        rules: Arc<Rules>,
        client: ClientId,
        transport: Transport,
        spread: f64,
        now: Instant,
    ) -> Self {
        Self {
            state: State::Opened {
                connect_by: now + rules.connect_timeout,
            },
            subscriptions: HashMap::new(),
            turn: Turn::default(),
            budget: Budget::full(rules.commands_per_second, now),
            heartbeat: Heartbeat::start(&rules, spread, now),
            transport,
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
            State::Known { identity, .. } => Some(&identity.user),
            _ => None,
        }
    }

    /// Whether it hears the channel.
    #[must_use]
    pub fn is_subscribed(&self, channel: &Channel) -> bool {
        self.subscriptions
            .get(channel)
            .is_some_and(|subscription| subscription.entered)
    }

    /// Takes a command.
    pub fn command(&mut self, command: Command, now: Instant, out: &mut Actions) {
        match self.state {
            // What an SDK sent together with a connect that failed is neither answered nor held against it.
            State::Closed | State::Refused { .. } => return,
            State::Opened { .. } | State::Entering { .. } | State::Known { .. } => {}
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
        match self.turn.take(command) {
            Ok(Some(command)) => self.start(command, out),
            Ok(None) => {}
            Err(TooMany) => self.overrun(id, out),
        }
    }

    /// Takes the answer to an action.
    pub fn answer(&mut self, answer: Answer, now: Instant, out: &mut Actions) {
        if matches!(self.state, State::Closed | State::Refused { .. }) {
            return;
        }
        self.turn.end();
        match answer {
            Answer::Authenticated { id, result } => {
                self.authenticated(id, result.map(|identity| *identity), now, out);
            }
            Answer::Renewed { .. } | Answer::Authorized { .. } | Answer::Rpc { .. } => {}
            Answer::Subscribed { id, channel, result } => self.subscribed(id, channel, result, now, out),
            Answer::Published { id, result } => {
                reply(
                    out,
                    id,
                    result
                        .map(|()| Reply::Publish { id })
                        .map_err(|_| Error::INTERNAL),
                );
            }
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
                reply(
                    out,
                    id,
                    result.map(|(clients, users)| Reply::PresenceStats { id, clients, users }),
                );
            }
        }
        while matches!(self.state, State::Known { .. })
            && let Some(command) = self.turn.next()
        {
            self.start(command, out);
        }
    }

    /// The transport itself has shown that the client is alive: the answer to a ping of the transport (a WebSocket
    /// pong), in protocols that have no other. Unasked ones are legal.
    pub fn transport_pong(&mut self) {
        self.heartbeat.pong();
    }

    /// The client pings by the transport's means. Legal, but not without end.
    pub fn transport_ping(&mut self, now: Instant, out: &mut Actions) {
        if self.budget.pay(self.rules.commands_per_second, now) == Paid::Flood {
            self.close(CloseReason::TooManyRequests, out);
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// When [`tick`](Self::tick) has something to do next; `None` once it is closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Opened { connect_by: at } | State::Refused { leave_by: at } => Some(*at),
            State::Entering { since, .. } => Some(*since + self.rules.connect_timeout),
            State::Known { expires_at, .. } => {
                let beat = self.heartbeat.deadline();
                Some(expires_at.map_or(beat, |at| beat.min(at + self.rules.expired_grace)))
            }
            State::Closed => None,
        }
    }

    /// Does what is due. Called at [`deadline`](Self::deadline) or later.
    pub fn tick(&mut self, now: Instant, out: &mut Actions) {
        match &self.state {
            State::Opened { connect_by: at } | State::Refused { leave_by: at } => {
                if now >= *at {
                    self.close(CloseReason::Stale, out);
                }
            }
            State::Entering { since, .. } => {
                if now >= *since + self.rules.connect_timeout {
                    self.close(CloseReason::Internal, out);
                }
            }
            State::Known { expires_at, .. } => {
                if expires_at.is_some_and(|at| now >= at + self.rules.expired_grace) {
                    return self.close(CloseReason::Expired, out);
                }
                match self.heartbeat.beat(&self.rules, now) {
                    Beat::Nothing => {}
                    Beat::Ping => out.push(Action::Reply(Reply::Ping)),
                    Beat::Missed => self.close(CloseReason::NoPong, out),
                }
            }
            State::Closed => {}
        }
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

    fn start(&mut self, Command { id, request }: Command, out: &mut Actions) {
        let connected = matches!(self.state, State::Known { .. });
        match request {
            Request::Connect(connect) if !connected => self.connect(id, connect, out),
            _ if !connected => self.close(CloseReason::BadRequest, out),
            Request::Subscribe(subscribe) => self.subscribe(id, &subscribe, out),
            Request::Unsubscribe { channel } => self.unsubscribe(id, &channel, out),
            Request::Publish { payload, .. } if payload.is_empty() => {
                fail(out, id, Error::BAD_REQUEST.because("there is no data to publish"));
            }
            Request::Publish { channel, payload } => {
                let may = self.check(&channel, Right::Publish);
                self.ask(id, may, out, |id, channel, info| Action::Publish {
                    id,
                    channel,
                    payload,
                    info,
                    proxied: false,
                });
            }
            Request::Presence { channel } => {
                let may = self.check(&channel, Right::Presence);
                self.ask(id, may, out, |id, channel, _| Action::Presence { id, channel });
            }
            Request::PresenceStats { channel } => {
                let may = self.check(&channel, Right::Presence);
                self.ask(id, may, out, |id, channel, _| Action::PresenceStats {
                    id,
                    channel,
                });
            }
            Request::History(history) => self.history(id, history, out),
            Request::Refresh { token } if !token.is_empty() => {
                self.turn.begin_alone(1);
                out.push(Action::Refresh { id, token });
            }
            Request::Rpc { .. } | Request::SubRefresh { .. } | Request::NotOffered => {
                fail(out, id, Error::NOT_AVAILABLE)
            }
            Request::Send => self.close(CloseReason::NotAvailable, out),
            Request::Connect(_) | Request::Refresh { .. } | Request::Unknown | Request::Pong => {
                self.close(CloseReason::BadRequest, out);
            }
        }
    }

    fn pong(&mut self, out: &mut Actions) {
        if !matches!(self.state, State::Known { .. }) || !self.heartbeat.pong() {
            self.close(CloseReason::BadRequest, out);
        }
    }

    fn overrun(&mut self, id: u32, out: &mut Actions) {
        if id == 0 {
            return self.close(CloseReason::TooManyRequests, out); // a `send` has no reply
        }
        fail(out, id, Error::TOO_MANY_REQUESTS);
    }

    fn info(&self) -> ClientInfo {
        let identity = match &self.state {
            State::Known { identity, .. } => identity.clone(),
            _ => Identity::anonymous(),
        };
        ClientInfo {
            user: identity.user,
            client: self.client,
            conn_info: identity.info,
            chan_info: bytes::Bytes::new(),
        }
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
