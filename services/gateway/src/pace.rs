//! How often each key may do something that costs others: so many times a second, and a burst.
//!
//! The keys are spread over a fixed number of cells, so that whoever uses many of them takes no memory. Two that share a
//! cell share its pace; which do, nobody outside can know. A cell is one number: when it will have been idle for a whole
//! burst's time again (the generic cell rate algorithm, ITU-T I.371).

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::Instant;

/// 512 KiB of cells.
const CELLS: usize = 65_536;

const SECOND: u64 = 1_000_000;

pub(crate) struct Pace {
    /// Microseconds that one time is worth.
    each: u64,
    /// Microseconds of a burst.
    burst: u64,
    began: Instant,
    hasher: RandomState,
    cells: Box<[AtomicU64]>,
}

impl Pace {
    /// `per_second` must not be 0.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let each = SECOND / u64::from(per_second.max(1));
        Self {
            each,
            burst: each * u64::from(burst),
            began: Instant::now(),
            hasher: RandomState::new(),
            cells: std::iter::repeat_with(AtomicU64::default).take(CELLS).collect(),
        }
    }

    /// Counts one time; false when it is one too many, which is not counted.
    pub(crate) fn keeps(&self, key: impl Hash) -> bool {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let cell = self.hasher.hash_one(key) % CELLS as u64;
        let Some(cell) = usize::try_from(cell).ok().and_then(|cell| self.cells.get(cell)) else {
            return false;
        };
        let count = |idle_at: u64| {
            let next = idle_at.max(now).saturating_add(self.each);
            (next - now <= self.burst).then_some(next)
        };
        cell.fetch_update(Relaxed, Relaxed, count).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_so_many_a_second_and_other_keys_are_not_concerned() {
        let pace = Pace::new(50, 200);
        let passes = |key| (0..1000).filter(|_| pace.keeps(key)).count();
        assert_eq!(passes("a"), 200);
        assert_eq!(passes("a"), 0);
        let others = ["b", "c", "d"].map(passes);
        assert!(
            others.iter().filter(|passed| **passed == 200).count() >= 2,
            "{others:?}"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(passes("a"), 50);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(passes("a"), 200);
    }
}
