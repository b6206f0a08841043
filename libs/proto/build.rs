//! Compiles `proto/` with protox, a protobuf compiler in Rust: no system `protoc` is needed.

use std::{env, fs, path::PathBuf};

const FILES: [&str; 3] = [
    "tidings/bus/v1/bus.proto",
    "tidings/fanout/v1/fanout.proto",
    "tidings/presence/v1/presence.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let files = protox::compile(FILES, [&root])?;
    let descriptor = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("tidings.bin");
    fs::write(descriptor, prost::Message::encode_to_vec(&files))?;

    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
