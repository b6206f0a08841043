//! What a core asks Redis for again, because it was not answered: reads of streams that members wait for, and positions.
//!
//! Each stream has a backoff of its own, so that those of a shard that is down do not hold up the others. Reads begin in
//! the order in which they are due, and so many in a time at most, however many streams cannot be read.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    time::{Duration, Instant},
};

use tidings_broker::Error;
use tidings_core::Channel;

use super::Core;

/// The pause before the first retry, and the longest; each is random, between half of it and all.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Retried reads of a core that are under way at most, and that begin in one step at most: 2,560 a second.
const READS: usize = 64;
const STEP: Duration = Duration::from_millis(25);

/// What was not answered, and when it is asked for again.
#[derive(Default)]
pub(super) struct Retry {
    /// When positions are asked for again, and how often in a row they were not all answered.
    compare: Option<Instant>,
    failures: u32,
    /// Streams to be read, by when they are due and by their life, which no other stream has.
    reads: BTreeMap<(Instant, u64), Channel>,
    /// Lives of streams whose retries have begun.
    under_way: HashSet<u64>,
    /// No more retries begin before.
    next_step: Option<Instant>,
    /// Streams whose members wait, how many were reported last, and why they do.
    unreadable: usize,
    reported: usize,
    reason: String,
}

/// A random pause before the retry after so many failures.
fn pause(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = PAUSE.0.saturating_mul(1 << doublings).min(longest);
    pause.mul_f64(rand::random_range(0.5..1.0))
}

impl Retry {
    /// Positions were not all answered.
    pub(super) fn compare(&mut self, now: Instant) {
        if self.compare.is_none() {
            self.failures = self.failures.saturating_add(1);
            self.compare = Some(now + pause(self.failures, PAUSE.1));
        }
    }

    /// All streams that were in doubt have answered.
    pub(super) fn compared(&mut self) {
        self.failures = 0;
    }

    /// A stream was not read, so often in a row.
    pub(super) fn read(&mut self, channel: Channel, life: u64, failures: u32, now: Instant) {
        // With more streams than can be read within the longest pause all of them wait for longer. Otherwise they would
        // be overdue, and whoever fails once would have to wait behind them.
        let steps = u32::try_from(self.reads.len() / READS).unwrap_or(u32::MAX);
        let longest = PAUSE.1.max(STEP.saturating_mul(steps).saturating_mul(2));
        self.reads.insert((now + pause(failures, longest), life), channel);
    }

    /// A read has ended, whether it was a retry or not.
    pub(super) fn answered(&mut self, life: u64) {
        self.under_way.remove(&life);
    }

    /// The bus is back: what waits to be read is asked for at once. Positions are, by the caller.
    pub(super) fn hasten(&mut self, now: Instant) {
        (self.failures, self.compare) = (0, None);
        let reads = mem::take(&mut self.reads).into_iter();
        self.reads = reads.map(|((_, life), channel)| ((now, life), channel)).collect();
    }

    /// Whether retries begin when they are due, so that a client that subscribes can wait for the first.
    pub(super) fn keeps_up(&self, now: Instant) -> bool {
        let first = self.reads.first_key_value();
        first.is_none_or(|((due, _), _)| now <= *due + PAUSE.0)
    }

    /// When there is something to do next. While as many reads are under way as may be, an answer comes first.
    pub(super) fn next(&self) -> Option<Instant> {
        let first = self.reads.first_key_value().map(|((due, _), _)| *due);
        let read = first.filter(|_| self.under_way.len() < READS);
        let read = read.map(|due| self.next_step.map_or(due, |step| due.max(step)));
        self.compare.into_iter().chain(read).min()
    }

    /// The streams whose reads begin now.
    fn due(&mut self, now: Instant) -> Vec<(Channel, u64)> {
        let mut due = Vec::new();
        if self.next_step.is_some_and(|step| now < step) {
            return due;
        }
        while self.under_way.len() < READS
            && let Some(first) = self.reads.first_entry()
            && first.key().0 <= now
        {
            let ((_, life), channel) = first.remove_entry();
            self.under_way.insert(life);
            due.push((channel, life));
        }
        self.next_step = (!due.is_empty()).then(|| now + STEP);
        due
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
        if self.streams.retry.compare.take_if(|at| *at <= now).is_some() {
            self.compare(now);
        }
        for (channel, life) in self.streams.retry.due(now) {
            if self.streams.of(&channel, life).is_some() {
                self.read_stream(&channel, life);
            } else {
                self.streams.retry.answered(life);
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
    use std::collections::HashMap;

    use super::*;
    use crate::core::clock;

    fn channel() -> Channel {
        Channel::parse("news").unwrap()
    }

    /// A core whose reads of so many streams of a dead shard fail as soon as they begin.
    struct Outage {
        retry: Retry,
        now: Instant,
        failures: HashMap<u64, u32>,
    }

    impl Outage {
        fn of(streams: u64) -> Self {
            let (retry, now) = (Retry::default(), clock::now());
            let mut outage = Self {
                retry,
                now,
                failures: HashMap::new(),
            };
            (1..=streams).for_each(|life| outage.fail(life));
            outage
        }

        fn fail(&mut self, life: u64) {
            let failures = self.failures.entry(life).or_default();
            *failures += 1;
            self.retry.read(channel(), life, *failures, self.now);
        }

        /// Lets the retries run until a time; those of `healthy`, which succeed.
        fn run(&mut self, until: Instant, healthy: u64) -> Vec<Instant> {
            let mut succeeded = Vec::new();
            while let Some(at) = self.retry.next().filter(|at| *at <= until) {
                assert!(at > self.now || self.retry.next_step.is_none_or(|step| step <= at));
                self.now = self.now.max(at);
                let due = self.retry.due(self.now);
                assert!(!due.is_empty() && due.len() <= READS, "{}", due.len());
                for (_, life) in due {
                    self.retry.answered(life);
                    if life == healthy {
                        succeeded.push(self.now);
                    } else {
                        self.fail(life);
                    }
                }
            }
            self.now = until;
            succeeded
        }
    }

    #[test]
    fn a_stream_whose_read_fails_once_is_retried_within_the_backoff_however_many_of_a_dead_shard_fail() {
        for streams in [15_000, 50_000] {
            let mut outage = Outage::of(streams);
            let healthy = streams + 1;
            outage.run(outage.now + Duration::from_mins(5), healthy);
            let failed = outage.now;
            outage.fail(healthy);
            let retried = outage.run(failed + PAUSE.1, healthy);
            assert_eq!(retried.len(), 1, "of {streams}");
            assert!(outage.retry.keeps_up(outage.now));
        }
    }

    #[test]
    fn each_stream_has_its_own_backoff_up_to_10_s() {
        let mut outage = Outage::of(1);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let next = outage.retry.next().expect("a pending retry");
            pauses.push(next - outage.now);
            outage.run(next, 0);
        }
        assert!(pauses[0] <= PAUSE.0);
        let last = pauses[10..].iter();
        assert!(
            last.clone()
                .all(|pause| *pause >= PAUSE.1 / 2 && *pause <= PAUSE.1)
        );
        outage.fail(2);
        assert!(outage.retry.next().unwrap() - outage.now <= PAUSE.0, "of another");
    }

    #[test]
    fn all_streams_are_retried_at_once_when_the_bus_is_back() {
        let mut outage = Outage::of(10);
        outage.run(outage.now + Duration::from_mins(1), 0);
        outage.retry.hasten(outage.now);
        assert_eq!(outage.retry.due(outage.now).len(), 10);
    }

    #[test]
    fn no_more_retried_reads_are_under_way_than_may_be() {
        let mut outage = Outage::of(1000);
        let now = outage.now + PAUSE.0;
        assert_eq!(outage.retry.due(now).len(), READS);
        assert_eq!(outage.retry.next(), None, "an answer comes first");
        assert_eq!(outage.retry.due(now + STEP).len(), 0);
        outage
            .retry
            .answered(*outage.retry.under_way.iter().next().unwrap());
        assert_eq!(outage.retry.due(now + STEP).len(), 1);
    }

    #[test]
    fn one_comparison_is_pending_however_often_it_fails_and_its_backoff_is_bounded() {
        let (mut retry, mut now) = (Retry::default(), clock::now());
        for _ in 0..20 {
            retry.compare(now);
            let at = retry.compare.expect("a pending comparison");
            retry.compare(now);
            assert_eq!(retry.compare, Some(at));
            assert!(at - now <= PAUSE.1);
            (now, retry.compare) = (at, None);
        }
        retry.compared();
        retry.compare(now);
        assert!(retry.next().unwrap() - now <= PAUSE.0);
    }
}
