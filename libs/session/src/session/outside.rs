//! What others do to a connection: the user's backend by way of the control plane, and the core that owns it.

use std::time::Instant;

use tidings_core::{Channel, Payload, Position};
use tidings_protocol::{CloseReason, Reply, reply::UnsubscribeReason};

use super::{Actions, Session, State};
use crate::{Action, Grant, Renewal};

impl Session {
    /// Has the client hear a channel that it did not ask for. Nothing happens if it hears it already, is not connected
    /// yet, or has as many channels as it may. [`Answer::Subscribed`](crate::Answer::Subscribed) carries the id 0.
    pub fn subscribe_from_server(
        &mut self,
        _channel: Channel,
        _grant: Grant,
        _recover: Option<Position>,
        _now: Instant,
        _out: &mut Actions,
    ) {
    }

    /// Ends a subscription, whoever began it, and tells the client why. Nothing happens when there is none.
    pub fn unsubscribe_from_server(
        &mut self,
        _channel: &Channel,
        _reason: UnsubscribeReason,
        _out: &mut Actions,
    ) {
    }

    /// The connection is good for so much longer, or shorter, whatever was said before; one that is good for no time at
    /// all ends.
    pub fn refresh_from_server(&mut self, _renewal: Renewal, _now: Instant, _out: &mut Actions) {}

    /// Tells the client something apart from all channels.
    pub fn message(&mut self, payload: Payload, out: &mut Actions) {
        if matches!(self.state, State::Known { .. }) {
            out.push(Action::Reply(Reply::Message(payload)));
        }
    }

    /// The client, whose position in the channel is watched, may have missed something: it has to come back and recover.
    pub fn insufficient(&mut self, channel: &Channel, out: &mut Actions) {
        if self.is_subscribed(channel) {
            self.close(CloseReason::InsufficientState, out);
        }
    }
}
