//! From one publication to the outboxes of everyone here who wants it.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_core::Channel;
use tidings_protocol::CloseReason;
use tidings_session::{Action, Base, Hears};

use super::{Core, subscriptions::Member};
use crate::{
    delivery::Delivery,
    notice::Notice,
    wire::{Language, Written},
};

impl Core {
    /// Queues a publication for everyone here who wants it. Nothing waits, nothing is written yet.
    pub(super) fn hand_out(&mut self, delivery: &Arc<Delivery>, now: Instant) {
        let base = self.streams.base(&delivery.channel);
        let (mut subscribers, mut bytes, mut slow) = (0, 0, 0);
        let mut unable = Vec::new();
        for (key, member) in self.hub.members(&delivery.channel) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let hears = match member {
                Member::In(hears) => hears,
                Member::Entering(entering) => {
                    entering.push(delivery, self.node.outbox);
                    continue;
                }
            };
            let frame = match frame(hears, connection.wire.language(), delivery, base.as_ref()) {
                None => continue,
                Some(Ok(frame)) => frame,
                Some(Err(reason)) => {
                    unable.push((key, reason.clone()));
                    continue;
                }
            };
            if connection.push(frame.clone(), self.node.outbox).is_err() {
                unable.push((key, CloseReason::Slow));
                slow += 1;
                continue;
            }
            subscribers += 1;
            bytes += frame.len() as u64;
            if !connection.touched {
                connection.touched = true;
                self.touched.push(key);
            }
        }
        self.streams.handed_out(delivery, now);
        for (key, reason) in unable {
            self.close(key, reason, now);
        }
        delivery.count(subscribers, bytes, slow);
    }

    /// Queues somebody's coming or going for everyone here who wants to hear of it.
    pub(super) fn announce(&mut self, notice: &Notice, now: Instant) {
        let mut slow = Vec::new();
        for (key, member) in self.hub.members(&notice.channel) {
            let Member::In(Hears { joins: true, .. }) = member else {
                continue;
            };
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let Some(frame) = notice.frame(connection.wire.language()) else {
                continue;
            };
            if connection.push(frame.clone(), self.node.outbox).is_err() {
                slow.push(key);
            } else if !connection.touched {
                connection.touched = true;
                self.touched.push(key);
            }
        }
        for key in slow {
            self.close(key, CloseReason::Slow, now);
        }
    }

    /// The members of a channel may have missed something that cannot be had any more: those are told whose position is
    /// watched.
    pub(super) fn insufficient(&mut self, channel: &Channel, now: Instant) {
        self.node.metrics.insufficient();
        let watched: Vec<_> = self
            .hub
            .members(channel)
            .filter_map(|(key, member)| match member {
                Member::In(hears) => hears.positioned.then_some(key),
                Member::Entering(entering) => {
                    entering.overflowed = true;
                    None
                }
            })
            .collect();
        for key in watched {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let mut actions = Vec::new();
            connection.session.insufficient(channel, &mut actions);
            self.carry_out(key, actions, now);
        }
    }

    /// Gives one client a publication that the other members have had.
    pub(super) fn give(&mut self, key: usize, delivery: &Delivery, more: &mut Vec<Action>) {
        let (Some(connection), Some(Member::In(hears))) = (
            self.connections.get_mut(key),
            self.hub.member(&delivery.channel, key),
        ) else {
            return;
        };
        let Some(frame) = frame(hears, connection.wire.language(), delivery, None) else {
            return;
        };
        match frame {
            Ok(frame) => {
                let frame = frame.clone();
                self.push(key, frame, more);
            }
            Err(reason) => connection.session.close(reason.clone(), more),
        }
    }
}

/// A member's frame of a publication, if it wants it.
fn frame<'d>(
    hears: &mut Hears,
    language: Language,
    delivery: &'d Delivery,
    base: Option<&Bytes>,
) -> Option<&'d Written> {
    match (&mut hears.delta, &hears.filter) {
        (Some(had), _) => Some(match std::mem::replace(had, Base::Last) {
            Base::None => delivery.delta(language, None),
            Base::Last => delivery.delta(language, base),
        }),
        (None, Some(filter)) if !filter.matches(&delivery.publication.tags) => None,
        (None, _) => Some(delivery.frame(language)),
    }
}
