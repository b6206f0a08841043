//! Client wire formats: bytes to commands, replies and pushes to bytes.
//!
//! Two families speak to the same rules: the Centrifuge protocol v2 ([`centrifuge`]) and the plain one
//! ([`plain`]), where each message is one publication's bare data. [`command`] and [`reply`] are what they
//! have in common, free of any format; [`error`] and [`close`] are the two ways in which a client is told no;
//! [`delta`] is how a publication is sent as what differs from the one before.
//!
//! Pure: no I/O, no clock, no knowledge of sockets. The session never sees bytes, and this crate never decides.

pub mod centrifuge;
pub mod close;
pub mod command;
mod data;
pub mod delta;
pub mod error;
pub mod plain;
pub mod reply;

pub use close::CloseReason;
pub use command::{Command, Request};
pub use error::Error;
pub use reply::{Push, Reply, UnsubscribeReason};
