//! The leases of the embedded store, and until when each is live.
//!
//! The store is in the process of whoever asks it, so its only outage is that the process stood still. That is counted out
//! likewise: a gateway in the same process could not renew its lease either.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::super::{Ended, EndedAgain, Epoch, Renewed};
use crate::member::{GatewayId, Lease};

#[derive(Debug)]
pub(super) struct Leases {
    terms: BTreeMap<Lease, Term>,
    /// When somebody last asked.
    answered: Instant,
    born: Instant,
    epoch: Epoch,
    last_serial: u64,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    ends: Instant,
    length: Duration,
}

impl Leases {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            terms: BTreeMap::new(),
            answered: Instant::now(),
            born: Instant::now(),
            epoch: Epoch(now.as_micros().try_into().unwrap_or(u64::MAX)),
            last_serial: 0,
        }
    }

    /// Counts out the time in which nobody asked, if it was long. Comes before everything else.
    pub(super) fn judge(&mut self) -> Instant {
        let now = Instant::now();
        let gap = now - self.answered;
        for term in self.terms.values_mut() {
            if gap * 3 > term.length && term.ends > self.answered {
                term.ends = now + term.length;
            }
        }
        self.answered = now;
        now
    }

    pub(super) fn attach(&mut self, gateway: &GatewayId, length: Duration) -> (Lease, Epoch) {
        let now = self.judge();
        self.last_serial += 1;
        let lease = Lease {
            gateway: gateway.clone(),
            serial: self.last_serial,
        };
        let ends = now + length;
        self.terms.insert(lease.clone(), Term { ends, length });
        for (_, term) in self.terms.range_mut(oldest(&lease)..lease.clone()) {
            if term.ends > now {
                term.ends = term.ends.max(ends);
            }
        }
        (lease, self.epoch)
    }

    pub(super) fn renew(&mut self, lease: &Lease, length: Duration) -> Renewed {
        let now = self.judge();
        if !self.is_live(lease) {
            return Renewed::Ended;
        }
        let ends = now + length;
        for (_, term) in self.terms.range_mut(oldest(lease)..=lease.clone()) {
            if term.ends > now {
                *term = Term { ends, length };
            }
        }
        Renewed::Lives
    }

    pub(super) fn supersede(&mut self, lease: &Lease) {
        let now = self.judge();
        for (_, term) in self.terms.range_mut(oldest(lease)..lease.clone()) {
            term.ends = term.ends.min(now);
        }
    }

    pub(super) fn end(&mut self, lease: &Lease) {
        let (ends, length) = (self.judge(), Duration::ZERO);
        self.terms.insert(lease.clone(), Term { ends, length });
    }

    pub(super) fn end_again(&mut self, lease: &Lease) -> EndedAgain {
        self.judge();
        if self.is_live(lease) {
            return EndedAgain::Lives;
        }
        let was = if self.terms.contains_key(lease) {
            EndedAgain::WasOver
        } else {
            EndedAgain::WasSwept
        };
        self.end(lease);
        was
    }

    pub(super) fn forget(&mut self, lease: &Lease) {
        self.terms.remove(lease);
    }

    pub(super) fn ended(&mut self) -> Ended {
        let now = self.judge();
        let (live, ended): (Vec<_>, Vec<_>) = self.terms.iter().partition(|(_, term)| term.ends > now);
        Ended {
            leases: ended.into_iter().map(|(lease, _)| lease.clone()).collect(),
            shortest: live.into_iter().map(|(_, term)| term.length).min(),
            unscrubbed: None,
        }
    }

    /// Whether every gateway has had time to report its members.
    pub(super) fn is_complete(&self) -> bool {
        let longest = self.terms.values().map(|term| term.length).max();
        self.answered - self.born >= longest.unwrap_or_default()
    }

    /// As of the last judgement.
    pub(super) fn is_live(&self, lease: &Lease) -> bool {
        self.terms
            .get(lease)
            .is_some_and(|term| term.ends > self.answered)
    }
}

/// What sorts before all leases of a gateway.
fn oldest(lease: &Lease) -> Lease {
    Lease {
        serial: 0,
        ..lease.clone()
    }
}
