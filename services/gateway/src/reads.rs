//! Reads of streams, coalesced: all who ask for the same part at the same time share one read.
//!
//! Whoever asks gets what was read after it asked: at most one read of a part is under way and one more waits for it, which
//! all later callers join. So a thousand clients that come back to the same position cost a few reads, and nobody is given
//! what was true before it was subscribed.
//!
//! Every read carries the evidence of the node, as it is when the read begins.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use parking_lot::Mutex;
use tidings_broker::{Error, History, Query, Streams, Watermark};
use tidings_core::{Channel, Retention};
use tokio::sync::{Semaphore, watch};

use crate::{evidence::Evidence, shrink::Shrink};

/// Reads that may be under way at once. The others wait in line.
const READS: usize = 256;

/// Reads for single clients that may be under way, or wait for that. They have a queue of their own: however many come
/// back, and go again before they are answered, those who are here are not held up by them.
const RECOVERIES: usize = 64;
const WAITING: usize = 4096;

/// What a read brought.
pub(crate) type Outcome = Result<Arc<Reading>, Error>;

/// A part of a stream, and what the question carried.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) history: History,
    /// The evidence that the read carried.
    pub(crate) carried: Option<Watermark>,
}

/// A bound of a read in bytes; at least one.
pub(crate) fn budget(bytes: usize) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX)).or(Some(NonZeroU32::MIN))
}

/// Reads streams for all cores of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reads(Arc<Inner>);

struct Inner {
    streams: Streams,
    evidence: Arc<Evidence>,
    places: Semaphore,
    recoveries: Semaphore,
    /// How many more clients may wait for a place among the recoveries.
    waiting: Semaphore,
    slots: Mutex<HashMap<Part, Arc<Slot>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    channel: Channel,
    query: Query,
}

/// Where the askers for one part meet.
#[derive(Default)]
struct Slot {
    /// Held by the read that is under way.
    under_way: tokio::sync::Mutex<()>,
    /// How to hear of the read that has not begun.
    next: Mutex<Option<watch::Receiver<Option<Outcome>>>>,
}

/// What an asker has to do.
enum Role {
    Read(watch::Sender<Option<Outcome>>),
    Wait(watch::Receiver<Option<Outcome>>),
}

impl Reads {
    pub(crate) fn new(streams: Streams, evidence: Arc<Evidence>) -> Self {
        Self(Arc::new(Inner {
            streams,
            evidence,
            places: Semaphore::new(READS),
            recoveries: Semaphore::new(RECOVERIES),
            waiting: Semaphore::new(WAITING),
            slots: Mutex::default(),
        }))
    }

    /// Reads a part of a stream, once for all who ask for it before the read begins.
    pub(crate) async fn read(&self, channel: &Channel, retention: Retention, query: Query) -> Outcome {
        let part = Part {
            channel: channel.clone(),
            query,
        };
        let slot = self.0.slots.lock().entry(part.clone()).or_default().clone();
        let outcome = match slot.join() {
            Role::Read(tell) => self.lead(&part, retention, &slot, tell).await,
            Role::Wait(hear) => wait(hear).await,
        };
        drop(slot);
        self.forget(&part);
        outcome
    }

    /// Reads a part of a stream for one client, in the queue of those. `Away` when too many wait already.
    pub(crate) async fn recover(&self, channel: &Channel, retention: Retention, query: Query) -> Outcome {
        let Ok(_waiting) = self.0.waiting.try_acquire() else {
            return Err(Error::Away {
                reason: "too many clients come back at once".to_owned(),
            });
        };
        let _place = self.0.recoveries.acquire().await;
        self.read(channel, retention, query).await
    }

    async fn lead(
        &self,
        part: &Part,
        retention: Retention,
        slot: &Slot,
        tell: watch::Sender<Option<Outcome>>,
    ) -> Outcome {
        let _turn = slot.under_way.lock().await;
        let _place = self.0.places.acquire().await;
        // From here on it is too late to join.
        slot.next.lock().take();
        let carried = self.0.evidence.of(&part.channel);
        let outcome = self
            .0
            .streams
            .read(&part.channel, retention, part.query, carried.as_ref())
            .await;
        let outcome = outcome.map(|history| Arc::new(Reading { history, carried }));
        tell.send_replace(Some(outcome.clone()));
        outcome
    }

    /// Lets a slot go that nobody uses.
    fn forget(&self, part: &Part) {
        let mut slots = self.0.slots.lock();
        if slots.get(part).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(part);
            slots.shrink();
        }
    }
}

impl Slot {
    fn join(&self) -> Role {
        let mut next = self.next.lock();
        // A reader that was given up before it began has nothing to tell.
        if let Some(hear) = next.as_ref().filter(|hear| hear.has_changed().is_ok()) {
            return Role::Wait(hear.clone());
        }
        let (tell, hear) = watch::channel(None);
        *next = Some(hear);
        Role::Read(tell)
    }
}

async fn wait(mut hear: watch::Receiver<Option<Outcome>>) -> Outcome {
    match hear.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(outcome)) => outcome.clone(),
        Ok(None) | Err(_) => Err(Error::Away {
            reason: "the read was given up".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroU32,
        time::{Duration, SystemTime},
    };

    use bytes::Bytes;
    use futures_util::future::join_all;
    use tidings_broker::{Broker, Target};
    use tidings_core::{Format, Publication};

    use super::*;

    const ALL: Query = Query {
        since: None,
        limit: 10,
        reverse: false,
        bytes: None,
    };

    fn retention() -> Retention {
        Retention {
            size: NonZeroU32::new(10).unwrap(),
            ttl: Duration::from_secs(60),
        }
    }

    async fn publish(broker: &Broker, channel: &Channel) {
        let publication = Publication::new(Bytes::from_static(b"1"), Format::Json, SystemTime::UNIX_EPOCH);
        let target = Target {
            retention: Some(retention()),
            ..Target::from(channel.clone())
        };
        broker
            .publisher()
            .publish(&[target], &publication)
            .await
            .remove(0)
            .unwrap();
    }

    #[tokio::test]
    async fn those_who_ask_together_share_what_was_read_and_later_ones_see_what_is_new() {
        let (broker, channel) = (Broker::memory(), Channel::parse("news").unwrap());
        let reads = Reads::new(broker.streams(), Arc::new(Evidence::new()));
        publish(&broker, &channel).await;
        let busy = reads.0.places.acquire_many(256).await.unwrap();
        let asked = join_all((0..10).map(|_| reads.read(&channel, retention(), ALL)));
        let (all, ()) = tokio::join!(asked, async { drop(busy) });
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert!(
            all.iter().all(|history| Arc::ptr_eq(history, &all[0])),
            "one read for all"
        );
        publish(&broker, &channel).await;
        let later = reads.read(&channel, retention(), ALL).await.unwrap();
        assert_eq!((all[0].history.top.offset, later.history.top.offset), (1, 2));
        assert!(reads.0.slots.lock().is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn a_read_that_was_given_up_before_it_began_does_not_hold_up_the_next() {
        let (broker, channel) = (Broker::memory(), Channel::parse("news").unwrap());
        let reads = Reads::new(broker.streams(), Arc::new(Evidence::new()));
        let busy = reads.0.places.acquire_many(256).await.unwrap();
        let mut given_up = Box::pin(reads.read(&channel, retention(), ALL));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        drop(busy);
        assert!(reads.read(&channel, retention(), ALL).await.is_ok());
    }
}
