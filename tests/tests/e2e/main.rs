//! What a user sees, end to end: real processes, a real Redis, clients on real sockets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bad_input;
mod cluster;
mod config;
mod control;
mod dev;
mod drain;
mod plain;
mod presence;
mod redis_away;
mod reflection;
mod split;
mod tokens;
mod trace;
