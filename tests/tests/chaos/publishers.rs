//! Publishers that number what they publish, for each channel from 1, and behave as a good backend does: what was not
//! accepted is sent again in order and with the same ids, nothing that comes after it is sent before it.

mod batch;
mod source;
mod stream;
mod unary;

use std::{sync::Arc, time::Duration};

use tidings_proto::fanout::{Event, PublishResponse};
use tidings_tests::{
    Backend,
    checker::{Place, numbered, publisher},
    event,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;

pub(crate) use self::source::Queue;
use crate::{
    ledger::{Accepted, Ledger},
    plan::Pace,
};

/// Longer than any pause of a fanout: what was given up might still be sent by it, behind what is sent elsewhere.
const DEADLINE: Duration = Duration::from_secs(20);

/// Before what was refused is sent again.
const PAUSE: Duration = Duration::from_millis(30);

/// How a publisher publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One event after the other in each channel.
    Unary,
    /// Some for each channel in one call.
    Batch,
    /// Many under way on one stream.
    Stream,
    /// Into a Redis stream that a fanout reads.
    Source,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Unary, Self::Batch, Self::Stream, Self::Source];
}

/// What a publisher needs.
#[derive(Clone)]
pub(crate) struct Desk {
    /// Who it is.
    pub(crate) publisher: u32,
    pub(crate) backends: Vec<Backend>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) channels: Arc<[String]>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) pace: Pace,
    /// Whether it goes on with new events.
    pub(crate) open: watch::Receiver<bool>,
}

/// A publisher that runs until it dies, or has had all accepted once no new events are to come.
pub(crate) struct Publisher {
    running: JoinHandle<()>,
}

/// An event on its way.
#[derive(Debug, Clone, Copy)]
struct Outgoing {
    channel: usize,
    number: u64,
    sent: Instant,
}

impl Publisher {
    pub(crate) fn start(desk: Desk, way: Way) -> Self {
        let tasks = TaskTracker::new();
        let running = match way {
            Way::Unary => tasks.spawn(unary::run(desk)),
            Way::Batch => tasks.spawn(batch::run(desk)),
            Way::Stream => tasks.spawn(stream::run(desk)),
            Way::Source => tasks.spawn(source::run(desk)),
        };
        Self { running }
    }

    /// It ends in the middle of whatever it does.
    pub(crate) fn die(&self) {
        self.running.abort();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.running.is_finished()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Desk {
    fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// How many events of a channel are published at once, and how long it is until the next are.
    fn rhythm(&self, each: u32, pace: Duration) -> (u32, Duration) {
        match self.pace {
            Pace::Busy => (each, pace),
            Pace::Calm => (1, Duration::from_secs(2)),
        }
    }

    fn outgoing(&self, channel: usize, n: u32) -> Outgoing {
        Outgoing {
            channel,
            number: numbered(self.publisher, n),
            sent: Instant::now(),
        }
    }

    fn event(&self, outgoing: Outgoing) -> Event {
        let channel = &self.channels[outgoing.channel];
        Event {
            id: id(channel, outgoing.number),
            ..event("number", &outgoing.number.to_string(), &[channel])
        }
    }

    /// Notes what was accepted; whether it was.
    fn note(&self, outgoing: Outgoing, fanout: usize, answer: &PublishResponse) -> bool {
        let Some(result) = answer.results.first() else {
            return false;
        };
        if answer.error.is_some() || result.error.is_some() {
            return false;
        }
        let at = (!result.epoch.is_empty()).then(|| Place {
            epoch: result.epoch.clone(),
            offset: result.offset,
        });
        self.ledger.accept(Accepted {
            channel: outgoing.channel,
            number: outgoing.number,
            at,
            fanout: Some(fanout),
            sent: outgoing.sent,
        });
        true
    }
}

fn id(channel: &str, number: u64) -> String {
    let (publisher, n) = publisher(number);
    format!("{channel}-{publisher}-{n}")
}
