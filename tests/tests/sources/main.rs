//! Sources: what is put into a real Redis stream reaches real clients, whatever dies in between.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod redis_faults;
mod redis_stream;
mod stream;
