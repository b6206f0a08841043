//! For tests: a real `redis-server` on a port of its own, that can be killed, started again and made to hang; several of
//! them, [`Watched`] by Sentinels or as a [`RedisCluster`]; and a [`Recorder`] of what the bus brings.

mod cluster;
mod recorder;
mod watched;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

pub use self::{
    cluster::{Migration, RedisCluster},
    recorder::Recorder,
    watched::Watched,
};
use crate::redis::{Config, RedisUrl};

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(20);

/// A server that keeps nothing on disk and ends when this is dropped.
pub struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server. `None`, said on standard output, when `redis-server` is not installed.
    ///
    /// # Panics
    /// When it does not start; and when it is not installed although `CI` or `TIDINGS_REQUIRE_REDIS` is set.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with further command line arguments.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let mut server = Self::reserve(arguments)?;
        server.up();
        Some(server)
    }

    /// A server that is not running yet.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn reserve(arguments: &[&str]) -> Option<Self> {
        Self::reserve_port(free_port(), arguments)
    }

    /// A server that is not running yet, on a port that the caller knows to be free.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn reserve_port(port: u16, arguments: &[&str]) -> Option<Self> {
        let version = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if version.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let required = ["CI", "TIDINGS_REQUIRE_REDIS"]
                .iter()
                .any(|name| std::env::var_os(name).is_some());
            assert!(
                !required,
                "redis-server is not installed, and the environment requires it"
            );
            println!("SKIPPED: redis-server is not installed");
            return None;
        }
        Some(Self {
            port,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            dir: tempfile::tempdir().expect("no directory for temporary files"),
            process: None,
        })
    }

    /// Starts it, empty, on the same port as before, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn up(&mut self) {
        let mut process = self
            .process
            .insert(spawn(self.port, self.dir.path(), &self.arguments));
        for _ in 0..2000 {
            if answers(self.port) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
            // The port was free when it was reserved; for a moment another connection of this machine may have it.
            if process.try_wait().expect("a child can be waited for").is_some() {
                process = self
                    .process
                    .insert(spawn(self.port, self.dir.path(), &self.arguments));
            }
        }
        panic!(
            "redis-server on port {} does not start, or does not answer",
            self.port
        );
    }

    /// The same as a replica from the first moment on, as the manual of the Sentinels has it, and without waiting until it has all
    /// that the primary has.
    ///
    /// # Panics
    /// When it does not start.
    pub fn up_as_replica_of(&mut self, primary: u16) {
        let before = self.arguments.len();
        let replica_of = ["--replicaof", "127.0.0.1", &primary.to_string()].map(str::to_owned);
        self.arguments.extend(replica_of);
        self.up();
        self.arguments.truncate(before);
    }

    /// Kills it; its connections are closed.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only when it has ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Whether it was started, and not killed since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Its answer to a command.
    ///
    /// # Panics
    /// When it is an error.
    pub fn ask(&self, command: &[&str]) -> redis::Value {
        match ask(self.port, command) {
            Ok(answer) => answer,
            Err(why) => panic!("redis-server on port {} to {command:?}: {why}", self.port),
        }
    }

    /// Its answer to a command, or why there is none.
    ///
    /// # Errors
    /// The server's error, or that it cannot be reached.
    pub fn try_ask(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        ask(self.port, command)
    }

    /// Stops the replication from `primary`, which is not stopped from having this replica promoted: what the primary
    /// acknowledges from here on, the replica never has, until [`resume_replication`](Self::resume_replication).
    ///
    /// # Panics
    /// When a server does not answer.
    pub fn stop_replication(&self, primary: &Self) {
        self.ask(&[
            "CONFIG",
            "SET",
            "masterauth",
            "a password that the primary does not have",
        ]);
        primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    /// Lets it replicate again.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn resume_replication(&self) {
        self.ask(&["CONFIG", "SET", "masterauth", ""]);
    }

    /// Makes it a replica, and waits until it has all that the primary has.
    ///
    /// # Panics
    /// When that does not work.
    pub fn follow(&self, primary: &Self) {
        self.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        eventually("the replica is in step", || {
            self.says(&["INFO", "replication"], "master_link_status:up")
        });
    }

    /// Whether its answer to a command has these words in it.
    fn says(&self, command: &[&str], words: &str) -> bool {
        match ask(self.port, command) {
            Ok(redis::Value::BulkString(text)) => String::from_utf8_lossy(&text).contains(words),
            _ => false,
        }
    }

    /// Makes it hang: its connections stay open and silent.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Ends what [`pause`](Self::pause) began.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A configuration for it, with a command timeout so long that a busy machine does not look like an outage.
    ///
    /// # Panics
    /// Never: its address is valid.
    #[must_use]
    pub fn config(&self) -> Config {
        let url = RedisUrl::parse(&self.url()).expect("the address of a server on loopback");
        Config {
            command_timeout: Duration::from_secs(10),
            ..Config::new(url)
        }
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("the server is running");
        let pid = process.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot signal redis-server"
        );
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, dir: &Path, arguments: &[String]) -> Child {
    let port = port.to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1"]);
    command
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir);
    command.args(arguments).stdout(Stdio::null());
    command.spawn().expect("redis-server does not start")
}

/// A port that nobody uses just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// A server's answer to a command.
fn ask(port: u16, words: &[&str]) -> redis::RedisResult<redis::Value> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let (name, arguments) = words.split_first().expect("a command has a name");
    redis::cmd(name).arg(arguments).query(&mut connection)
}

/// Waits until something is so.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = std::time::Duration::from_secs(60);
    let mut waited = Duration::ZERO;
    while !condition() {
        assert!(waited < until, "in {until:?} this did not come true: {what}");
        thread::sleep(POLL);
        waited += POLL;
    }
}

/// Whether a server answers: `+PONG`, or `-NOAUTH`.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    };
    ask().is_ok_and(|first| matches!(first, b'+' | b'-'))
}
