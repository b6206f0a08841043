//! Compiles `proto/` with protox, a protobuf compiler in Rust: no system `protoc` is needed.

use std::{env, fs, path::PathBuf};

const FILES: [&str; 3] = [
    "tidings/bus/v1/bus.proto",
    "tidings/fanout/v1/fanout.proto",
    "tidings/presence/v1/presence.proto",
];

/// What the user's backend is asked: not a service of ours, so that reflection does not show it.
const PROXY: &str = "centrifuge/proxy.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let files = protox::compile(FILES, [&root])?;
    let descriptor = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("tidings.bin");
    fs::write(descriptor, prost::Message::encode_to_vec(&files))?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;

    // The same messages in JSON: see `src/json.rs`. Whoever calls it calls all methods in the same way, by their paths.
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .message_attribute(
            ".",
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
        )
        .field_attribute(
            ".",
            "#[serde(with = \"crate::json\", skip_serializing_if = \"crate::json::is_absent\")]",
        )
        .compile_fds(protox::compile([PROXY], [&root])?)?;
    Ok(())
}
