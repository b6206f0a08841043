//! What publishers had accepted: who, what, where, when, by which fanout.

use std::sync::{Mutex, MutexGuard};

use tidings_tests::checker::Place;
use tokio::time::Instant;

/// One event that was accepted in one channel.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) channel: usize,
    pub(crate) number: u64,
    /// Where it is; `None` where nothing is kept, and from a source, which does not say.
    pub(crate) at: Option<Place>,
    /// Which fanout answered; `None` from a source.
    pub(crate) fanout: Option<usize>,
    pub(crate) sent: Instant,
}

/// Shared by all publishers of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<Accepted>>);

impl Ledger {
    pub(crate) fn accept(&self, accepted: Accepted) {
        self.all().push(accepted);
    }

    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<Accepted>> {
        self.0.lock().unwrap()
    }

    /// Whether one of these publishers was sent and acknowledged something in a channel since then.
    pub(crate) fn goes_on(&self, since: Instant, is: impl Fn(&Accepted) -> bool) -> bool {
        let all = self.all();
        all.iter()
            .rev()
            .take(5000)
            .any(|accepted| accepted.sent > since && is(accepted))
    }
}
