//! The Centrifuge client protocol v2, as the official SDKs speak it.
//!
//! A frame from the client carries one or more commands, a frame to the client one or more replies and pushes.

pub mod json;
pub mod protobuf;
