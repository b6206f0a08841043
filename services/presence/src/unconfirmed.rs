//! Leases under which something was written that nobody knows to be in time: the answer did not arrive, the caller was dropped,
//! or the lease had ended and what was written could not be taken back. It may have landed after the lease was swept, so the
//! sweeper of this replica has such a lease swept once more when it is over.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use crate::member::Lease;

/// Clones are the same. There are no more than attachments that have not been settled yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unconfirmed(Arc<Mutex<HashSet<Lease>>>);

impl Unconfirmed {
    /// A write under the lease begins.
    pub(crate) fn begin(&self, lease: &Lease) {
        self.0.lock().insert(lease.clone());
    }

    /// All that was written under the lease was in time, or will be swept.
    pub(crate) fn settle(&self, lease: &Lease) {
        self.0.lock().remove(lease);
    }

    /// All that are not settled.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.0.lock().iter().cloned().collect()
    }
}
