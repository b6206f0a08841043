//! A `tidings` process that runs.

use std::{fs, process::ExitStatus, thread};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    eventually::{eventually, in_time},
    launch::{self, Exit},
    ports::Ports,
};

/// A process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Tidings {
    role: &'static str,
    child: Child,
    environment: Vec<(String, String)>,
    dir: TempDir,
    ports: Ports,
}

impl Tidings {
    pub(crate) fn new(
        role: &'static str,
        environment: Vec<(String, String)>,
        dir: TempDir,
        ports: Ports,
    ) -> Self {
        Self {
            child: launch::run(role, &environment, dir.path(), &ports),
            role,
            environment,
            dir,
            ports,
        }
    }

    /// Starts it again after it has ended, on the same ports, and does not wait until it is ready.
    pub fn start_again(&mut self) {
        self.child = launch::run(self.role, &self.environment, self.dir.path(), &self.ports);
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// Its clients' port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.clients()
    }

    /// Its clients' door.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Where clients of the Centrifuge protocol connect.
    #[must_use]
    pub fn websocket(&self) -> String {
        format!("ws://127.0.0.1:{}/connection/websocket", self.port())
    }

    /// Where plain clients connect; `rest` is the channel and, after a `?`, the token.
    #[must_use]
    pub fn plain(&self, rest: &str) -> String {
        format!("ws://127.0.0.1:{}/ws/{rest}", self.port())
    }

    /// Its backends' door.
    #[must_use]
    pub fn backends(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.backends())
    }

    /// Its operators' door.
    #[must_use]
    pub fn operators(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.operators())
    }

    /// The internal door of a process that is presence.
    #[must_use]
    pub fn presence(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.presence())
    }

    /// Its port.
    #[must_use]
    pub fn presence_port(&self) -> u16 {
        self.ports.presence()
    }

    /// All that it printed and logged so far.
    #[must_use]
    pub fn logs(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// `GET path` at its operators' door: the status and the body. `None` while nobody answers there.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.operators()))
            .await
            .ok()?;
        // HTTP/1.0: the answer ends where the connection does.
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// What `GET path` answers as JSON, with its status, once there is an answer.
    ///
    /// # Panics
    /// When nobody answers, or not with JSON.
    pub async fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = eventually("the operators' door answers", async || self.get(path).await).await;
        (
            status,
            serde_json::from_str(&body).expect("the operators' door speaks JSON"),
        )
    }

    /// The value of a metric, all its label sets together; 0 when it has none.
    ///
    /// # Panics
    /// When there are no metrics.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = eventually("the operators' door answers", async || self.get("/metrics").await).await;
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let values = lines
            .filter(|rest| rest.starts_with([' ', '{']))
            .filter_map(|rest| {
                // `name{labels} value # exemplar`
                let sample = rest.split(" # ").next()?;
                sample.rsplit(' ').next()?.parse::<f64>().ok()
            });
        values.sum()
    }

    /// Waits until `GET path` answers with this status.
    ///
    /// # Panics
    /// When it does not.
    pub async fn wait_for_status(&self, path: &str, status: u16) {
        let what = format!("{path} of the {} process answers {status}", self.role);
        eventually(&what, async || (self.get(path).await?.0 == status).then_some(())).await;
    }

    /// Waits until it misses nothing: it is ready, and not degraded.
    ///
    /// # Panics
    /// When it always misses something.
    pub async fn wait_until_whole(&self) {
        let what = format!("the {} process misses nothing", self.role);
        eventually(&what, async || {
            (self.json("/health/ready").await.1["status"] == "ready").then_some(())
        })
        .await;
    }

    pub(crate) async fn wait_until_ready(&mut self) {
        let role = self.role;
        eventually(&format!("the {role} process is ready"), async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the {role} process ended with {status} before it was ready");
            }
            (self.get("/health/ready").await?.0 == 200).then_some(())
        })
        .await;
    }

    /// SIGKILL: it is gone, and could say goodbye to nobody.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a process of ours can be killed");
    }

    /// SIGTERM: it is asked to end.
    ///
    /// # Panics
    /// When it has ended already.
    pub async fn terminate(&mut self) {
        self.signal("-TERM").await;
    }

    /// SIGSTOP: it stands still, and its connections do not notice.
    ///
    /// # Panics
    /// When it has ended already.
    pub async fn pause(&self) {
        self.signal("-STOP").await;
    }

    /// SIGCONT: it goes on, and has not noticed either.
    ///
    /// # Panics
    /// When it has ended already.
    pub async fn resume(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it still runs").to_string();
        let status = Command::new("kill").args([signal, &id]).status().await;
        assert!(
            status.is_ok_and(|status| status.success()),
            "SIG{} cannot be sent",
            &signal[1..]
        );
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not.
    pub async fn exit(mut self) -> Exit {
        let what = format!("the end of the {} process", self.role);
        let status: ExitStatus = in_time(&what, self.child.wait())
            .await
            .expect("a child can be waited for");
        Exit::new(status, self.logs())
    }
}

impl Drop for Tidings {
    fn drop(&mut self) {
        if thread::panicking() {
            println!(
                "--- what the {} process on port {} said\n{}---",
                self.role,
                self.port(),
                self.logs()
            );
        }
    }
}
