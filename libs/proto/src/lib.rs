//! Code generated from `proto/`, nothing else. These are wire types: they are converted to and from the
//! vocabulary of `tidings-core` where they enter and leave a service, and go no further in.
#![allow(
    missing_docs,
    clippy::all,
    reason = "generated code; the .proto files are the documentation"
)]

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

/// All the services' descriptors, encoded, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tidings.bin"));
