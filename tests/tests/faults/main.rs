//! Streams through failures: each client has every publication of its stream once and in order, or was told that it has not.
//!
//! One scene for each promise. What is drawn at random, with more publishers, all kinds of clients and presence, is in
//! `tests/chaos`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod checking;
mod failover;
mod gateways;
mod isolation;
mod publisher;
mod redis;
mod scene;
