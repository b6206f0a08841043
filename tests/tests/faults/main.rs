//! Streams through failures: each client has every publication of its stream once and in order, or was told that it has not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chaos;
mod checking;
mod failover;
mod gateways;
mod publisher;
mod redis;
mod scene;
