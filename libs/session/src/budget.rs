//! How many commands a client may send: a token bucket that is filled by the time that passes.

use std::time::Instant;

/// The bucket holds this many seconds' worth; a client that owes as much again is flooding.
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

    /// Pays for one command. One that is refused is owed for: answering it costs too.
    pub(crate) fn pay(&mut self, per_second: u32, now: Instant) -> Paid {
        let passed = now.saturating_duration_since(self.filled).as_secs_f32();
        self.tokens = (self.tokens + passed * rate(per_second)).min(capacity(per_second)) - 1.0;
        self.filled = now;
        if self.tokens >= 0.0 {
            Paid::Yes
        } else if self.tokens > -capacity(per_second) {
            Paid::No
        } else {
            Paid::Flood
        }
    }
}

/// Whether a command was paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paid {
    Yes,
    No,
    Flood,
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
    fn a_burst_is_let_through_then_the_rate_holds_and_who_goes_on_is_flooding() {
        let start = Instant::now();
        let mut budget = Budget::full(10, start);
        let count = |budget: &mut Budget, now, outcome| {
            (0..1000).take_while(|_| budget.pay(10, now) == outcome).count()
        };
        assert_eq!(count(&mut budget, start, Paid::Yes), 40);
        // The first refusal ended the count above.
        assert_eq!(count(&mut budget, start, Paid::No), 38);
        assert_eq!(budget.pay(10, start), Paid::Flood);
        assert_eq!(
            count(&mut budget, start + Duration::from_secs(3600), Paid::Yes),
            40
        );
        assert_eq!(
            count(&mut budget, start + Duration::from_secs(3601), Paid::Yes),
            9
        );
    }
}
