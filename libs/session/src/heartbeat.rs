//! Pings and their answers.

use std::time::Instant;

use crate::Rules;

/// When to ping next, and by when the last ping must have been answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    next_ping: Instant,
    pong_due: Option<Instant>,
    /// The client cannot answer, and need not.
    mute: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    Nothing,
    Ping,
    Missed,
}

impl Heartbeat {
    /// The first ping comes after half an interval to a whole one, as `spread` (0 to 1) says, so that clients that
    /// connect together are not pinged together for ever after.
    pub(crate) fn start(rules: &Rules, mute: bool, spread: f64, now: Instant) -> Self {
        let share = 0.5 + spread.clamp(0.0, 1.0) / 2.0;
        Self {
            next_ping: now + rules.ping_interval.mul_f64(share),
            pong_due: None,
            mute,
        }
    }

    /// Whether pings have to be answered.
    pub(crate) fn demands_pongs(&self) -> bool {
        !self.mute
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.pong_due
            .map_or(self.next_ping, |due| due.min(self.next_ping))
    }

    pub(crate) fn beat(&mut self, rules: &Rules, now: Instant) -> Beat {
        if self.pong_due.is_some_and(|due| now >= due) {
            return Beat::Missed;
        }
        if now < self.next_ping {
            return Beat::Nothing;
        }
        // The rhythm is kept, unless a stall has left it behind: no ping before the last one's answer is due.
        self.next_ping = (self.next_ping + rules.ping_interval).max(now + rules.pong_timeout);
        self.pong_due = (!self.mute).then(|| now + rules.pong_timeout);
        Beat::Ping
    }

    /// Takes an answer. False when there was nothing to answer.
    pub(crate) fn pong(&mut self) -> bool {
        self.pong_due.take().is_some()
    }
}
