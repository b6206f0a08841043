//! The Protobuf encoding: messages, each after its length as a varint.

mod decode;
mod encode;

/// The messages of `proto/centrifuge/client.proto`.
pub(super) mod wire {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::use_self,
        reason = "generated code; the .proto file is the documentation"
    )]
    include!(concat!(env!("OUT_DIR"), "/tidings.centrifuge.rs"));
}

pub use decode::{Malformed, commands};
pub use encode::{push, reply};
