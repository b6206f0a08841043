//! What a core asks Redis for again, because it was not answered: reads of streams that members wait for, and positions.
//! One pending retry for all of it, with backoff, so that no outage makes a core ask more often than that.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tidings_broker::Error;
use tidings_core::Channel;

use super::Core;
use crate::shrink::Shrink;

/// The pause before the first retry, and the longest; each is random, between half of it and all.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Reads that one retry begins at most.
const READS: usize = 256;

/// Pauses that a client that subscribes waits for.
const SHORT: u32 = 3;

/// What was not answered, and when it is asked for again.
#[derive(Default)]
pub(super) struct Retry {
    /// The pending retry.
    pub(super) at: Option<Instant>,
    /// Retries in a row that brought nothing.
    failures: u32,
    /// Streams to be read, in this life of each.
    reads: VecDeque<(Channel, u64)>,
    /// Streams whose members wait, how many were reported last, and why they do.
    unreadable: usize,
    reported: usize,
    reason: String,
}

impl Retry {
    /// Something was not answered.
    pub(super) fn schedule(&mut self, now: Instant) {
        if self.at.is_none() {
            let pause = PAUSE.0.saturating_mul(1 << self.failures.min(10)).min(PAUSE.1);
            self.at = Some(now + pause.mul_f64(rand::random_range(0.5..1.0)));
            self.failures += 1;
        }
    }

    /// A stream was not read.
    pub(super) fn read(&mut self, channel: Channel, life: u64, now: Instant) {
        self.reads.push_back((channel, life));
        self.schedule(now);
    }

    /// What had failed works again.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// All streams that were in doubt have answered.
    pub(super) fn compared(&mut self) {
        if self.reads.is_empty() && self.at.is_none() {
            self.failures = 0;
        }
    }

    /// The bus is back: what waits is asked for at once.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.failures = 0;
        if self.at.is_some() {
            self.at = Some(now);
        }
    }

    /// Whether the next pause is one that a client can wait for.
    pub(super) fn is_short(&self) -> bool {
        self.failures <= SHORT
    }

    /// Members begin to wait for a stream that cannot be read.
    pub(super) fn unreadable(&mut self, error: &Error) {
        self.unreadable += 1;
        self.reason = error.to_string();
    }

    /// They wait for it no more.
    pub(super) fn readable(&mut self) {
        self.unreadable = self.unreadable.saturating_sub(1);
    }
}

impl Core {
    /// Asks again for what was not answered, when it is time.
    pub(super) fn retry(&mut self, now: Instant) {
        if self.streams.retry.at.is_some_and(|at| at <= now) {
            self.streams.retry.at = None;
            self.compare(now);
            for _ in 0..READS {
                let Some((channel, life)) = self.streams.retry.reads.pop_front() else {
                    break;
                };
                self.read_stream(&channel, life);
            }
            self.streams.retry.reads.shrink();
            if !self.streams.retry.reads.is_empty() {
                self.streams.retry.schedule(now);
            }
        }
        let retry = &mut self.streams.retry;
        if retry.unreadable != retry.reported {
            retry.reported = retry.unreadable;
            self.node
                .unreadable
                .report(self.number, retry.unreadable, &retry.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock;

    #[test]
    fn one_retry_is_pending_however_much_fails_and_the_backoff_is_bounded() {
        let (mut retry, mut now) = (Retry::default(), clock::now());
        let mut pauses = Vec::new();
        for _ in 0..20 {
            for number in 0..100 {
                let channel = Channel::parse(&format!("c:{number}")).unwrap();
                retry.read(channel, 1, now);
            }
            let at = retry.at.take().expect("a pending retry");
            pauses.push(at - now);
            now = at;
        }
        assert!(pauses[0] <= PAUSE.0);
        assert!(
            pauses[10..]
                .iter()
                .all(|pause| *pause >= PAUSE.1 / 2 && *pause <= PAUSE.1)
        );
        retry.schedule(now);
        retry.hasten(now);
        assert_eq!(retry.at, Some(now), "the bus is back");
        retry.at = None;
        retry.schedule(now);
        assert!(retry.at.unwrap() - now <= PAUSE.0);
    }
}
