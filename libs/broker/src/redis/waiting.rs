//! Publications that wait for Redis to come back: each within its caller's deadline, all of them bounded.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tidings_core::ClientId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Bus, commands::Failure, publish::each, streams::Item};
use crate::{Error, Once, Published, Status, Target};

/// The most publishes that wait.
const PUBLISHES: usize = 10_000;

/// The most bytes that wait.
const BYTES: usize = 64 << 20;

/// How much longer than the deadline a key that was made for a publish is remembered.
const MARGIN: Duration = Duration::from_secs(1);

/// Between two attempts, from half of it on: Redis may be there again before anybody has noticed, and may not be even so.
const PAUSE: Duration = Duration::from_millis(100);

/// What room there is to wait in.
pub(super) struct Waiting {
    publishes: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A permit to wait, until this is dropped.
pub(super) struct Permit {
    _publish: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            publishes: Arc::new(Semaphore::new(PUBLISHES)),
            bytes: Arc::new(Semaphore::new(BYTES)),
        }
    }
}

impl Waiting {
    pub(super) fn permit(&self, bytes: usize) -> Option<Permit> {
        let bytes = u32::try_from(bytes).ok()?;
        Some(Permit {
            _publish: self.publishes.clone().try_acquire_owned().ok()?,
            _bytes: self.bytes.clone().try_acquire_many_owned(bytes).ok()?,
        })
    }
}

impl Bus {
    /// Publishes as [`publish`](Self::publish) does, and again what could not be, until the deadline. Nothing is published
    /// twice: what has no key and might have been sent is not tried again.
    pub(crate) async fn publish_within(
        &self,
        targets: &[Target],
        envelope: &[u8],
        deadline: Option<Instant>,
    ) -> Vec<Result<Published, Error>> {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + self.timeout);
        let given = targets;
        let targets = keyed(targets, deadline);
        let items: Vec<_> = targets.iter().map(|target| Item { target, envelope }).collect();
        let mut results = self.attempt(&items, each, deadline).await;
        let mut permit = None;
        loop {
            let open: Vec<usize> = (0..targets.len())
                .filter(|&at| {
                    results[at]
                        .as_ref()
                        .is_err_and(|failure| again(&targets[at], failure))
                })
                .collect();
            if open.is_empty() || Instant::now() >= deadline {
                break;
            }
            if permit.is_none() {
                permit = self.waiting.permit(envelope.len() * open.len());
                if permit.is_none() {
                    for at in open {
                        results[at] = Err(self.full());
                    }
                    break;
                }
            }
            if tokio::time::timeout_at(deadline, self.returned()).await.is_err() {
                break;
            }
            let some: Vec<_> = open.iter().map(|&at| items[at]).collect();
            let again = self.attempt(&some, each, deadline).await;
            for (at, result) in open.into_iter().zip(again) {
                results[at] = result;
            }
        }
        let results = given.iter().zip(results);
        let results = results.map(|(target, result)| Ok(answered(target, result?)));
        results.collect()
    }

    /// That no more publishes may wait.
    pub(super) fn full(&self) -> Failure {
        Failure::undone(self.peer.away("too much waits for it already"))
    }

    /// Returns when Redis is not known to be unavailable, and a moment has passed.
    pub(super) async fn returned(&self) {
        let pause = rand::rng().random_range(PAUSE / 2..PAUSE);
        tokio::time::sleep(pause).await;
        if self.servers.is_many() {
            // Which of them it is about is not known here, and the others may be well.
            return;
        }
        let mut status = self.status();
        // The bus has the other end.
        let _ = status.wait_for(|status| *status == Status::Up).await;
    }
}

/// The targets that are kept, each with a key, so that they can be asked for again. Those that nobody keeps have one
/// only where it was given: it would make them several times as expensive.
pub(super) fn keyed(targets: &[Target], deadline: Instant) -> Vec<Target> {
    let window = deadline.saturating_duration_since(Instant::now()) + MARGIN;
    let mut key = None;
    let targets = targets.iter().map(|target| {
        let mut target = target.clone();
        if target.retention.is_some() && target.once.is_none() {
            let key: &Arc<str> = key.get_or_insert_with(|| format!("try:{}", ClientId::random()).into());
            target.once = Some(Once {
                key: key.clone(),
                window,
            });
        }
        target
    });
    targets.collect()
}

/// What a publish to `target`, as it was given, is answered: the repeat that a key of our own shows is ours.
pub(super) fn answered(target: &Target, published: Published) -> Published {
    Published {
        duplicate: target.once.is_some() && published.duplicate,
        ..published
    }
}

/// Whether what failed can be tried again, and may succeed.
pub(super) fn again(target: &Target, failure: &Failure) -> bool {
    matches!(failure.error, Error::Away { .. }) && (failure.undone || target.once.is_some())
}
