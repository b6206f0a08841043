//! Compiles the Centrifuge messages with protox, a protobuf compiler in Rust: no system `protoc` is needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.join("centrifuge").display());
    let files = protox::compile(["centrifuge/client.proto"], [&root])?;
    // Maps in order: what is written depends on nothing but what is said.
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .compile_fds(files)?;
    Ok(())
}
