//! Clients that others wrote: the real SDKs, each in a process of its own, and other programs of `interop/`.
//!
//! [`Sdk`] drives its program by lines of JSON, commands in and events out, so that what happens between servers and
//! clients is told, and judged, in one place: the test. `interop/driver.mjs` has the commands and the events.

use std::{collections::VecDeque, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    eventually::in_time,
    way::{self, Way},
};

/// Runs one of the programs in Node to its end: what it printed, which is one line of JSON.
///
/// # Panics
/// When it fails.
pub async fn node(program: &str, arguments: &[&str]) -> Value {
    printed(way::node(program).args(arguments)).await
}

/// The same in Python.
///
/// # Panics
/// When it fails.
pub async fn python(program: &str, arguments: &[&str]) -> Value {
    printed(way::python(program).args(arguments)).await
}

async fn printed(command: &mut Command) -> Value {
    let output = in_time("the end of a program", command.output()).await;
    let output = output.expect("it runs");
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("a line of JSON")
}

/// A client of an SDK. Ends when it is dropped.
pub struct Sdk {
    way: Way,
    _child: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    /// What came while something else was waited for.
    earlier: VecDeque<Value>,
}

impl Sdk {
    /// Starts one that does nothing yet.
    ///
    /// # Panics
    /// When what it needs does not run.
    #[must_use]
    pub fn start(way: Way) -> Self {
        let mut command = way.driver();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("its program runs");
        Self {
            way,
            commands: child.stdin.take().expect("it is piped"),
            events: BufReader::new(child.stdout.take().expect("it is piped")).lines(),
            earlier: VecDeque::new(),
            _child: child,
        }
    }

    /// Starts one that connects to the clients' door at `server` (`127.0.0.1:8000`) with a token, and waits until it
    /// is let in.
    ///
    /// # Panics
    /// When it is not.
    pub async fn connect(way: Way, server: &str, token: &str) -> Self {
        let mut sdk = Self::connecting(way, server, json!({ "token": token })).await;
        sdk.event("connected").await;
        sdk.forget();
        sdk
    }

    /// Starts one that connects with these options of the SDK. `"ask": true` has it ask the test for every token that
    /// it needs (the event `token_wanted`, the command `token`).
    ///
    /// # Panics
    /// When what it needs does not run.
    pub async fn connecting(way: Way, server: &str, options: Value) -> Self {
        let mut sdk = Self::start(way);
        let mut command = options;
        command["do"] = "connect".into();
        command["server"] = server.into();
        command["transport"] = way.transport().into();
        command["protobuf"] = way.is_protobuf().into();
        sdk.tell(&command).await;
        sdk
    }

    /// Subscribes, with these options of the SDK, and waits for it: the event.
    ///
    /// # Panics
    /// When it may not.
    pub async fn subscribe(&mut self, channel: &str, options: Value) -> Value {
        self.subscribing(channel, options).await;
        self.event("subscribed").await
    }

    /// Subscribes and does not wait.
    ///
    /// # Panics
    /// When the SDK has ended.
    pub async fn subscribing(&mut self, channel: &str, options: Value) {
        let mut command = options;
        command["do"] = "subscribe".into();
        command["channel"] = channel.into();
        self.tell(&command).await;
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

    /// Gives the token that it wants, for the client or for a channel.
    ///
    /// # Panics
    /// When it does not want one.
    pub async fn give_token(&mut self, token: &str) {
        let wanted = self.event("token_wanted").await;
        let channel = &wanted["channel"];
        self.tell(&json!({ "do": "token", "channel": channel, "token": token }))
            .await;
    }

    /// Gives such a token as often as it wants one, until there is an event of this kind. For tokens that are good for
    /// so short a time that a busy machine can let them run out unused.
    ///
    /// # Panics
    /// When there is none.
    pub async fn give_tokens_until(&mut self, kind: &str, token: impl Fn() -> String) {
        loop {
            let event = self.first_event(&[kind, "token_wanted"]).await;
            if event["event"] == kind {
                return;
            }
            self.earlier.push_front(event);
            self.give_token(&token()).await;
        }
    }

    /// The next event of this kind. Others are kept for when they are asked for.
    ///
    /// # Panics
    /// When there is none.
    pub async fn event(&mut self, kind: &str) -> Value {
        self.first_event(&[kind]).await
    }

    async fn first_event(&mut self, kinds: &[&str]) -> Value {
        let wanted = |event: &Value| event["event"].as_str().is_some_and(|kind| kinds.contains(&kind));
        if let Some(at) = self.earlier.iter().position(wanted) {
            return self.earlier.remove(at).expect("it is there");
        }
        let what = format!("{:?}: the event {}", self.way, kinds.join(" or "));
        let found = in_time(&what, async {
            loop {
                let line = self.events.next_line().await.expect("its output can be read");
                let line = line.unwrap_or_else(|| panic!("{what}: the SDK has ended"));
                let event: Value = serde_json::from_str(&line).expect("events are JSON");
                if wanted(&event) {
                    return event;
                }
                self.earlier.push_back(event);
            }
        });
        found.await
    }

    /// The next event of this kind that tells of this channel. Earlier ones of other channels are kept.
    ///
    /// # Panics
    /// When there is none.
    pub async fn event_of(&mut self, kind: &str, channel: &str) -> Value {
        let mut others = Vec::new();
        loop {
            let event = self.event(kind).await;
            if event["channel"] == channel {
                self.earlier.extend(others);
                return event;
            }
            others.push(event);
        }
    }

    /// The data of the next publication.
    ///
    /// # Panics
    /// When there is none.
    pub async fn hear(&mut self) -> Value {
        self.event("publication").await["data"].take()
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

    /// What has come and was not asked for yet, for a message that says what went wrong.
    #[must_use]
    pub fn rest(&self) -> String {
        self.earlier.iter().map(|event| format!("{event}\n")).collect()
    }
}
