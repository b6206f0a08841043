//! That Redis is suspected of a loss: raised with each new connection and each other generation, awaited by
//! the comparison of what was acknowledged (`audit`).

use std::{
    collections::HashSet,
    mem,
    sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire},
};

use parking_lot::Mutex;
use tidings_core::Channel;
use tokio::sync::Notify;

use super::evidence::CHANNELS;

/// Whether one Redis, or any node of a Cluster, is suspected of a loss.
#[derive(Default)]
pub(super) struct Suspected {
    changed: Notify,
    count: AtomicU64,
    late: Mutex<HashSet<Channel>>,
}

impl Suspected {
    /// Something may have been lost before now.
    pub(super) fn raise(&self) {
        self.count.fetch_add(1, AcqRel);
        self.changed.notify_one();
    }

    /// How often it was raised. What is acknowledged to a request that began under another count may be missing from the
    /// comparison that began meanwhile: its channels are [`late`](Self::late).
    pub(super) fn count(&self) -> u64 {
        self.count.load(Acquire)
    }

    /// These channels have to be compared once more, and no others: whoever publishes under load is late again and again.
    pub(super) fn late<'a>(&self, channels: impl Iterator<Item = &'a Channel>) {
        let mut late = self.late.lock();
        let room = CHANNELS.saturating_sub(late.len());
        late.extend(channels.take(room).cloned());
        drop(late);
        self.changed.notify_one();
    }

    /// Returns once it was raised, or something was late, since the last time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The channels that were late since the last time.
    pub(super) fn take_late(&self) -> HashSet<Channel> {
        mem::take(&mut *self.late.lock())
    }
}
