//! The state machine itself.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_protocol::{
    CloseReason, Command, Error, Reply, Request,
    command::{Connect, Subscribe},
    reply::Connected,
};

use crate::{
    Action, Answer, Identity, Refusal, Rules,
    budget::Budget,
    heartbeat::{Beat, Heartbeat},
    permission::{Asker, Right, unknown},
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

type Actions = Vec<Action>;

impl Session {
    /// A session whose transport has just opened. `spread` (0 to 1, random) sets the phase of its pings.
    #[must_use]
    pub fn open(rules: Arc<Rules>, client: ClientId, spread: f64, now: Instant) -> Self {
        Self {
            state: State::Opened {
                connect_by: now + rules.connect_timeout,
            },
            subscriptions: HashMap::new(),
            turn: Turn::default(),
            budget: Budget::full(rules.commands_per_second, now),
            heartbeat: Heartbeat::start(&rules, spread, now),
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
        if !self.budget.pay(self.rules.commands_per_second, now) {
            return self.overrun(command.id, out);
        }
        let id = command.id;
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
            Answer::Authenticated { id, result } => self.authenticated(id, result, now, out),
            Answer::Subscribed { id, channel, result } => self.subscribed(id, channel, result, now, out),
            Answer::Published { id, result } => {
                reply(out, id, result.map(|()| Reply::Publish { id }));
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

    /// The transport itself has shown that the client is alive (a WebSocket pong). Unasked ones are legal.
    pub fn transport_pong(&mut self) {
        self.heartbeat.pong();
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
        if matches!(mem::replace(&mut self.state, State::Closed), State::Closed) {
            return;
        }
        self.turn = Turn::default();
        for (channel, subscription) in mem::take(&mut self.subscriptions) {
            if subscription.entered {
                out.push(Action::Leave {
                    channel,
                    presence: subscription.presence,
                });
            }
        }
        out.push(Action::Close(reason));
    }

    fn start(&mut self, Command { id, request }: Command, out: &mut Actions) {
        let connected = matches!(self.state, State::Known { .. });
        match request {
            Request::Connect(connect) if !connected => self.connect(id, connect, out),
            _ if !connected => self.close(CloseReason::BadRequest, out),
            Request::Subscribe(subscribe) => self.subscribe(id, &subscribe, out),
            Request::Unsubscribe { channel } => self.unsubscribe(id, &channel, out),
            Request::Publish {
                channel,
                data,
                format,
            } => {
                let may = self.check(&channel, Right::Publish);
                self.ask(id, may, out, |id, channel, info| Action::Publish {
                    id,
                    channel,
                    data,
                    format,
                    info,
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
            Request::Refresh { token } if !token.is_empty() => {
                self.turn.begin_alone(1);
                out.push(Action::Authenticate { id, token });
            }
            Request::NotOffered => fail(out, id, Error::NOT_AVAILABLE),
            Request::Send => self.close(CloseReason::NotAvailable, out),
            Request::Connect(_) | Request::Refresh { .. } | Request::Unknown | Request::Pong => {
                self.close(CloseReason::BadRequest, out);
            }
        }
    }

    fn connect(&mut self, id: u32, connect: Connect, out: &mut Actions) {
        if connect.token.is_empty() && !self.rules.allow_anonymous && !self.rules.insecure {
            return self.close(CloseReason::BadRequest, out);
        }
        self.turn.begin_alone(1);
        out.push(Action::Authenticate {
            id,
            token: connect.token,
        });
    }

    fn authenticated(&mut self, id: u32, result: Result<Identity, Refusal>, now: Instant, out: &mut Actions) {
        let known = self.user().cloned();
        let identity = match (result, &known) {
            (Ok(identity), _) => identity,
            (Err(Refusal::Invalid), _) => return self.close(CloseReason::InvalidToken, out),
            (Err(Refusal::Expired), Some(_)) => return self.close(CloseReason::Expired, out),
            (Err(Refusal::Expired), None) => return self.refuse(id, Error::TOKEN_EXPIRED, now, out),
            (Err(Refusal::Unavailable), Some(_)) => return fail(out, id, Error::INTERNAL),
            (Err(Refusal::Unavailable), None) => return self.refuse(id, Error::INTERNAL, now, out),
        };
        let Some(user) = known else {
            return self.enter(id, identity, now, out);
        };
        if user != identity.user {
            return self.close(CloseReason::InvalidToken, out);
        }
        let expires_in = self.know(identity, now);
        out.push(Action::Reply(Reply::Refresh { id, expires_in }));
    }

    /// Subscribes a client to what its token says, and then tells it that it is connected: to all or to nothing.
    fn enter(&mut self, id: u32, identity: Identity, now: Instant, out: &mut Actions) {
        for channel in &identity.channels {
            let Some(namespace) = self.rules.namespaces.of(channel) else {
                self.subscriptions.clear();
                return self.refuse(id, unknown(channel), now, out);
            };
            let presence = namespace.presence;
            self.subscriptions.insert(
                channel.clone(),
                Subscription {
                    entered: false,
                    presence,
                },
            );
        }
        let waiting = self.subscriptions.len();
        if waiting > self.rules.channels {
            self.subscriptions.clear();
            return self.close(CloseReason::ChannelLimit, out);
        }
        let asked = self.subscriptions.keys().map(|channel| Action::Subscribe {
            id,
            channel: channel.clone(),
        });
        out.extend(asked);
        self.state = State::Entering {
            id,
            identity,
            since: now,
            waiting,
        };
        match u32::try_from(waiting) {
            Ok(answers @ 1..) => self.turn.begin_alone(answers),
            _ => self.entered(now, out),
        }
    }

    /// The bus has confirmed every channel of a client that enters.
    fn entered(&mut self, now: Instant, out: &mut Actions) {
        let State::Entering { id, identity, .. } = mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        let channels: Vec<_> = self.subscriptions.keys().cloned().collect();
        let result = Connected {
            client: self.client,
            version: self.rules.version,
            expires_in: self.know(identity, now),
            ping_interval: self.rules.ping_interval,
            channels: channels.clone(),
        };
        out.push(Action::Reply(Reply::Connect { id, result }));
        for channel in channels {
            self.enter_channel(channel, out);
        }
    }

    /// Takes an identity on. How long it is good for.
    fn know(&mut self, identity: Identity, now: Instant) -> Option<Duration> {
        let expires_in = identity.expires_in.filter(|_| !self.rules.insecure);
        self.state = State::Known {
            identity,
            expires_at: expires_in.map(|after| now + after),
        };
        expires_in
    }

    fn refuse(&mut self, id: u32, error: Error, now: Instant, out: &mut Actions) {
        self.state = State::Refused {
            leave_by: now + self.rules.connect_timeout,
        };
        fail(out, id, error);
    }

    fn subscribe(&mut self, id: u32, subscribe: &Subscribe, out: &mut Actions) {
        if subscribe.channel.is_empty() {
            return self.close(CloseReason::BadRequest, out);
        }
        let (channel, presence) = match self.may_subscribe(&subscribe.channel) {
            Ok(granted) => granted,
            Err(error) => return fail(out, id, error),
        };
        self.subscriptions.insert(
            channel.clone(),
            Subscription {
                entered: false,
                presence,
            },
        );
        self.turn.begin_subscribe();
        out.push(Action::Subscribe { id, channel });
    }

    fn may_subscribe(&self, name: &str) -> Result<(Channel, bool), Error> {
        let channel = parse(name)?;
        if self.subscriptions.contains_key(&channel) {
            return Err(Error::ALREADY_SUBSCRIBED);
        }
        if self.subscriptions.len() >= self.rules.channels {
            let most = self.rules.channels;
            return Err(Error::LIMIT_EXCEEDED.because(format!("at most {most} channels per connection")));
        }
        let presence = self.asker(&channel).check(&channel, Right::Subscribe)?.presence;
        Ok((channel, presence))
    }

    fn subscribed(
        &mut self,
        id: u32,
        channel: Channel,
        result: Result<(), Error>,
        now: Instant,
        out: &mut Actions,
    ) {
        match (&mut self.state, result) {
            (State::Entering { waiting, .. }, Ok(())) => {
                *waiting -= 1;
                if *waiting == 0 {
                    self.entered(now, out);
                }
            }
            (State::Entering { .. }, Err(error)) => {
                self.subscriptions.clear();
                self.turn = Turn::default();
                self.refuse(id, error, now, out);
            }
            (_, Ok(())) => {
                out.push(Action::Reply(Reply::Subscribe { id }));
                self.enter_channel(channel, out);
            }
            (_, Err(error)) => {
                self.subscriptions.remove(&channel);
                fail(out, id, error);
            }
        }
    }

    /// From here on the client hears the channel; it has been told.
    fn enter_channel(&mut self, channel: Channel, out: &mut Actions) {
        let Some(subscription) = self.subscriptions.get_mut(&channel) else {
            return;
        };
        subscription.entered = true;
        let presence = subscription.presence.then(|| self.info());
        out.push(Action::Enter { channel, presence });
    }

    fn unsubscribe(&mut self, id: u32, name: &str, out: &mut Actions) {
        // No channel of that name, or none of ours: the client is not subscribed, which is what it wants.
        if let Ok(channel) = Channel::parse(name)
            && let Some(subscription) = self.subscriptions.remove(&channel)
        {
            out.push(Action::Leave {
                channel,
                presence: subscription.presence,
            });
        }
        out.push(Action::Reply(Reply::Unsubscribe { id }));
    }

    fn check(&self, name: &str, right: Right) -> Result<Channel, Error> {
        let channel = parse(name)?;
        self.asker(&channel).check(&channel, right)?;
        Ok(channel)
    }

    /// Starts work that nothing else overtakes, or says why not.
    fn ask(
        &mut self,
        id: u32,
        may: Result<Channel, Error>,
        out: &mut Actions,
        action: impl FnOnce(u32, Channel, ClientInfo) -> Action,
    ) {
        match may {
            Ok(channel) => {
                self.turn.begin_alone(1);
                out.push(action(id, channel, self.info()));
            }
            Err(error) => fail(out, id, error),
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

    fn asker(&self, channel: &Channel) -> Asker<'_> {
        Asker {
            rules: &self.rules,
            user: self.user().map_or("", |user| user),
            subscribed: self.is_subscribed(channel),
        }
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

fn parse(name: &str) -> Result<Channel, Error> {
    Channel::parse(name).map_err(|why| Error::BAD_REQUEST.because(why))
}

fn reply(out: &mut Actions, id: u32, result: Result<Reply, Error>) {
    out.push(Action::Reply(
        result.unwrap_or_else(|error| Reply::Error { id, error }),
    ));
}

fn fail(out: &mut Actions, id: u32, error: Error) {
    out.push(Action::Reply(Reply::Error { id, error }));
}

#[cfg(test)]
mod tests;
