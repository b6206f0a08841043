//! Who the client is: connect, refresh, and the channels that come with a token.

use std::{
    mem,
    time::{Duration, Instant},
};

use tidings_protocol::{
    CloseReason, Error, Reply,
    command::Connect,
    reply::{Connected, Subscribed},
};

use super::{Actions, Session, State, Subscription, fail};
use crate::{Action, Identity, Refusal, permission::unknown, turn::Turn};

/// The longest expiry that a client is told. SDKs count it in milliseconds, some in 32 bits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl Session {
    pub(super) fn connect(&mut self, id: u32, connect: Box<Connect>, out: &mut Actions) {
        if connect.token.is_empty() && !self.rules.allow_anonymous && !self.rules.insecure {
            return self.close(CloseReason::BadRequest, out);
        }
        self.turn.begin_alone(1);
        out.push(Action::Authenticate { id, connect });
    }

    pub(super) fn authenticated(
        &mut self,
        id: u32,
        result: Result<Identity, Refusal>,
        now: Instant,
        out: &mut Actions,
    ) {
        let known = self.user().cloned();
        let identity = match (result, &known) {
            (Ok(identity), _) => identity,
            (Err(Refusal::Invalid | Refusal::Mismatch), _) => {
                return self.close(CloseReason::InvalidToken, out);
            }
            (Err(Refusal::Expired), Some(_)) => return self.close(CloseReason::Expired, out),
            (Err(Refusal::Expired), None) => return self.refuse(id, Error::TOKEN_EXPIRED, now, out),
            (Err(_), Some(_)) => return fail(out, id, Error::INTERNAL),
            (Err(_), None) => return self.refuse(id, Error::INTERNAL, now, out),
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
        for (channel, _) in &identity.channels {
            let Some(namespace) = self.rules.namespaces.of(channel) else {
                self.subscriptions.clear(); // nobody was asked yet
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
            read: crate::Read::Nothing,
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
    pub(super) fn entered(&mut self, now: Instant, out: &mut Actions) {
        let State::Entering { id, identity, .. } = mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        let channels: Vec<_> = self.subscriptions.keys().cloned().collect();
        let result = Connected {
            client: self.client,
            version: self.rules.version,
            expires_in: self.know(identity, now),
            ping_interval: self.rules.ping_interval,
            data: tidings_core::Payload::default(),
            subs: channels
                .iter()
                .map(|it| (it.clone(), Subscribed::default()))
                .collect(),
            pong: true,
            session: None,
            node: None,
        };
        out.push(Action::Reply(Reply::Connect {
            id,
            result: Box::new(result),
        }));
        for channel in channels {
            self.enter_channel(channel, out);
        }
    }

    /// Takes an identity on. How long it is good for.
    fn know(&mut self, identity: Identity, now: Instant) -> Option<Duration> {
        let expires_in = identity
            .expiry
            .filter(|_| !self.rules.insecure)
            .map(|expiry| expiry.after.min(LONGEST));
        self.state = State::Known {
            identity,
            expires_at: expires_in.map(|after| now + after),
        };
        expires_in
    }

    /// The connect has failed. The client is told, and expected to go.
    pub(super) fn refuse(&mut self, id: u32, error: Error, now: Instant, out: &mut Actions) {
        self.turn = Turn::default();
        self.leave_all(out);
        self.state = State::Refused {
            leave_by: now + self.rules.connect_timeout,
        };
        fail(out, id, error);
    }
}
