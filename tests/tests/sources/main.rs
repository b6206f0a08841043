//! Sources: what is put into a real Redis stream, or a real PostgreSQL, reaches real clients, whatever dies in between.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dead_shard;
mod outbox;
mod postgres_faults;
mod postgres_outbox;
mod postgres_waiting;
mod redis_faults;
mod redis_order;
mod redis_stream;
mod stream;
