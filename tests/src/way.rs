//! The ways in which clients that others wrote reach a node: an SDK, a transport, an encoding.

use std::{
    any::Any,
    env, fmt,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{self, Stdio},
};

use futures_util::{FutureExt as _, future::join_all};
use tokio::process::Command;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// centrifuge-js over WebSocket, in JSON.
    WebSocket,
    /// centrifuge-js over WebSocket, in Protobuf.
    WebSocketProtobuf,
    /// centrifuge-js over a streamed answer and requests beside it, in JSON.
    HttpStream,
    /// The same in Protobuf.
    HttpStreamProtobuf,
    /// centrifuge-js over server-sent events and requests beside them; they are JSON.
    Sse,
    /// centrifuge-python over WebSocket, in JSON.
    Python,
    /// The same in Protobuf.
    PythonProtobuf,
    /// A page in Chromium: centrifuge-js over WebSocket in JSON, and what every browser has.
    Browser,
}

/// A program that the clients need, and may not be there.
#[derive(Debug, Clone, Copy)]
enum Runtime {
    Node,
    Python,
    Chromium,
}

impl Way {
    /// All that are worth a try of everything.
    pub const ALL: [Self; 7] = [
        Self::WebSocket,
        Self::WebSocketProtobuf,
        Self::HttpStream,
        Self::HttpStreamProtobuf,
        Self::Sse,
        Self::Python,
        Self::PythonProtobuf,
    ];

    /// Whether what it needs is installed. Says so when it is not.
    ///
    /// # Panics
    /// When it is not, although `CI` or a variable like `TIDINGS_REQUIRE_NODE` is set.
    #[must_use]
    pub fn is_installed(self) -> bool {
        let runtime = match self {
            Self::Python | Self::PythonProtobuf => Runtime::Python,
            // Node drives the browser.
            Self::Browser => return Runtime::Node.is_installed() && Runtime::Chromium.is_installed(),
            _ => Runtime::Node,
        };
        runtime.is_installed()
    }

    /// The same channel for nobody else: `namespace:way`.
    #[must_use]
    pub fn channel(self, namespace: &str) -> String {
        format!("{namespace}:{self}")
    }

    /// As the drivers of `interop/` call its transport.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Self::HttpStream | Self::HttpStreamProtobuf => "http_stream",
            Self::Sse => "sse",
            _ => "websocket",
        }
    }

    /// Whether data is bytes in it.
    pub(crate) fn is_protobuf(self) -> bool {
        matches!(
            self,
            Self::WebSocketProtobuf | Self::HttpStreamProtobuf | Self::PythonProtobuf
        )
    }

    /// Its driver.
    pub(crate) fn driver(self) -> Command {
        let mut command = match self {
            Self::Python | Self::PythonProtobuf => python("sdk.py"),
            Self::Browser => {
                let mut browser = node("browser.mjs");
                // It ends when its input does, and cleans up.
                browser
                    .arg(chromium().expect("it is installed"))
                    .kill_on_drop(false);
                browser
            }
            _ => node("sdk.mjs"),
        };
        if self.is_protobuf() {
            command.arg("protobuf");
        }
        command
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Plays a scenario in every way that is installed, all at once: give each what it could trip over the others by, such
/// as its channels ([`Way::channel`]).
///
/// # Panics
/// When it fails in one; all are played to their end, and each failure is said with its way.
pub async fn in_every_way(scenario: impl AsyncFn(Way)) {
    let ways = Way::ALL.into_iter().filter(|way| way.is_installed());
    let attempts = ways.map(|way| {
        let attempt = AssertUnwindSafe(scenario(way)).catch_unwind();
        async move { (way, attempt.await) }
    });
    let failures: Vec<_> = join_all(attempts)
        .await
        .into_iter()
        .filter_map(|(way, outcome)| outcome.err().map(|why| format!("{way}: {}", said(&*why))))
        .collect();
    assert!(
        failures.is_empty(),
        "it fails in some ways\n{}",
        failures.join("\n")
    );
}

/// Whether there is a Node with the packages of `interop/`, as [`Way::is_installed`] says it.
///
/// # Panics
/// As [`Way::is_installed`] does.
#[must_use]
pub fn has_node() -> bool {
    Runtime::Node.is_installed()
}

/// A program of `interop/` in Node; it is killed when its process is dropped.
pub(crate) fn node(program: &str) -> Command {
    started(Path::new("node"), program)
}

/// The same in Python.
pub(crate) fn python(program: &str) -> Command {
    started(&folder().join(".venv/bin/python"), program)
}

impl Runtime {
    fn is_installed(self) -> bool {
        let Some(missing) = self.missing() else {
            return true;
        };
        let variable = match self {
            Self::Node => "TIDINGS_REQUIRE_NODE",
            Self::Python => "TIDINGS_REQUIRE_PYTHON",
            Self::Chromium => "TIDINGS_REQUIRE_CHROMIUM",
        };
        let required = ["CI", variable].iter().any(|name| env::var_os(name).is_some());
        assert!(
            !required,
            "{missing}, and the environment requires it; scripts/test installs it"
        );
        println!("SKIPPED: {missing}");
        false
    }

    fn missing(self) -> Option<&'static str> {
        match self {
            Self::Node if !runs("node") => Some("node is not installed"),
            Self::Node if !folder().join("node_modules/centrifuge").exists() => {
                Some("the packages of tests/interop are not installed (npm ci)")
            }
            Self::Python if !folder().join(".venv/installed").exists() => {
                Some("the Python packages of tests/interop are not installed in its .venv")
            }
            Self::Chromium if chromium().is_none() => Some("chromium is not installed"),
            _ => None,
        }
    }
}

fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| runs(name))
}

fn runs(program: &str) -> bool {
    let mut version = process::Command::new(program);
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn started(runtime: &Path, program: &str) -> Command {
    let mut command = Command::new(runtime);
    command.arg(program).current_dir(folder()).kill_on_drop(true);
    command
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop")
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
}
