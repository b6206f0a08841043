//! A primary that changes, watched by real Sentinels.

use std::{
    collections::HashMap,
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{RedisServer, ask, eventually};
use crate::redis::{Config, RedisUrl, Sentinel};

/// The name under which the primary is watched.
const NAME: &str = "main";

/// A primary, its replica, and three Sentinels that know of both and of each other. All end when this is dropped.
pub struct Watched {
    /// The one that is the primary at first.
    pub primary: RedisServer,
    /// The one that takes over.
    pub replica: RedisServer,
    watchers: Vec<Watcher>,
}

/// A `redis-server --sentinel`.
struct Watcher {
    port: u16,
    process: Child,
    _directory: TempDir,
}

impl Watched {
    /// Starts everything. `None`, said on standard output, when `redis-server` is not installed.
    ///
    /// # Panics
    /// When it does not come up; and as [`RedisServer::start`].
    #[must_use]
    pub fn start() -> Option<Self> {
        let (primary, replica) = (RedisServer::start()?, RedisServer::start()?);
        replica.follow(&primary);
        let watchers: Vec<_> = (0..3).map(|_| Watcher::start(&primary)).collect();
        for watcher in &watchers {
            eventually("the Sentinels know of everybody", || {
                watcher.knows("REPLICAS") == 1 && watcher.knows("SENTINELS") == 2
            });
        }
        Some(Self {
            primary,
            replica,
            watchers,
        })
    }

    /// Has the Sentinels promote the replica while the primary is well, and waits until all of them say so.
    ///
    /// # Panics
    /// When they do not.
    pub fn fail_over(&self) {
        let before = self.named();
        eventually("a Sentinel begins the failover", || {
            ask(self.watchers[0].port, &["SENTINEL", "FAILOVER", NAME]).is_ok()
        });
        eventually("the replica is the primary", || {
            self.named().is_some_and(|now| Some(now) != before)
        });
    }

    /// Which server all Sentinels name as the primary: 0, the first primary, or 1. `None` while they differ.
    #[must_use]
    pub fn named(&self) -> Option<usize> {
        let named = |watcher: &Watcher| {
            let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            let answer = ask(watcher.port, &question).ok()?;
            let (_, port): (String, String) = redis::from_redis_value(answer).ok()?;
            let port: u16 = port.parse().ok()?;
            [&self.primary, &self.replica]
                .iter()
                .position(|server| server.port() == port)
        };
        let first = named(self.watchers.first()?)?;
        let all = self.watchers.iter().all(|watcher| named(watcher) == Some(first));
        all.then_some(first)
    }

    /// How often the Sentinels have named another primary, at the most: on a busy machine they find more reasons than tests give them.
    #[must_use]
    pub fn failovers(&self) -> usize {
        let epochs = self.watchers.iter().filter_map(|watcher| {
            let answer = ask(watcher.port, &["SENTINEL", "MASTER", NAME]).ok()?;
            let master: HashMap<String, String> = redis::from_redis_value(answer).ok()?;
            master.get("config-epoch")?.parse().ok()
        });
        epochs.max().unwrap_or_default()
    }

    /// One of the two servers: 0, the first primary, or 1.
    #[must_use]
    pub const fn server(&self, index: usize) -> &RedisServer {
        if index == 0 { &self.primary } else { &self.replica }
    }

    /// The same, to be killed or started again.
    pub const fn server_mut(&mut self, index: usize) -> &mut RedisServer {
        if index == 0 {
            &mut self.primary
        } else {
            &mut self.replica
        }
    }

    /// Waits until the server that the Sentinels name is a primary, the other one is its replica and in step, and every
    /// Sentinel would promote it.
    ///
    /// # Panics
    /// When that does not become so.
    pub fn settles(&self) {
        eventually("one is the primary and the other its replica", || {
            let Some(primary) = self.named() else {
                return false;
            };
            let replication = ["INFO", "replication"];
            self.server(primary).says(&replication, "role:master")
                && self.server(primary).says(&replication, "state=online")
                && self
                    .server(1 - primary)
                    .says(&replication, "master_link_status:up")
        });
        for watcher in &self.watchers {
            eventually("a Sentinel knows the replica to be well", || {
                watcher.would_promote()
            });
        }
    }

    /// Where the Sentinels are.
    pub fn sentinels(&self) -> impl Iterator<Item = u16> + '_ {
        self.watchers.iter().map(|watcher| watcher.port)
    }

    /// A configuration that knows the Sentinels only.
    ///
    /// # Panics
    /// Never: the addresses are valid.
    #[must_use]
    pub fn config(&self) -> Config {
        // One that is away comes first.
        let nodes = std::iter::once(1).chain(self.sentinels());
        let url = |port| RedisUrl::parse(&format!("redis://127.0.0.1:{port}"));
        let nodes = nodes.map(|port| url(port).expect("the address of a server on loopback"));
        Config {
            url: None,
            sentinel: Some(Sentinel {
                master: NAME.to_owned(),
                nodes: nodes.collect(),
                username: None,
                password: None,
                db: 0,
                tls_name: None,
            }),
            ..self.primary.config()
        }
    }
}

impl Watcher {
    fn start(primary: &RedisServer) -> Self {
        let port = super::free_port();
        let directory = tempfile::tempdir().expect("no directory for temporary files");
        let file = directory.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n",
            primary.port()
        );
        fs::write(&file, settings).expect("a temporary file can be written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null());
        Self {
            port,
            process: command.spawn().expect("redis-server does not start"),
            _directory: directory,
        }
    }

    /// Whether it knows a replica that is well.
    fn would_promote(&self) -> bool {
        let answer = ask(self.port, &["SENTINEL", "REPLICAS", NAME]);
        let replicas: Vec<HashMap<String, String>> = answer
            .ok()
            .and_then(|answer| redis::from_redis_value(answer).ok())
            .unwrap_or_default();
        replicas
            .iter()
            .any(|replica| replica.get("flags").is_some_and(|flags| flags == "slave"))
    }

    /// How many of something it knows of.
    fn knows(&self, what: &str) -> usize {
        match ask(self.port, &["SENTINEL", what, NAME]) {
            Ok(redis::Value::Array(found)) => found.len(),
            _ => 0,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
