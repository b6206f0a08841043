//! The Centrifuge client protocol v2, as the official SDKs speak it.
//!
//! A frame from the client carries one or more commands, a frame to the client one or more replies and pushes. In
//! [`json`] and [`protobuf`] these are written; [`emulation`] is how commands come where the connection carries none,
//! and [`uni`] is the protocol for clients that only listen.

pub mod emulation;
mod field;
pub mod json;
pub mod protobuf;
pub mod uni;
