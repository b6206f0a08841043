//! A listener's rules as a value: what it hears and the time go in, what to do comes out. No socket, no clock.
//!
//! The rules are those of the Centrifuge SDKs: `connect` and all `subscribe` commands leave in one frame; pings
//! are answered; what is temporary is tried again with backoff, and what would end the same way is not. Whoever
//! comes back to a stream says where it was and gets what it missed (`subscription`).

mod subscription;

use std::time::Duration;

use rand::Rng;
use tidings_core::Channel;
use tokio::time::Instant;

use self::subscription::{State, Subscription};
use super::{
    backoff::Backoff,
    wire::{Command, Connect, Connected, Ended, Error, PONG, Push, Reply},
};

/// How long the server may take to answer a command.
const ANSWER: Duration = Duration::from_secs(5);
/// How much later than announced a ping may come.
const PING_SLACK: Duration = Duration::from_secs(10);
/// The error code of a token that was good until it ran out.
const TOKEN_EXPIRED: u32 = 109;
/// Unsubscribed by a code from here on, a client subscribes again.
const RESUBSCRIBE: u32 = 2500;

/// What to do next, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Send this text frame.
    Send(String),
    /// Show a publication: the channel, its data, and the whole push around them.
    Print {
        channel: String,
        data: String,
        push: String,
    },
    /// Tell the person who listens.
    Tell(String),
    /// Drop the connection, if there is one, and open another after this long. Nothing follows it.
    Reconnect(Duration),
    /// Give up, for this reason. Nothing follows it.
    Stop(String),
}

/// How a connection ended, or why there is none.
#[derive(Debug)]
pub(super) enum End {
    /// The server closed it.
    Closed { code: u16, reason: String },
    /// It broke, or could not be opened this time.
    Lost(String),
    /// The server will not have it: another attempt would end the same way.
    Refused(String),
}

/// One listener, over all its connections.
#[derive(Debug)]
pub(super) struct Session<R> {
    token: Option<String>,
    subscriptions: Vec<Subscription>,
    phase: Phase,
    last_id: u32,
    reconnects: Backoff,
    random: R,
}

#[derive(Debug)]
enum Phase {
    /// No connection.
    Away,
    /// `connect` is sent; its answer is due.
    Connecting { id: u32, by: Instant },
    Connected {
        answer_pings: bool,
        silence: Option<Duration>,
        heard: Instant,
    },
}

impl<R: Rng> Session<R> {
    /// A listener on `channels` that shows `token`, with `random` for its jitter.
    pub(super) fn new(channels: Vec<Channel>, token: Option<String>, random: R) -> Self {
        Self {
            token,
            subscriptions: channels.into_iter().map(Subscription::new).collect(),
            phase: Phase::Away,
            last_id: 0,
            reconnects: Backoff::default(),
            random,
        }
    }

    /// A connection is open.
    pub(super) fn opened(&mut self, now: Instant) -> Vec<Action> {
        let by = now + ANSWER;
        let id = self.next_id();
        self.phase = Phase::Connecting { id, by };
        let connect = Connect {
            token: self.token.as_deref(),
            name: "tidings",
            version: env!("CARGO_PKG_VERSION"),
        };
        let mut frame = Command {
            id,
            connect: Some(connect),
            ..Command::default()
        }
        .line();
        for subscription in &mut self.subscriptions {
            if subscription.state != State::Ended {
                self.last_id += 1;
                frame.push('\n');
                frame.push_str(&subscription.ask(self.last_id, by));
            }
        }
        vec![Action::Send(frame)]
    }

    /// A text frame came: one line or more.
    pub(super) fn received(&mut self, frame: &str, now: Instant) -> Vec<Action> {
        if let Phase::Connected { heard, .. } = &mut self.phase {
            *heard = now;
        }
        let mut actions = Vec::new();
        for line in frame.split('\n').filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(reply) => self.reply(&reply, now, &mut actions),
                Err(error) => {
                    let why = format!("the server sent what this client does not understand: {error}");
                    actions.extend(self.ended(End::Lost(why)));
                }
            }
            if matches!(actions.last(), Some(Action::Reconnect(_) | Action::Stop(_))) {
                break;
            }
        }
        actions
    }

    /// The connection ended, or could not be opened.
    pub(super) fn ended(&mut self, end: End) -> Vec<Action> {
        self.phase = Phase::Away;
        let why = match end {
            End::Refused(why) => return vec![Action::Stop(why)],
            End::Closed { code, reason } if is_terminal(code) => {
                return vec![Action::Stop(self.terminal(code, &reason))];
            }
            End::Closed { code, reason } => format!("the server closed the connection: {reason} ({code})"),
            End::Lost(why) => why,
        };
        let wait = self.reconnects.next(&mut self.random);
        vec![
            Action::Tell(format!("{why}; connecting again in {:.1} s", wait.as_secs_f32())),
            Action::Reconnect(wait),
        ]
    }

    /// When [`expired`](Self::expired) is to be called; `None`: not at all, as things are.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let connection = match &self.phase {
            Phase::Away => return None,
            Phase::Connecting { by, .. } => Some(*by),
            Phase::Connected { silence, heard, .. } => silence.map(|silence| *heard + silence),
        };
        self.subscriptions
            .iter()
            .filter_map(Subscription::deadline)
            .chain(connection)
            .min()
    }

    /// Time has passed.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Action> {
        let late = match &self.phase {
            Phase::Away => return Vec::new(),
            Phase::Connecting { by, .. } => *by <= now,
            Phase::Connected { silence, heard, .. } => silence.is_some_and(|silence| *heard + silence <= now),
        };
        if late {
            return self.ended(End::Lost("the server has gone silent".to_owned()));
        }
        let mut actions = Vec::new();
        for index in 0..self.subscriptions.len() {
            match self.subscriptions[index].state {
                State::Asked { by, .. } if by <= now => {
                    let channel = &self.subscriptions[index].channel;
                    let why = format!("the server did not answer the subscription to {channel}");
                    actions.extend(self.ended(End::Lost(why)));
                    return actions;
                }
                State::Waiting { until } if until <= now => {
                    let id = self.next_id();
                    actions.push(Action::Send(self.subscriptions[index].ask(id, now + ANSWER)));
                }
                _ => {}
            }
        }
        actions
    }

    fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    fn reply(&mut self, reply: &Reply<'_>, now: Instant, actions: &mut Vec<Action>) {
        if reply.is_ping() {
            if matches!(
                self.phase,
                Phase::Connected {
                    answer_pings: true,
                    ..
                }
            ) {
                actions.push(Action::Send(PONG.to_owned()));
            }
            return;
        }
        if let Some(push) = reply.push {
            match serde_json::from_str::<Push<'_>>(push.get()) {
                Ok(parsed) => self.push(&parsed, push.get(), now, actions),
                // Kinds of pushes that this client does not know are not for it.
                Err(error) => actions.push(Action::Tell(format!("passed over a push: {error}"))),
            }
            return;
        }
        if matches!(self.phase, Phase::Connecting { id, .. } if id == reply.id) {
            match (&reply.error, &reply.connect) {
                (Some(error), _) => actions.extend(self.connect_failed(error)),
                (None, connected) => self.connected(connected.as_ref(), now, actions),
            }
            return;
        }
        let asked = |subscription: &Subscription| matches!(subscription.state, State::Asked { id, .. } if id == reply.id);
        let Some(index) = self.subscriptions.iter().position(asked) else {
            return;
        };
        match &reply.error {
            None => {
                let subscription = &mut self.subscriptions[index];
                subscription.granted(reply.subscribe.as_ref(), actions);
            }
            Some(error) => {
                let why = format!("{} ({})", error.message, error.code);
                self.unsubscribed(index, &why, error.temporary || error.code < 100, now, actions);
            }
        }
    }

    fn connected(&mut self, connected: Option<&Connected>, now: Instant, actions: &mut Vec<Action>) {
        let none = Connected::default();
        let connected = connected.unwrap_or(&none);
        self.reconnects.reset();
        self.phase = Phase::Connected {
            answer_pings: connected.pong,
            silence: (connected.ping > 0).then(|| Duration::from_secs(connected.ping.into()) + PING_SLACK),
            heard: now,
        };
        actions.push(Action::Tell(format!("connected as client {}", connected.client)));
    }

    fn connect_failed(&mut self, error: &Error) -> Vec<Action> {
        let what = format!("{} ({})", error.message, error.code);
        if error.code == TOKEN_EXPIRED {
            self.ended(End::Refused(format!(
                "the server refused the token: {what}; mint a new one with `tidings token`"
            )))
        } else if error.temporary || error.code < 100 {
            self.ended(End::Lost(format!(
                "the server could not let this client in: {what}"
            )))
        } else {
            self.ended(End::Refused(format!("the server refused this client: {what}")))
        }
    }

    fn push(&mut self, push: &Push<'_>, whole: &str, now: Instant, actions: &mut Vec<Action>) {
        if let Some(publication) = &push.publication {
            let mut subscriptions = self.subscriptions.iter_mut();
            if let Some(subscription) = subscriptions.find(|it| it.channel.as_str() == push.channel) {
                subscription.heard(publication.offset);
            }
            actions.push(Action::Print {
                channel: push.channel.clone(),
                data: publication.data.get().to_owned(),
                push: whole.to_owned(),
            });
        } else if let Some(Ended { code, reason }) = &push.disconnect {
            let code = u16::try_from(*code).unwrap_or_default();
            actions.extend(self.ended(End::Closed {
                code,
                reason: reason.clone(),
            }));
        } else if let Some(Ended { code, reason }) = &push.unsubscribe {
            let name = push.channel.as_str();
            if let Some(index) = self.subscriptions.iter().position(|s| s.channel.as_str() == name) {
                self.unsubscribed(
                    index,
                    &format!("{reason} ({code})"),
                    *code >= RESUBSCRIBE,
                    now,
                    actions,
                );
            }
        }
    }

    /// A subscription failed or was ended: it is tried again later, or it was the last one and all is over.
    fn unsubscribed(
        &mut self,
        index: usize,
        why: &str,
        again: bool,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let subscription = &mut self.subscriptions[index];
        let channel = &subscription.channel;
        if again {
            let wait = subscription.retries.next(&mut self.random);
            actions.push(Action::Tell(format!(
                "not subscribed to {channel}: {why}; trying again in {:.1} s",
                wait.as_secs_f32()
            )));
            subscription.state = State::Waiting { until: now + wait };
            return;
        }
        let refused = format!("not subscribed to {channel}: {why}");
        subscription.state = State::Ended;
        if self
            .subscriptions
            .iter()
            .all(|subscription| subscription.state == State::Ended)
        {
            self.phase = Phase::Away;
            actions.push(Action::Stop(refused));
        } else {
            actions.push(Action::Tell(refused));
        }
    }

    fn terminal(&self, code: u16, reason: &str) -> String {
        let hint = match (code, &self.token) {
            (3500, Some(_)) => "; mint a token with `tidings token`",
            (3501, None) => "; if it requires a token, give one with --token or TIDINGS_TOKEN",
            _ => "",
        };
        format!("the server closed the connection for good: {reason} ({code}){hint}")
    }
}

/// Whether coming back would end the same way: the protocol's ranges, and 1009, a message too big.
fn is_terminal(code: u16) -> bool {
    matches!(code, 3500..=3999 | 4500..=4999 | 1009)
}

#[cfg(test)]
mod tests;
