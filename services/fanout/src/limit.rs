//! How fast each API key may go: a token bucket per key, for as long as the process runs.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tidings_auth::{Key, Keys, keys::Limit};
use tokio::time::Instant;

/// The buckets of the keys that have a limit, by name.
#[derive(Debug, Default)]
pub(crate) struct Limits(HashMap<String, Mutex<Bucket>>);

/// Full, it lets a burst through; it fills at the rate.
#[derive(Debug)]
struct Bucket {
    limit: Limit,
    /// When it is full again, if nothing more is taken.
    full: Instant,
}

impl Limits {
    pub(crate) fn of(keys: &Keys, now: Instant) -> Self {
        let limited = keys.iter().filter_map(|key| Some((key.name(), key.limit()?)));
        Self(
            limited
                .map(|(name, limit)| (name.to_owned(), Mutex::new(Bucket { limit, full: now })))
                .collect(),
        )
    }

    /// Takes one from what `key` may do, or says after how long it can be had.
    pub(crate) fn take(&self, key: &Key, now: Instant) -> Result<(), Duration> {
        match self.0.get(key.name()) {
            Some(bucket) => bucket.lock().take(now),
            None => Ok(()),
        }
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let Limit { rate, burst } = self.limit;
        let full = self.full.max(now) + rate.interval();
        // An empty bucket takes this long to fill.
        let (missing, capacity) = (full - now, rate.interval() * burst.get());
        if missing > capacity {
            return Err(missing - capacity);
        }
        self.full = full;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket {
            limit: Limit {
                rate: "10/s".parse().unwrap(),
                burst: NonZeroU32::new(3).unwrap(),
            },
            full: start,
        };
        let tenth = Duration::from_millis(100);
        assert_eq!(
            [(); 4].map(|()| bucket.take(start)),
            [Ok(()), Ok(()), Ok(()), Err(tenth)]
        );
        // What is refused costs nothing.
        assert_eq!(bucket.take(start + tenth), Ok(()));
        assert_eq!(bucket.take(start + tenth), Err(tenth));
        let later = start + Duration::from_secs(3600);
        assert_eq!(
            [(); 4].map(|()| bucket.take(later)),
            [Ok(()), Ok(()), Ok(()), Err(tenth)]
        );
    }
}
