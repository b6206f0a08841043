//! The JSON encoding: one object a line, joined by `\n`.

mod decode;
mod encode;
mod object;

pub use decode::{Malformed, commands};
pub use encode::{push, reply};
