//! The fanout service: a backend says once that something happened, and every channel that should hear of it does.
//!
//! In reading order, which is the way of an event: [`door`] is the port, `grpc` checks a request and makes an
//! event of it, `once` gives it the name by which a repeat is known, [`routing`] and [`template`] find its channels,
//! [`payload`] makes what clients get, and `publish` hands that to the broker. What backends want done with connections
//! goes to the gateways by `control`. `limit` and `refusals` keep API keys within their rate and say who was
//! refused. [`source`] takes events from elsewhere and sends them the same way. [`config`] is what an operator says
//! about all this, `metrics` what they see of it.

pub mod config;
mod control;
pub mod door;
mod grpc;
mod http;
mod limit;
mod metrics;
mod once;
pub mod payload;
mod publish;
mod refusals;
pub mod routing;
pub mod source;
pub mod template;

pub use config::{Config, Route};
pub use control::NODES;
pub use door::{Deps, Fanout};
pub use payload::Payload;
pub use routing::Routes;
