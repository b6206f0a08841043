//! What others do to a connection: the user's backend by way of the control plane, and the core that owns it.

use std::time::Instant;

use tidings_core::{Channel, Payload, Position};
use tidings_protocol::{
    CloseReason, Error, Reply,
    reply::{Subscribed, UnsubscribeReason},
};

use super::{
    Actions, Session, State,
    channels::base,
    expiry::Term,
    subscription::{Asked, Wish},
};
use crate::{Action, Expiry, Grant, Renewal, RenewedBy};

/// Reasons from here on tell a client to subscribe again.
const COME_BACK: u16 = 2500;

impl Session {
    /// Has the client hear a channel that it did not ask for. Nothing happens if it hears it already or is about to, is
    /// not connected, or has as many channels as it may, or if the channel's namespace is not configured.
    /// [`Answer::Subscribed`](crate::Answer::Subscribed) carries the id 0.
    pub fn subscribe_from_server(
        &mut self,
        channel: Channel,
        grant: Grant,
        recover: Option<Position>,
        now: Instant,
        out: &mut Actions,
    ) {
        let full = self.subscriptions.len() >= self.rules.channels;
        let known = matches!(self.state, State::Known(_));
        let other = self.only.as_ref().is_some_and(|only| only.channel != channel);
        if !known || full || other || self.subscriptions.contains_key(&channel) {
            return;
        }
        let wish = Wish {
            recover,
            ..Wish::default()
        };
        let asked = Asked {
            id: 0,
            server_side: true,
            wish,
        };
        self.join(channel, asked, grant, now, out);
    }

    /// The bus has confirmed a channel that the client did not ask for.
    pub(super) fn tell_subscribed(&mut self, channel: Channel, mut said: Subscribed, out: &mut Actions) {
        let base = base(&said);
        // Publications cannot come with it: it is told of the place behind them.
        if let Some(last) = said.publications.pop() {
            said.position = last.position;
            said.publications.clear();
        }
        out.push(Action::Reply(Reply::Subscribed {
            channel: channel.clone(),
            result: Box::new(said),
        }));
        self.enter_channel(channel, base, out);
    }

    /// Ends a subscription, whoever began it, and tells the client why. Nothing happens when there is none. One that has
    /// not been answered yet fails instead.
    pub fn unsubscribe_from_server(
        &mut self,
        channel: &Channel,
        reason: UnsubscribeReason,
        out: &mut Actions,
    ) {
        if !matches!(self.state, State::Known(_) | State::Entering(_)) {
            return;
        }
        let error = if reason.code < COME_BACK {
            Error::PERMISSION_DENIED
        } else {
            Error::INTERNAL
        };
        let why = error.because(&reason.text);
        if self.only.is_some() && self.is_subscribed(channel) {
            return self.close(instead_of(&reason), out);
        }
        if self.is_subscribed(channel) {
            out.push(Action::Reply(Reply::Unsubscribed {
                channel: channel.clone(),
                reason,
            }));
        }
        self.end(channel.clone(), why, out);
    }

    /// The connection is good for so much longer, or shorter, whatever was said before; one that is good for no time at
    /// all ends. Who renews it stays the same; a connection that was good for ever is renewed by the client.
    pub fn refresh_from_server(&mut self, renewal: Renewal, now: Instant, out: &mut Actions) {
        let State::Known(known) = &mut self.state else {
            return;
        };
        let renewed_by = known
            .term
            .as_ref()
            .map_or(RenewedBy::Client, |term| term.renewed_by());
        let expiry = renewal.expires_in.map(|after| Expiry { after, renewed_by });
        let term = Term::start(expiry, &self.rules, now);
        if term.as_ref().is_some_and(|term| term.is_past(now)) {
            return self.close(CloseReason::Expired, out);
        }
        // A client that does not renew has never been told, and would try to if it were.
        if renewed_by == RenewedBy::Client {
            let expires_in = term.as_ref().and_then(|term| term.told(now));
            out.push(Action::Reply(Reply::Refreshed { expires_in }));
        }
        known.term = term.map(Box::new);
        known.info = renewal.info.unwrap_or_else(|| known.info.clone());
    }

    /// Tells the client something apart from all channels.
    pub fn message(&mut self, payload: Payload, out: &mut Actions) {
        if matches!(self.state, State::Known(_)) {
            out.push(Action::Reply(Reply::Message(payload)));
        }
    }

    /// The client, whose position in the channel is watched, may have missed something: it has to come back and recover.
    /// Nothing happens when it does not hear the channel.
    pub fn insufficient(&mut self, channel: &Channel, out: &mut Actions) {
        self.lose(
            channel,
            UnsubscribeReason::INSUFFICIENT_STATE,
            CloseReason::InsufficientState,
            out,
        );
    }
}

/// How a connection ends that cannot be told that a subscription has.
fn instead_of(reason: &UnsubscribeReason) -> CloseReason {
    match reason.code {
        2501 => CloseReason::SubscriptionExpired,
        COME_BACK.. => CloseReason::InsufficientState,
        _ => CloseReason::ForceDisconnect,
    }
}
