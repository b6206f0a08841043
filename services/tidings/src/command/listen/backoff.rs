//! How long to wait before trying again, so that a thousand clients do not try at once.

use std::time::Duration;

use rand::Rng;

/// The shortest wait.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(20);

/// Exponential backoff with full jitter, by the figures of the Centrifuge SDKs: 500 ms to 20 s.
#[derive(Debug, Clone, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait: at random, up to a bound that doubles with each failure in a row.
    pub(super) fn next(&mut self, random: &mut impl Rng) -> Duration {
        let bound = SHORTEST
            .saturating_mul(2u32.saturating_pow(self.failures))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        (SHORTEST + random.random_range(Duration::ZERO..=bound)).min(LONGEST)
    }

    /// It worked: the next failure is a first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    #[test]
    fn waits_grow_at_random_within_their_bounds_and_start_again_after_success() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..64).map(|_| backoff.next(&mut random)).collect();
        assert!(
            waits.iter().all(|wait| (SHORTEST..=LONGEST).contains(wait)),
            "{waits:?}"
        );
        assert!(waits[0] <= SHORTEST * 2 && waits[1] <= SHORTEST * 3, "{waits:?}");
        assert!(waits[8..].iter().any(|wait| *wait > LONGEST / 2), "{waits:?}");
        assert!(
            waits[8..].iter().any(|wait| *wait < LONGEST / 2),
            "full jitter spreads over the whole range"
        );
        backoff.reset();
        assert!(backoff.next(&mut random) <= SHORTEST * 2);
    }
}
