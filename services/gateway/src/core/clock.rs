//! What is due when: pings, expiries, farewells, and the drain.

use std::time::{Duration, Instant};

use tidings_protocol::CloseReason;

use super::Core;

/// How long a client has to answer our close frame.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// How long a client has that broke the WebSocket protocol, and whose answer would not be understood.
pub(super) const SHORT_GOODBYE: Duration = Duration::from_secs(1);

/// A core that wakes this much too late has stood still.
const STALL: Duration = Duration::from_secs(1);

/// How long it then reads before it judges.
const CATCH_UP: Duration = Duration::from_millis(200);

/// How often a core looks for streams that have been idle for long, and how long that is.
const CHECK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(40));

/// How often a draining core closes some more.
const STEP: Duration = Duration::from_millis(20);

/// A drain: everyone is closed, spread evenly over a time.
pub(super) struct Drain {
    by: Instant,
    next: Instant,
}

impl Drain {
    pub(super) fn begin(over: Duration, now: Instant) -> Self {
        Self {
            by: now + over,
            next: now,
        }
    }

    /// How many of `open` connections go now, so that none is left at the end; at least one a step.
    fn share(&self, open: usize, now: Instant) -> usize {
        let steps = self.by.saturating_duration_since(now).as_millis() / STEP.as_millis();
        open.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX).max(1))
    }
}

/// The time, which tests may pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Completes at `at`; never, when there is nothing to wait for.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether a wake that was due at `at` came much too late.
pub(super) fn overslept(at: Option<Instant>) -> bool {
    at.is_some_and(|at| now() > at + STALL)
}

/// Lets the connections' tasks read for a while.
pub(super) async fn catch_up() {
    tokio::time::sleep(CATCH_UP).await;
}

impl Core {
    /// Brings a connection's place among the deadlines up to date.
    pub(super) fn reschedule(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let due = connection.due();
        if due == connection.deadline {
            return;
        }
        if let Some(at) = std::mem::replace(&mut connection.deadline, due) {
            self.deadlines.remove(&(at, key));
        }
        if let Some(at) = due {
            self.deadlines.insert((at, key));
        }
    }

    /// Does everything that is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.check_streams(now);
        self.retry(now);
        if self.deadlines.first().is_none_or(|(at, _)| *at > now) {
            return self.drain_some(now);
        }
        let later = self.deadlines.split_off(&(now + Duration::from_nanos(1), 0));
        for (_, key) in std::mem::replace(&mut self.deadlines, later) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.deadline = None;
            if connection.ending.is_some() {
                self.remove(key);
                continue;
            }
            let mut actions = Vec::new();
            connection.session.tick(now, &mut actions);
            self.carry_out(key, actions, now);
        }
        self.drain_some(now);
    }

    /// A publication that the bus lost is noticed by the next one. Where none comes, somebody has to ask.
    fn check_streams(&mut self, now: Instant) {
        if self.check.is_none_or(|at| at > now) {
            return;
        }
        self.check = Some(now + CHECK.0);
        if let Some(before) = now.checked_sub(CHECK.1) {
            self.check_idle_streams(before, now);
        }
    }

    fn drain_some(&mut self, now: Instant) {
        let Some(drain) = self.drain.as_mut().filter(|drain| drain.next <= now) else {
            return;
        };
        drain.next = now + STEP;
        let open = || {
            self.connections
                .iter()
                .filter(|(_, c)| c.ending.is_none())
                .map(|(key, _)| key)
        };
        let share = self
            .drain
            .as_ref()
            .map_or(0, |drain| drain.share(open().count(), now));
        let closing: Vec<_> = open().take(share).collect();
        for key in closing {
            self.close(key, CloseReason::Shutdown, now);
        }
    }

    /// When the core has to wake, and remembers it.
    pub(super) fn next_wake(&mut self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let drain = self.drain.as_ref().map(|drain| drain.next);
        let retry = self.streams.retry.next();
        self.sleeps_until = deadline
            .into_iter()
            .chain(drain)
            .chain(self.check)
            .chain(retry)
            .min();
        self.sleeps_until
    }

    /// Wakes the core's loop when a connection's task has made something due before the loop would wake.
    pub(super) fn nudge_if_earlier(&self) {
        let Some((first, _)) = self.deadlines.first() else {
            return;
        };
        if self.sleeps_until.is_none_or(|at| *first < at) {
            self.inbox.nudge();
        }
    }

    /// Drained, and nobody is left.
    pub(super) fn is_finished(&self) -> bool {
        self.drain.is_some() && self.connections.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_closes_a_few_at_each_step_and_everyone_by_its_end() {
        let start = now();
        let drain = Drain::begin(Duration::from_secs(1), start);
        let (mut open, mut at, mut most) = (1000, start, 0);
        while open > 0 {
            assert!(
                at <= start + Duration::from_secs(1),
                "{open} are left after the drain"
            );
            let share = drain.share(open, at);
            (most, open, at) = (share.max(most), open - share, at + STEP);
        }
        assert_eq!(most, 20);
    }

    #[test]
    fn a_lone_client_is_closed_at_once() {
        assert_eq!(Drain::begin(Duration::from_secs(20), now()).share(1, now()), 1);
        assert_eq!(Drain::begin(Duration::ZERO, now()).share(1000, now()), 1000);
    }
}
