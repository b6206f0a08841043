//! The vocabulary of Tidings: what every crate means by a channel, an event, a publication.
//!
//! Plain values only. Nothing here awaits, reads a clock or opens a socket, and nothing here is a wire
//! type: formats live where bytes enter and leave (`protocol`, `broker`, each service's `grpc.rs`).
//!
//! In reading order: [`channel`] names, [`event`] is what a backend says, [`publication`] is what a channel
//! carries, [`client`] is who listens, [`namespace`] is what they may do, [`filter`] which publications they want.

pub mod channel;
pub mod client;
pub mod event;
pub mod filter;
pub mod glob;
pub mod json;
pub mod namespace;
pub mod publication;
pub mod secret;

pub use channel::Channel;
pub use client::{ClientId, ClientInfo};
pub use event::Event;
pub use filter::Filter;
pub use glob::Glob;
pub use namespace::{DataFormat, DeltaType, Namespace, Namespaces, Overrides, RecoveryMode, Retention};
pub use publication::{Format, Payload, Position, Publication, TraceContext};
pub use secret::Secret;
