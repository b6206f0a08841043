//! Streams through failures: each client has every publication of its stream once and in order, or was told that it has not.
//!
//! One scene for each promise. What is drawn at random, with more publishers, all kinds of clients and presence, is in
//! `tests/chaos`; the scene `chaos` here is covered by its world `aof`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chaos;
mod checking;
mod failover;
mod gateways;
mod publisher;
mod redis;
mod scene;
