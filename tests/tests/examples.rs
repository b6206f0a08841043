//! The examples of `examples/`, as a newcomer runs them: each publishes to a node that has just been started.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use serde_json::json;
use tidings_tests::{Client, Launch, in_time};
use tokio::process::Command;

fn folder(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(language)
}

/// Whether what an example needs is there. Says so when it is not.
fn is_installed(language: &str, needs: &str) -> bool {
    if folder(language).join(needs).exists() {
        return true;
    }
    let missing = format!("examples/{language}/{needs} is not there; scripts/test installs it");
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    println!("SKIPPED: {missing}");
    false
}

/// Runs an example in its folder, and checks that a client hears of what it publishes.
async fn publishes(language: &str, command: &mut Command) {
    let node = Launch::new("dev").config("").start().await;
    let mut client = Client::open(&node.websocket()).await;
    client.ask("connect", json!({})).await;
    client.subscribe("tasks:1").await;
    command
        .current_dir(folder(language))
        .env("TIDINGS_SERVER", node.backends().replace("http://", ""))
        .env_remove("TIDINGS_API_KEY")
        .kill_on_drop(true);
    let output = in_time("the end of the example", command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.starts_with("published ") && said.contains(" to tasks:1"),
        "{said}"
    );
    let (channel, heard) = client.hear().await;
    assert_eq!(channel, "tasks:1");
    assert_eq!(heard["type"], "task.created", "{heard}");
    assert_eq!(heard["source"], format!("{language}-example"));
}

#[tokio::test]
async fn python_publishes() {
    if is_installed("python", ".venv/installed") {
        let python = folder("python").join(".venv/bin/python");
        publishes("python", Command::new(python).arg("publish.py")).await;
    }
}

#[tokio::test]
async fn node_publishes() {
    if is_installed("node", "node_modules/@grpc/grpc-js") {
        publishes("node", Command::new("node").arg("publish.mjs")).await;
    }
}

#[tokio::test]
async fn rust_publishes() {
    let cargo = |what: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args([what, "--quiet", "--locked"])
            .current_dir(folder("rust"));
        cargo
    };
    assert!(cargo("build").status().await.unwrap().success());
    publishes("rust", &mut cargo("run")).await;
}
