//! Code generated from `proto/`, and how some of it stands in JSON; nothing else. These are wire types: they are
//! converted to and from the vocabulary of `tidings-core` where they enter and leave a service, and go no further in.
#![allow(
    missing_docs,
    clippy::all,
    reason = "generated code; the .proto files are the documentation"
)]

mod json;

/// What nodes say to each other: `tidings.bus.v1`.
pub mod bus {
    tonic::include_proto!("tidings.bus.v1");
}

/// The backends' door: `tidings.fanout.v1`.
pub mod fanout {
    tonic::include_proto!("tidings.fanout.v1");
}

/// Who is there: `tidings.presence.v1`.
pub mod presence {
    tonic::include_proto!("tidings.presence.v1");
}

/// What the user's backend is asked: `centrifugal.centrifugo.proxy`, in Protobuf and in JSON.
pub mod proxy {
    tonic::include_proto!("centrifugal.centrifugo.proxy");
}

/// The descriptors of all services of ours, encoded, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tidings.bin"));
