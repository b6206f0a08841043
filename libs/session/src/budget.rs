//! How many commands a client may send: a token bucket that is filled by the time that passes.

use std::time::Instant;

/// The bucket holds this many seconds' worth.
const BURST_SECONDS: f32 = 4.0;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    tokens: f32,
    filled: Instant,
}

impl Budget {
    pub(crate) fn full(per_second: u32, now: Instant) -> Self {
        Self {
            tokens: capacity(per_second),
            filled: now,
        }
    }

    /// Pays for one command. False when there is nothing left to pay with.
    pub(crate) fn pay(&mut self, per_second: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f32();
        self.tokens = (self.tokens + passed * rate(per_second)).min(capacity(per_second));
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[expect(clippy::cast_precision_loss, reason = "a limit, not an account")]
fn rate(per_second: u32) -> f32 {
    per_second as f32
}

fn capacity(per_second: u32) -> f32 {
    rate(per_second) * BURST_SECONDS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn a_burst_is_let_through_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut budget = Budget::full(10, start);
        let paid = |budget: &mut Budget, now| (0..1000).take_while(|_| budget.pay(10, now)).count();
        assert_eq!(paid(&mut budget, start), 40);
        assert_eq!(paid(&mut budget, start + Duration::from_secs(1)), 10);
        assert_eq!(paid(&mut budget, start + Duration::from_secs(3600)), 40);
    }
}
