//! Who the client is: connect and refresh.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_core::{Channel, ClientInfo};
use tidings_protocol::{CloseReason, Error, Reply, command::Connect};

use super::{Actions, Session, State, expiry::Term, fail};
use crate::{Action, Grant, Identity, Refusal, RenewedBy, turn::Turn};

/// A client that has said who it is.
#[derive(Debug)]
pub(super) struct Known {
    /// Empty: anonymous.
    pub(super) user: Arc<str>,
    /// JSON that others may see; empty: none.
    pub(super) info: Bytes,
    pub(super) term: Option<Box<Term>>,
    /// The channels that came with its identity, in order: a newer token has to name the same.
    channels: Box<[Channel]>,
}

impl Session {
    pub(super) fn connect(&mut self, id: u32, connect: Box<Connect>, out: &mut Actions) {
        let rules = &self.rules;
        let by_backend = connect.token.is_empty() && rules.backend.connect;
        let nobody = connect.token.is_empty() && !rules.allow_anonymous && !rules.insecure;
        let State::Opened(opening) = &mut self.state else {
            return self.close(CloseReason::BadRequest, out);
        };
        if nobody && !by_backend {
            return self.close(CloseReason::BadRequest, out);
        }
        opening.by_backend = by_backend;
        opening.subs.clone_from(&connect.subs);
        self.turn.begin_alone(1);
        out.push(Action::Authenticate { id, connect });
    }

    /// It was found out who shows this token, or none.
    pub(super) fn authenticated(
        &mut self,
        id: u32,
        result: Result<Identity, Refusal>,
        now: Instant,
        out: &mut Actions,
    ) {
        match &self.state {
            State::Opened(_) => self.introduced(id, result, now, out),
            State::Known(_) => self.refreshed(id, result, now, out),
            State::Entering(_) | State::Refused { .. } | State::Closed => {}
        }
    }

    fn introduced(&mut self, id: u32, result: Result<Identity, Refusal>, now: Instant, out: &mut Actions) {
        match result {
            Ok(identity) => self.enter(id, identity, now, out),
            Err(Refusal::Invalid | Refusal::Mismatch) => self.close(CloseReason::InvalidToken, out),
            Err(Refusal::Close(reason)) => self.close(reason, out),
            Err(Refusal::Expired) => self.refuse(id, Error::TOKEN_EXPIRED, now, out),
            Err(Refusal::Unavailable) => self.refuse(id, Error::INTERNAL, now, out),
            Err(Refusal::Error(error)) => self.refuse(id, error, now, out),
        }
    }

    pub(super) fn refresh(&mut self, id: u32, token: String, out: &mut Actions) {
        let State::Known(known) = &self.state else {
            return self.close(CloseReason::BadRequest, out);
        };
        let term = known.term.as_ref();
        let not_its_business = term.is_some_and(|term| term.renewed_by() == RenewedBy::Backend);
        if token.is_empty() || not_its_business {
            return self.close(CloseReason::BadRequest, out);
        }
        self.turn.begin_alone(1);
        out.push(Action::Refresh { id, token });
    }

    fn refreshed(&mut self, id: u32, result: Result<Identity, Refusal>, now: Instant, out: &mut Actions) {
        let identity = match result {
            Ok(identity) => identity,
            Err(Refusal::Expired) => return self.close(CloseReason::Expired, out),
            Err(Refusal::Invalid | Refusal::Mismatch) => return self.close(CloseReason::InvalidToken, out),
            Err(Refusal::Close(reason)) => return self.close(reason, out),
            Err(Refusal::Unavailable) => return fail(out, id, Error::INTERNAL),
            Err(Refusal::Error(error)) => return fail(out, id, error),
        };
        let State::Known(known) = &mut self.state else {
            return;
        };
        if known.user != identity.user {
            return self.close(CloseReason::InvalidToken, out);
        }
        if known.channels != names(&identity.channels) {
            return self.close(CloseReason::InsufficientState, out);
        }
        let term = Term::start(identity.expiry, &self.rules, now);
        if term.as_ref().is_some_and(|term| term.is_past(now)) {
            return self.close(CloseReason::Expired, out);
        }
        let expires_in = term.as_ref().and_then(|term| term.told(now));
        known.info = identity.info;
        known.term = term.map(Box::new);
        out.push(Action::Reply(Reply::Refresh { id, expires_in }));
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

    /// The client, as others see it.
    pub(super) fn info(&self) -> ClientInfo {
        let (user, conn_info) = match &self.state {
            State::Known(known) => (known.user.clone(), known.info.clone()),
            _ => ("".into(), Bytes::new()),
        };
        ClientInfo {
            user,
            client: self.client,
            conn_info,
            chan_info: Bytes::new(),
        }
    }

    /// The client, as others in the channel see it.
    pub(super) fn info_in(&self, channel: &Channel) -> ClientInfo {
        let entered = self.subscriptions.get(channel).and_then(|it| it.entered());
        ClientInfo {
            chan_info: entered.map_or_else(Bytes::new, |entered| entered.info()),
            ..self.info()
        }
    }
}

impl Known {
    pub(super) fn new(identity: &Identity, term: Option<Term>) -> Self {
        Self {
            user: identity.user.clone(),
            info: identity.info.clone(),
            term: term.map(Box::new),
            channels: names(&identity.channels),
        }
    }
}

fn names(channels: &[(Channel, Grant)]) -> Box<[Channel]> {
    let mut names: Vec<_> = channels.iter().map(|(channel, _)| channel.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names.into()
}
