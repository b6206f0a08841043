//! What backends want done with connections, done to those of this core.

use std::time::Instant;

use super::Core;
use crate::{
    control::{Errand, What},
    emulation::SessionId,
    inbox::Letter,
};

/// Connections that are looked at in one go. The rest of an order waits behind what has come meanwhile, so that no order
/// holds up publications, however many connections it is for.
const STRIDE: usize = 256;

impl Core {
    /// Goes on with an order; when every connection has been looked at, says how many it was carried out on.
    pub(super) fn order(&mut self, mut errand: Errand, now: Instant) {
        let end = self.connections.capacity();
        let stop = end.min(errand.next + STRIDE);
        for key in errand.next..stop {
            errand.affected += u32::from(self.carry_out_order(key, &errand, now));
        }
        if stop == end {
            // Who asked may have stopped waiting.
            let _ = errand.asker.send(errand.affected);
        } else {
            errand.next = stop;
            self.inbox.put(Letter::Order(errand));
        }
    }

    /// Whether the connection was one of those that the order is for.
    fn carry_out_order(&mut self, key: usize, Errand { order, .. }: &Errand, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let id = connection.secret.map(|secret| SessionId {
            core: self.number,
            key,
            secret,
        });
        let session = &mut connection.session;
        if !order.is_for(session, id) {
            return false;
        }
        let mut actions = Vec::new();
        match &order.what {
            What::Disconnect(reason) => session.close(reason.clone(), &mut actions),
            What::Subscribe { channel, grant } => {
                let grant = grant.as_ref().clone();
                session.subscribe_from_server(channel.clone(), grant, None, now, &mut actions);
                if actions.is_empty() && !session.is_subscribed(channel) {
                    return false;
                }
            }
            What::Unsubscribe { channel, reason } => {
                // Also one that is under way, of which the client hears in the answer to its subscribe.
                session.unsubscribe_from_server(channel, reason.clone(), &mut actions);
                if actions.is_empty() {
                    return false;
                }
            }
            What::Refresh(renewal) => session.refresh_from_server(renewal.clone(), now, &mut actions),
            What::Send(payload) => session.message(payload.clone(), &mut actions),
        }
        self.carry_out(key, actions, now);
        true
    }
}
