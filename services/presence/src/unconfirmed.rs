//! Leases under which something was written that may not be in time: the answer did not arrive, the caller was dropped, or the
//! lease had ended and what was written could not be taken back. It may land after the lease was swept, so the sweeper of
//! this replica has such a lease swept again, once no write under it is in flight any more.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::member::Lease;

/// How many sweeps of a lease begin after its last write in flight. A command whose caller is gone may be waiting in front of a
/// Redis that hangs, and be done right after what the first sweep has sent there; but before what the second sends.
const SWEEPS: u8 = 2;

/// The leases of one replica with writes in flight or in doubt. Clones are the same. There are no more than attachments that
/// have such a write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unconfirmed(Arc<Mutex<HashMap<Lease, Writes>>>);

#[derive(Debug, Default)]
struct Writes {
    in_flight: usize,
    /// How many more sweeps the lease needs for what is in doubt.
    sweeps: u8,
}

/// A write in flight. Dropped before it is [confirmed](Self::confirm) it is in doubt.
#[derive(Debug)]
pub(crate) struct Write {
    unconfirmed: Unconfirmed,
    lease: Lease,
    confirmed: bool,
}

impl Unconfirmed {
    /// A write under the lease begins.
    pub(crate) fn begin(&self, lease: &Lease) -> Write {
        self.0.lock().entry(lease.clone()).or_default().in_flight += 1;
        Write {
            unconfirmed: self.clone(),
            lease: lease.clone(),
            confirmed: false,
        }
    }

    /// The lease was over and swept, and has been ended once more: one of the sweeps that it needs is on its way.
    pub(crate) fn ended_again(&self, lease: &Lease) {
        let mut all = self.0.lock();
        if let Some(writes) = all.get_mut(lease) {
            writes.sweeps = writes.sweeps.saturating_sub(1);
            if writes.is_settled() {
                all.remove(lease);
            }
        }
    }

    /// The leases with writes in doubt and none in flight: what is swept before that may be written again.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        let all = self.0.lock();
        let in_doubt = all.iter().filter(|(_, writes)| writes.in_flight == 0);
        in_doubt.map(|(lease, _)| lease.clone()).collect()
    }
}

impl Writes {
    fn is_settled(&self) -> bool {
        self.in_flight == 0 && self.sweeps == 0
    }
}

impl Write {
    /// What was written was in time: it goes with its lease. Or it is swept in any case.
    pub(crate) fn confirm(mut self) {
        self.confirmed = true;
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        let mut all = self.unconfirmed.0.lock();
        if let Some(writes) = all.get_mut(&self.lease) {
            writes.in_flight -= 1;
            if !self.confirmed {
                writes.sweeps = SWEEPS;
            }
            if writes.is_settled() {
                all.remove(&self.lease);
            }
        }
    }
}
