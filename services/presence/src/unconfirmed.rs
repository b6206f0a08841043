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
    /// How many writes have begun.
    begun: u64,
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
        let mut all = self.0.lock();
        let writes = all.entry(lease.clone()).or_default();
        writes.in_flight += 1;
        writes.begun += 1;
        Write {
            unconfirmed: self.clone(),
            lease: lease.clone(),
            confirmed: false,
        }
    }

    /// The lease was over and swept, and has been ended once more: one of the sweeps that it needs is on its way. Not when a write
    /// has begun since it was [in doubt](Self::leases), so that it may be done after that sweep.
    pub(crate) fn ended_again(&self, lease: &Lease, begun: u64) {
        let mut all = self.0.lock();
        if let Some(writes) = all.get_mut(lease).filter(|writes| writes.begun == begun) {
            writes.sweeps = writes.sweeps.saturating_sub(1);
            if writes.is_settled() {
                all.remove(lease);
            }
        }
    }

    /// The leases with writes in doubt and none in flight: what is swept before that may be written again. With each, how many
    /// writes have begun under it.
    pub(crate) fn leases(&self) -> Vec<(Lease, u64)> {
        let all = self.0.lock();
        let in_doubt = all.iter().filter(|(_, writes)| writes.in_flight == 0);
        in_doubt
            .map(|(lease, writes)| (lease.clone(), writes.begun))
            .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    impl Unconfirmed {
        /// The leases with writes in doubt and none in flight.
        pub(crate) fn in_doubt(&self) -> Vec<Lease> {
            self.leases().into_iter().map(|(lease, _)| lease).collect()
        }
    }

    #[test]
    fn a_sweep_that_began_before_the_last_write_counts_for_nothing() {
        let (unconfirmed, lease) = (Unconfirmed::default(), Lease::parse("g1/1").expect("a lease"));
        drop(unconfirmed.begin(&lease));
        let [(_, begun)] = unconfirmed.leases()[..] else {
            panic!("it is in doubt");
        };
        // The sweep is on its way while another write begins, and is given up.
        drop(unconfirmed.begin(&lease));
        unconfirmed.ended_again(&lease, begun);
        for _ in 0..SWEEPS {
            let [(_, begun)] = unconfirmed.leases()[..] else {
                panic!("it is in doubt until it was swept as often as it needs");
            };
            unconfirmed.ended_again(&lease, begun);
        }
        assert_eq!(unconfirmed.leases(), []);
    }
}
