//! The bus as a source finds it: one state for all its events, however many of them wait.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tidings_broker::Status;
use tokio::{sync::watch, time::Instant};

/// Whether the bus is unavailable, and when to try it again: after 50 ms to 1 s, and as soon as it reports that it is up.
pub(super) struct Outage {
    status: watch::Receiver<Status>,
    backoff: ExponentialBackoff,
    /// When to try again; `None`: the bus is not known to be unavailable.
    due: Option<Instant>,
}

/// What a round found of the bus in which those events were to be tried that wait for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    /// An event found it unavailable.
    pub(super) unavailable: bool,
    /// An event that had waited for it was tried, and did not find it unavailable.
    pub(super) went_on: bool,
    /// Events still wait for it.
    pub(super) waiting: bool,
}

impl Outage {
    pub(super) fn new(status: watch::Receiver<Status>) -> Self {
        Self {
            status,
            backoff: backoff(),
            due: None,
        }
    }

    /// Begins a round: from here on a bus that comes up is noticed.
    pub(super) fn begin(&mut self) {
        self.status.mark_unchanged();
    }

    /// An event found the bus unavailable.
    pub(super) fn failed(&mut self) {
        let pause = self.backoff.next().unwrap_or_default();
        self.due = Some(Instant::now() + pause);
    }

    /// The bus took what it was given.
    pub(super) fn over(&mut self) {
        if self.due.take().is_some() {
            self.backoff = backoff();
        }
    }

    /// Ends a round in which those events were to be tried that wait for the bus.
    pub(super) fn end(&mut self, found: Found) {
        // Where none of them could be tried, because another node has their rows, nothing is known of the bus: they are looked
        // for as seldom as they are tried.
        if found.unavailable || found.waiting && !found.went_on {
            self.failed();
        } else {
            self.over();
        }
    }

    /// When what waits for the bus is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_on(&self) -> bool {
        self.due.is_some()
    }

    /// Completes when what waits for the bus is to be tried again, which is due from then on: whether the bus came up.
    pub(super) async fn ended(&mut self) -> bool {
        let Some(due) = self.due else {
            return std::future::pending().await;
        };
        tokio::select! {
            () = came_up(&mut self.status) => {
                self.due = Some(Instant::now());
                true
            }
            () = tokio::time::sleep_until(due) => false,
        }
    }
}

/// Completes when the bus has come up since it was last looked at.
async fn came_up(status: &mut watch::Receiver<Status>) {
    while status.changed().await.is_ok() {
        if *status.borrow_and_update() == Status::Up {
            return;
        }
    }
    // The broker is gone, and the process about to be.
    std::future::pending::<()>().await;
}

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(500)) // jitter adds up to as much again
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_retried_within_a_second_and_at_once_when_the_bus_comes_up() {
        let away = || Status::Away {
            reason: "gone".to_owned(),
        };
        let bus = watch::Sender::new(away());
        let mut outage = Outage::new(bus.subscribe());
        for _ in 0..100 {
            outage.begin();
            outage.failed();
            let begin = Instant::now();
            assert!(!outage.ended().await);
            assert!(outage.due().unwrap() <= Instant::now());
            assert!(
                begin.elapsed() <= Duration::from_millis(1001),
                "{:?}",
                begin.elapsed()
            );
        }
        outage.begin();
        // While the round is still under way.
        bus.send_replace(Status::Up);
        outage.failed();
        let begin = Instant::now();
        assert!(outage.ended().await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(outage.due().unwrap() <= begin);
        outage.over();
        assert!(!outage.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_that_can_try_nothing_that_waits_come_each_second_and_end_no_outage() {
        let bus = watch::Sender::new(Status::Up);
        let mut outage = Outage::new(bus.subscribe());
        let elsewhere = Found {
            waiting: true,
            ..Found::default()
        };
        let begin = Instant::now();
        for _ in 0..100 {
            outage.begin();
            outage.end(elsewhere);
            assert!(outage.is_on());
            assert!(!outage.ended().await);
        }
        let each = begin.elapsed() / 100;
        assert!(each >= Duration::from_millis(450), "{each:?}");
        outage.end(Found {
            unavailable: true,
            went_on: true,
            waiting: true,
        });
        assert!(outage.is_on(), "another part is up");
        outage.end(Found {
            went_on: true,
            ..elsewhere
        });
        assert!(!outage.is_on());
        outage.failed();
        outage.end(Found::default());
        assert!(!outage.is_on(), "nothing waits any more");
    }
}
