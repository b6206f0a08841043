//! Waiting for conditions. Nothing in these tests sleeps and hopes, and nothing waits for ever.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// Long enough for anything that happens at all, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none in [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "{caller}: in {PATIENCE:?} it was never true that {what}"
            );
            sleep(PAUSE).await;
        }
    }
}

/// What `future` gives, if it gives it in [`PATIENCE`].
///
/// # Panics
/// When it does not; `what` says what was waited for.
#[track_caller]
pub fn in_time<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_) => panic!("{caller}: {what} did not come in {PATIENCE:?}"),
        }
    }
}
