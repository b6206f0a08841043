//! What the client does in channels, and what it asks the user's backend.

use std::time::Instant;

use tidings_core::{Channel, Payload};
use tidings_protocol::{CloseReason, Error, Reply, command::History};

use super::{Actions, Session, expiry::Term, fail};
use crate::{
    Action, Evidence, Grant, Query, Refusal, RenewedBy,
    permission::{Asker, Right},
};

impl Session {
    pub(super) fn publish(&mut self, id: u32, name: &str, payload: Payload, out: &mut Actions) {
        if payload.is_empty() {
            return fail(out, id, Error::BAD_REQUEST.because("there is no data to publish"));
        }
        match self.may_publish(name, &payload) {
            Ok((channel, proxied)) => self.ask(out, |session| Action::Publish {
                id,
                info: session.info_in(&channel),
                channel,
                payload,
                proxied,
            }),
            Err(error) => fail(out, id, error),
        }
    }

    /// The channel, and whether the user's backend decides. Where it does, nothing else counts.
    fn may_publish(&self, name: &str, payload: &Payload) -> Result<(Channel, bool), Error> {
        let channel = parse(name)?;
        let asker = self.asker(&channel);
        let namespace = asker.namespace(&channel)?;
        let proxied = namespace.publish_proxy_enabled && self.rules.backend.publish;
        if !proxied {
            asker.check(&channel, Right::Publish)?;
            self.rules.takes(&channel, payload)?;
        }
        Ok((channel, proxied))
    }

    pub(super) fn presence(&mut self, id: u32, name: &str, out: &mut Actions) {
        match self.check(name, Right::Presence) {
            Ok(channel) => self.ask(out, |_| Action::Presence { id, channel }),
            Err(error) => fail(out, id, error),
        }
    }

    pub(super) fn presence_stats(&mut self, id: u32, name: &str, out: &mut Actions) {
        match self.check(name, Right::Presence) {
            Ok(channel) => self.ask(out, |_| Action::PresenceStats { id, channel }),
            Err(error) => fail(out, id, error),
        }
    }

    pub(super) fn history(&mut self, id: u32, history: History, out: &mut Actions) {
        let most = self.rules.history;
        let query = Query {
            // A negative limit asks for all: as many as one answer has.
            limit: u32::try_from(history.limit).unwrap_or(most).min(most),
            since: history.since,
            reverse: history.reverse,
        };
        match self.check(&history.channel, Right::History) {
            Ok(channel) => self.ask(out, |_| Action::History { id, channel, query }),
            Err(error) => fail(out, id, error),
        }
    }

    pub(super) fn rpc(&mut self, id: u32, method: String, payload: Payload, out: &mut Actions) {
        if !self.rules.backend.rpc {
            return fail(out, id, Error::NOT_AVAILABLE);
        }
        self.ask(out, |session| Action::Rpc {
            id,
            method,
            payload,
            info: session.info(),
        });
    }

    pub(super) fn sub_refresh(&mut self, id: u32, name: &str, token: String, out: &mut Actions) {
        let channel = match parse(name) {
            Ok(channel) => channel,
            Err(error) => return fail(out, id, error),
        };
        let Some(entered) = self.subscriptions.get(&channel).and_then(|it| it.entered()) else {
            return fail(out, id, Error::PERMISSION_DENIED.because("not subscribed"));
        };
        if entered.term().map(Term::renewed_by) == Some(RenewedBy::Backend) {
            return self.close(CloseReason::BadRequest, out);
        }
        if token.is_empty() {
            return fail(out, id, Error::BAD_REQUEST.because("there is no token"));
        }
        self.ask(out, |session| Action::Reauthorize {
            id,
            info: session.info_in(&channel),
            channel,
            by: Evidence::Token(token),
        });
    }

    /// The newer token of a subscription was checked.
    pub(super) fn sub_refreshed(
        &mut self,
        id: u32,
        channel: &Channel,
        result: Result<Box<Grant>, Refusal>,
        now: Instant,
        out: &mut Actions,
    ) {
        match result {
            Err(Refusal::Invalid | Refusal::Mismatch) => self.close(CloseReason::InvalidToken, out),
            Err(refusal) => self.refused(id, refusal, out),
            Ok(grant) if grant.expiry.is_some_and(|expiry| expiry.after.is_zero()) => {
                fail(out, id, Error::EXPIRED);
            }
            Ok(_) if !self.is_subscribed(channel) => {
                fail(out, id, Error::PERMISSION_DENIED.because("not subscribed"));
            }
            Ok(grant) => {
                self.prolong(channel, *grant, now);
                let entered = self.subscriptions.get(channel).and_then(|it| it.entered());
                let term = entered.and_then(|it| it.term());
                out.push(Action::Reply(Reply::SubRefresh {
                    id,
                    expires_in: term.and_then(|term| term.told(now)),
                }));
            }
        }
    }

    /// A command was refused by whoever decides about it.
    pub(super) fn refused(&mut self, id: u32, refusal: Refusal, out: &mut Actions) {
        match refusal {
            Refusal::Expired => fail(out, id, Error::TOKEN_EXPIRED),
            Refusal::Invalid | Refusal::Mismatch => fail(out, id, Error::PERMISSION_DENIED),
            Refusal::Unavailable => fail(out, id, Error::INTERNAL),
            Refusal::Error(error) => fail(out, id, error),
            Refusal::Close(reason) => self.close(reason, out),
        }
    }

    pub(super) fn asker(&self, channel: &Channel) -> Asker<'_> {
        Asker {
            rules: &self.rules,
            user: self.user().map_or("", |user| user),
            subscribed: self.is_subscribed(channel),
        }
    }

    fn check(&self, name: &str, right: Right) -> Result<Channel, Error> {
        let channel = parse(name)?;
        self.asker(&channel).check(&channel, right)?;
        Ok(channel)
    }

    /// Starts work that nothing else overtakes.
    fn ask(&mut self, out: &mut Actions, action: impl FnOnce(&Self) -> Action) {
        self.turn.begin_alone(1);
        out.push(action(self));
    }
}

pub(super) fn parse(name: &str) -> Result<Channel, Error> {
    Channel::parse(name).map_err(|why| Error::BAD_REQUEST.because(why))
}
