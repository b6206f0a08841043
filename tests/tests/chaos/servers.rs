//! The Redis processes of a world, and what can be done to them.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use redis::Value;
use tidings_broker::test_util::{RedisCluster, RedisServer, Watched};
use tidings_tests::Redis;

use crate::plan::{Connections, Evicted, Replica, World};

/// Within this, a replica has taken over from a primary that is gone; otherwise the servers themselves are broken.
const TAKEOVER: Duration = Duration::from_secs(30);

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// What the bus is made of.
pub(crate) enum Servers {
    None,
    Alone(Redis),
    Sentinel(Watched),
    Cluster(RedisCluster),
}

impl Servers {
    /// Starts those of a world. `None` when there is no Redis to be had.
    pub(crate) fn start(world: World) -> Option<Self> {
        Some(match world {
            World::Memory => Self::None,
            World::Aof => Self::Alone(Redis::start_with(&[
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])?),
            World::Rdb | World::Volatile => Self::Alone(Redis::start()?),
            World::Sentinel => Self::Sentinel(Watched::start()?),
            World::Cluster => {
                let cluster = RedisCluster::with_replicas()?;
                for node in &cluster.nodes {
                    node.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
                }
                Self::Cluster(cluster)
            }
        })
    }

    /// The `[redis]` section of the nodes' configuration, where they reach it without a proxy.
    pub(crate) fn section(&self) -> String {
        let urls = |ports: Vec<u16>| {
            let urls = ports.iter().map(|port| format!("\"redis://127.0.0.1:{port}\""));
            urls.collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::None => String::new(),
            Self::Alone(server) => format!("[redis]\nurl = \"{}\"\n", server.url()),
            Self::Sentinel(watched) => format!(
                "[redis]\nsentinel = {{ master = \"main\", nodes = [{}] }}\n",
                urls(watched.sentinels().collect())
            ),
            Self::Cluster(cluster) => {
                let ports = cluster.nodes[..2].iter().map(RedisServer::port).collect();
                format!("[redis]\ncluster = [{}]\n", urls(ports))
            }
        }
    }

    /// Names of stream channels; in a Cluster each has another primary.
    pub(crate) fn channels(&self, namespace: &str, count: usize) -> Vec<String> {
        let mut names = (0..).map(|n| format!("{namespace}:{n}"));
        let Self::Cluster(cluster) = self else {
            return names.take(count).collect();
        };
        let mut channels: Vec<String> = Vec::new();
        for primary in 0..count {
            let name = names.find(|name| cluster.owner(cluster.slot(name)) == primary);
            channels.extend(name);
        }
        channels
    }

    /// All that run.
    pub(crate) fn running(&self) -> Vec<&RedisServer> {
        let all: Vec<&RedisServer> = match self {
            Self::None => Vec::new(),
            Self::Alone(server) => vec![&**server],
            Self::Sentinel(watched) => vec![watched.server(0), watched.server(1)],
            Self::Cluster(cluster) => cluster.nodes.iter().collect(),
        };
        all.into_iter().filter(|server| server.is_running()).collect()
    }

    /// The primaries.
    pub(crate) fn primaries(&self) -> Vec<&RedisServer> {
        match self {
            Self::None => Vec::new(),
            Self::Alone(server) => vec![&**server],
            Self::Sentinel(watched) => vec![watched.server(until("a primary is named", || watched.named()))],
            Self::Cluster(cluster) => {
                let primaries = cluster.primaries().into_iter();
                primaries.map(|index| &cluster.nodes[index]).collect()
            }
        }
    }

    /// The primary that has a channel.
    pub(crate) fn primary_of(&self, channel: &str) -> &RedisServer {
        match self {
            Self::None => panic!("this world has no Redis"),
            Self::Cluster(cluster) => {
                let slot = cluster.slot(channel);
                &cluster.nodes[until("the slot has an owner", || cluster.claimant(slot, None))]
            }
            _ => self.primaries()[0],
        }
    }

    /// The server stands still for so long.
    pub(crate) fn hang(&self, channel: &str, time: Duration) {
        let server = self.primary_of(channel);
        server.pause();
        sleep(time);
        server.resume();
    }

    /// Kills the one server and starts it again.
    pub(crate) fn restart(&mut self) {
        let Self::Alone(server) = self else {
            panic!("only a Redis that is alone restarts");
        };
        server.kill();
        server.up();
    }

    /// Keys of a channel are gone.
    pub(crate) fn evict(&self, channel: &str, evicted: Evicted) {
        let kinds: &[&str] = match evicted {
            Evicted::Top => &["top"],
            Evicted::Stream => &["stream"],
            Evicted::Both => &["top", "stream"],
        };
        for kind in kinds {
            let key = format!("tidings:{kind}:{{{channel}}}");
            self.primary_of(channel).ask(&["DEL", &key]);
        }
    }

    /// Every primary is asked the same.
    pub(crate) fn ask_all(&self, command: &[&str]) {
        for server in self.primaries() {
            server.ask(command);
        }
    }

    /// Connections are closed, but for the one that says so and those of replicas.
    pub(crate) fn kill_clients(&self, connections: Connections) {
        let kind = match connections {
            Connections::Normal => "normal",
            Connections::PubSub => "pubsub",
        };
        self.ask_all(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
    }

    /// The primary of a channel hands over to its replica, and when all is settled, returns. The first instant is when
    /// the replica was named.
    pub(crate) fn hand_over(&self, channel: &str) -> Instant {
        match self {
            Self::Sentinel(watched) => {
                watched.fail_over();
                now()
            }
            Self::Cluster(cluster) => {
                let slot = cluster.slot(channel);
                let old = cluster.owner(slot);
                let replica = until("the primary has a replica", || cluster.replica_of(old));
                cluster.nodes[replica].ask(&["CLUSTER", "FAILOVER"]);
                until("the replica has taken over", || {
                    cluster.claimant(slot, None).filter(|&owner| owner == replica)
                });
                now()
            }
            _ => panic!("only a primary with a replica hands over"),
        }
    }

    /// Kills the primary of a channel and waits until its replica has taken over; the instant of that.
    pub(crate) fn kill_primary(&mut self, channel: &str, replica: Replica) -> Instant {
        match self {
            Self::Sentinel(watched) => {
                let old = until("a primary is named", || watched.named());
                if let Replica::Behind(time) = replica {
                    watched.server(1 - old).stop_replication(watched.server(old));
                    sleep(time);
                }
                watched.server_mut(old).kill();
                until("the replica is named", || {
                    watched.named().filter(|&now| now != old)
                });
                let named = now();
                watched.server(1 - old).resume_replication();
                let primary = watched.server(1 - old).port();
                watched.server_mut(old).up_as_replica_of(primary);
                named
            }
            Self::Cluster(cluster) => {
                let slot = cluster.slot(channel);
                let old = cluster.owner(slot);
                let heir = until("the primary has a replica", || cluster.replica_of(old));
                if let Replica::Behind(time) = replica {
                    cluster.nodes[heir].stop_replication(&cluster.nodes[old]);
                    sleep(time);
                }
                cluster.nodes[old].kill();
                until("the replica has taken over", || {
                    cluster.claimant(slot, None).filter(|&owner| owner == heir)
                });
                let named = now();
                cluster.nodes[heir].resume_replication();
                cluster.nodes[old].up();
                named
            }
            _ => panic!("only a primary with a replica is replaced"),
        }
    }

    /// Stops the primary of a channel until its replica has taken over; the instant of that.
    pub(crate) fn hang_primary(&self, channel: &str) -> Instant {
        match self {
            Self::Sentinel(watched) => {
                let old = until("a primary is named", || watched.named());
                watched.server(old).pause();
                until("the replica is named", || {
                    watched.named().filter(|&now| now != old)
                });
                let named = now();
                watched.server(old).resume();
                named
            }
            Self::Cluster(cluster) => {
                let slot = cluster.slot(channel);
                let old = cluster.owner(slot);
                cluster.nodes[old].pause();
                until("the replica has taken over", || cluster.claimant(slot, Some(old)));
                let named = now();
                cluster.nodes[old].resume();
                named
            }
            _ => panic!("only a primary with a replica is replaced"),
        }
    }

    /// The primary of a channel and its replica are gone; gives which.
    pub(crate) fn kill_shard(&mut self, channel: &str) -> [usize; 2] {
        let Self::Cluster(cluster) = self else {
            panic!("only a Cluster has shards");
        };
        let primary = cluster.owner(cluster.slot(channel));
        let replica = until("the primary has a replica", || cluster.replica_of(primary));
        cluster.nodes[replica].kill();
        cluster.nodes[primary].kill();
        [primary, replica]
    }

    /// Whether a primary that runs has a channel.
    pub(crate) fn is_served(&self, channel: &str) -> bool {
        match self {
            Self::Cluster(cluster) => {
                let owner = cluster.claimant(cluster.slot(channel), None);
                owner.is_some_and(|owner| cluster.serves(owner))
            }
            _ => true,
        }
    }

    /// Nodes of a Cluster start again.
    pub(crate) fn start_again(&mut self, nodes: [usize; 2]) {
        let Self::Cluster(cluster) = self else {
            panic!("only a Cluster has shards");
        };
        for node in nodes {
            cluster.nodes[node].up();
        }
    }

    /// The slot of a channel moves to another primary, its keys little by little.
    pub(crate) fn move_slot(&self, channel: &str, time: Duration) {
        let Self::Cluster(cluster) = self else {
            panic!("only a Cluster has slots");
        };
        let slot = cluster.slot(channel);
        let from = cluster.owner(slot);
        let to = cluster.primaries().into_iter().find(|&primary| primary != from);
        let to = to.expect("there is another primary");
        let migration = cluster.begin_move(slot, to);
        const PARTS: u32 = 20;
        for part in (1..=PARTS).rev() {
            sleep(time / PARTS);
            let left = cluster.keys_left(&migration);
            cluster.move_keys(&migration, left.div_ceil(part as usize));
        }
        cluster.end_move(migration);
    }

    /// The numbers that a stream has, by their offsets, as Redis has them: what a client may read of it is bounded.
    pub(crate) fn numbers(&self, channel: &str) -> BTreeMap<u64, u64> {
        let server = self.primary_of(channel);
        let keys = server.ask(&["KEYS", &format!("*stream:{{{channel}}}")]);
        let keys: Vec<String> = redis::from_redis_value(keys).expect("a list of keys");
        let Some(key) = keys.first() else {
            return BTreeMap::new();
        };
        type Entry = (String, Vec<Vec<u8>>);
        let entries: Vec<Entry> =
            redis::from_redis_value(server.ask(&["XRANGE", key, "-", "+"])).expect("a stream");
        let number = |(id, fields): &Entry| {
            let offset = id.split('-').next()?.parse().ok()?;
            Some((offset, fields.iter().find_map(|field| number(field))?))
        };
        entries.iter().filter_map(number).collect()
    }

    /// Waits until replicas are in step again and everybody agrees.
    pub(crate) fn settle(&self) {
        match self {
            Self::Sentinel(watched) => watched.settles(),
            Self::Cluster(cluster) => cluster.replicas_settle(),
            Self::None | Self::Alone(_) => {}
        }
    }

    /// How often a primary was replaced, at the most, where others than the plan decide that.
    pub(crate) fn failovers(&self) -> usize {
        match self {
            Self::Sentinel(watched) => watched.failovers(),
            Self::None | Self::Alone(_) | Self::Cluster(_) => 0,
        }
    }

    /// How many commands all servers have run so far, but for what replication and the questions of tests and Sentinels
    /// are made of.
    pub(crate) fn commands(&self) -> u64 {
        const OTHERS: [&str; 12] = [
            "info",
            "ping",
            "replconf",
            "publish",
            "subscribe",
            "hello",
            "auth",
            "client|",
            "config|",
            "cluster|",
            "command",
            "role",
        ];
        let mut sum = 0;
        for server in self.running() {
            let Value::BulkString(text) = server.ask(&["INFO", "commandstats"]) else {
                continue;
            };
            for line in String::from_utf8_lossy(&text).lines() {
                let Some((name, rest)) = line
                    .strip_prefix("cmdstat_")
                    .and_then(|line| line.split_once(":calls="))
                else {
                    continue;
                };
                if OTHERS.iter().any(|other| name.starts_with(other)) {
                    continue;
                }
                let calls = rest.split(',').next().and_then(|calls| calls.parse::<u64>().ok());
                sum += calls.unwrap_or_default();
            }
        }
        sum
    }

    /// Keys of the primaries that never expire, but for the log of members, which is bounded, and the gateways that run; and
    /// what hashes and sets have in them.
    pub(crate) fn keys_for_ever(&self) -> Vec<(String, Vec<String>)> {
        let mut found = Vec::new();
        for server in self.primaries() {
            let keys: Vec<String> = redis::from_redis_value(server.ask(&["KEYS", "*"])).unwrap_or_default();
            let bounded = [
                "tidings:presence-log",
                "tidings:gateways",
                "tidings:{leases}",
                "tidings:format",
            ];
            let keys = keys.into_iter().filter(|key| !bounded.contains(&key.as_str()));
            let for_ever = keys.filter(|key| {
                // A key may be gone, or on another node, by now.
                server
                    .try_ask(&["PTTL", key])
                    .is_ok_and(|ttl| ttl == Value::Int(-1))
            });
            found.extend(for_ever.map(|key| {
                let content = ["HGETALL", "SMEMBERS"].iter().find_map(|command| {
                    let answer = server.try_ask(&[command, &key]).ok()?;
                    redis::from_redis_value(answer).ok()
                });
                (key, content.unwrap_or_default())
            }));
        }
        found
    }
}

/// The number in an event, which is JSON somewhere in an entry.
fn number(entry: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(entry);
    let (_, data) = text.split_once("\"data\":")?;
    let digits = data.find(|c: char| !c.is_ascii_digit()).unwrap_or(data.len());
    data[..digits].parse().ok()
}

/// The first answer.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + TAKEOVER;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(now() < deadline, "in {TAKEOVER:?} it was never true that {what}");
        sleep(POLL);
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
