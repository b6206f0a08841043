//! Clients that others wrote: the real Centrifuge SDKs over each of their transports, a browser, and gRPC from the
//! `.proto` files alone.
//!
//! A scenario is played in every way that an SDK reaches a node ([`in_every_way`]) unless it is about one of them.
//!
//! [`in_every_way`]: tidings_tests::in_every_way

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod browser;
mod cent;
mod cluster;
mod delta;
mod grpc;
mod identity;
mod liveness;
mod node;
mod not_offered;
mod presence;
mod proxy;
mod readme;
mod recovery;
mod runtime;
mod server_side;
mod subscription_tokens;
mod tags;
mod talk;
