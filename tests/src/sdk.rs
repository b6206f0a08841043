//! Clients that others wrote, in Node: the real `centrifuge` SDK, and gRPC from the `.proto` files alone.
//!
//! The programs are in `interop/`. [`Sdk`] drives its program by lines of JSON, commands in and events out, so
//! that what happens between servers and clients is told, and judged, in one place: the test.

use std::{
    collections::VecDeque,
    env,
    path::PathBuf,
    process::{self, Stdio},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::eventually::in_time;

/// Whether there is a Node with the packages of `interop/`. Says so when there is not.
///
/// # Panics
/// When there is not, although `CI` or `TIDINGS_REQUIRE_NODE` is set.
#[must_use]
pub fn has_node() -> bool {
    let version = process::Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let missing = if version.is_err() {
        "node is not installed"
    } else if !folder().join("node_modules/centrifuge").exists() {
        "the packages of tests/interop are not installed (npm ci)"
    } else {
        return true;
    };
    let required = ["CI", "TIDINGS_REQUIRE_NODE"]
        .iter()
        .any(|name| env::var_os(name).is_some());
    assert!(
        !required,
        "{missing}, and the environment requires it; scripts/test installs it"
    );
    println!("SKIPPED: {missing}");
    false
}

/// Runs one of the programs to its end: what it printed, which is one line of JSON.
///
/// # Panics
/// When it fails.
pub async fn node(program: &str, arguments: &[&str]) -> Value {
    let output = in_time(
        "the end of a Node program",
        command(program).args(arguments).output(),
    )
    .await;
    let output = output.expect("node runs");
    assert!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("a line of JSON")
}

/// The SDK, in a process of its own. Ends when it is dropped.
pub struct Sdk {
    _child: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    /// What came while something else was waited for.
    earlier: VecDeque<Value>,
}

impl Sdk {
    /// Starts it and has it connect to `url`, with a token or without. With one, it asks the test for another when
    /// it needs one (the event `token_wanted`, the command `token`).
    ///
    /// # Panics
    /// When Node does not run.
    pub async fn connect(url: &str, token: Option<&str>) -> Self {
        Self::start(&json!({ "do": "connect", "url": url, "token": token })).await
    }

    /// The same, in the protocol's Protobuf encoding.
    ///
    /// # Panics
    /// When Node does not run.
    pub async fn connect_in_protobuf(url: &str, token: Option<&str>) -> Self {
        Self::start(&json!({ "do": "connect", "url": url, "token": token, "protobuf": true })).await
    }

    async fn start(connect: &Value) -> Self {
        let mut child = command("sdk.mjs")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let mut sdk = Self {
            commands: child.stdin.take().expect("it is piped"),
            events: BufReader::new(child.stdout.take().expect("it is piped")).lines(),
            earlier: VecDeque::new(),
            _child: child,
        };
        sdk.tell(connect).await;
        sdk
    }

    /// Gives a command.
    ///
    /// # Panics
    /// When it has ended.
    pub async fn tell(&mut self, command: &Value) {
        let line = format!("{command}\n");
        self.commands
            .write_all(line.as_bytes())
            .await
            .expect("the SDK runs");
    }

    /// The next event of this kind. Others are kept for when they are asked for.
    ///
    /// # Panics
    /// When there is none.
    pub async fn event(&mut self, kind: &str) -> Value {
        if let Some(at) = self.earlier.iter().position(|event| event["event"] == kind) {
            return self.earlier.remove(at).expect("it is there");
        }
        loop {
            let line = in_time(&format!("the SDK's event {kind:?}"), self.events.next_line()).await;
            let line = line.expect("its output can be read").expect("the SDK runs");
            let event: Value = serde_json::from_str(&line).expect("events are JSON");
            if event["event"] == kind {
                return event;
            }
            self.earlier.push_back(event);
        }
    }

    /// Gives a command that has a result, and waits for it: `{"result":…}` or `{"code":…,"message":…}`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn ask(&mut self, command: &Value) -> Value {
        self.tell(command).await;
        self.event("answer").await
    }

    /// Forgets what has come and was not asked for.
    pub fn forget(&mut self) {
        self.earlier.clear();
    }

    /// Whether an event of this kind has come and was not asked for yet.
    #[must_use]
    pub fn had(&self, kind: &str) -> bool {
        self.earlier.iter().any(|event| event["event"] == kind)
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(program).current_dir(folder()).kill_on_drop(true);
    command
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop")
}
