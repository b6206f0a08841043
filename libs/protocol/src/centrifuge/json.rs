//! The JSON encoding: one object a line, joined by `\n`.

pub(super) mod body;
mod decode;
mod encode;
pub(super) mod object;
pub(super) mod wire;

pub use decode::{Malformed, commands};
pub use encode::{push, reply};
