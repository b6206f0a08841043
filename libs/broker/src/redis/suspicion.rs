//! The suspicion that Redis may have lost something: raised with each new connection and each other generation, awaited by
//! the comparison of what was acknowledged (`audit`).

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

use tokio::sync::Notify;

/// A suspicion of one Redis, or of any node of a Cluster.
#[derive(Default)]
pub(super) struct Suspicion {
    raised: Notify,
    count: AtomicU64,
}

impl Suspicion {
    /// Something may have been lost before now.
    pub(super) fn raise(&self) {
        self.count.fetch_add(1, AcqRel);
        self.raised.notify_one();
    }

    /// How often it was raised. A request whose answer arrives after the count has changed may be missing from the
    /// comparison that began meanwhile.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Acquire)
    }

    /// Returns once it was raised since the last time.
    pub(super) async fn raised(&self) {
        self.raised.notified().await;
    }
}
