//! The backends' door as backends meet it: real gRPC over a real port, the embedded broker behind it.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

mod api;
mod cloudevents;
mod control;
mod gateway;
mod harness;
mod http;
mod keys;
mod many;
mod order;
mod presence;
mod proxy;
mod publish;
mod refuse;
mod routes;
mod streams;
mod surface;
mod survey;
mod tls;
