//! Members, the gateways that report them, and the presence service: whatever happens in between, presence ends up right.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod away;
mod checking;
mod crowd;
mod faults;
mod gateway;
mod replica;
mod reports;
mod roaming;
mod scene;
mod schedule;
mod sweep;
