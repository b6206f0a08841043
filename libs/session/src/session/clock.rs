//! What time brings: pings, and the end of those who do not answer, or do not say who they are.

use std::time::Instant;

use tidings_protocol::{CloseReason, Reply};

use super::{Actions, Session, State};
use crate::{Action, budget::Paid, heartbeat::Beat};

impl Session {
    /// When [`tick`](Self::tick) has something to do next; `None` once it is closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Opened(opening) => Some(opening.connect_by),
            State::Refused { leave_by } => Some(*leave_by),
            State::Entering(entering) => Some(entering.since + self.rules.connect_timeout),
            State::Known(known) => {
                let term = known.term.as_ref().map(|term| term.deadline());
                [term, self.next_expiry]
                    .into_iter()
                    .flatten()
                    .chain([self.heartbeat.deadline()])
                    .min()
            }
            State::Closed => None,
        }
    }

    /// Does what is due. Called at [`deadline`](Self::deadline) or later.
    pub fn tick(&mut self, now: Instant, out: &mut Actions) {
        if matches!(self.state, State::Known(_)) {
            self.expire(now, out);
            if !self.is_closed() {
                self.beat(now, out);
            }
        } else if self.deadline().is_some_and(|at| now >= at) {
            let entering = matches!(self.state, State::Entering(_));
            let reason = if entering {
                CloseReason::Internal
            } else {
                CloseReason::Stale
            };
            self.close(reason, out);
        }
    }

    fn beat(&mut self, now: Instant, out: &mut Actions) {
        match self.heartbeat.beat(&self.rules, now) {
            Beat::Nothing => {}
            Beat::Ping => out.push(Action::Reply(Reply::Ping)),
            Beat::Missed => self.close(CloseReason::NoPong, out),
        }
    }

    /// The transport itself has shown that the client is alive: the answer to a ping of the transport (a WebSocket
    /// pong), in protocols that have no other. Unasked ones are legal.
    pub fn transport_pong(&mut self) {
        self.heartbeat.pong();
    }

    /// The client pings by the transport's means, or answers so. Legal, but not without end.
    pub fn transport_beat(&mut self, now: Instant, out: &mut Actions) {
        if self.budget.pay(self.rules.commands_per_second, now) == Paid::Flood {
            self.close(CloseReason::TooManyRequests, out);
        }
    }

    pub(super) fn pong(&mut self, out: &mut Actions) {
        if !matches!(self.state, State::Known(_)) || !self.heartbeat.pong() {
            self.close(CloseReason::BadRequest, out);
        }
    }
}
