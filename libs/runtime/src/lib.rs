//! What every process needs before it does anything of its own: configuration, shutdown, health, and HTTP doors.
//!
//! Nothing here knows what Tidings is about. In reading order: [`config`] is loaded, [`shutdown`] is handed to
//! everything that runs, [`health`] is what the components say about themselves, [`serve`] is the one accept
//! loop behind every HTTP door, and [`operators`] is the door of the people who run it.

pub mod config;
pub mod health;
pub mod operators;
pub mod serve;
pub mod shutdown;
#[cfg(any(test, feature = "test-util"))]
#[expect(clippy::expect_used, reason = "a test may panic")]
pub mod test_util;

pub use health::Health;
pub use shutdown::Shutdown;
