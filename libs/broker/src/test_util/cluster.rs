//! A real Redis Cluster on this machine, whose primaries can be killed and whose slots can be moved.

use redis::Value;

use super::{RedisServer, ask, eventually, free_port};
use crate::redis::{Config, RedisUrl};

/// How many primaries share the slots.
const PRIMARIES: usize = 3;

/// The slots of every Cluster.
const SLOTS: usize = 16384;

/// Three primaries, each with a replica where asked for. All end when this is dropped.
pub struct RedisCluster {
    /// The primaries first, then their replicas in the same order.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts one without replicas. `None`, said on standard output, when `redis-server` is not installed.
    ///
    /// # Panics
    /// When it does not come up; and as [`RedisServer::start`].
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::of(PRIMARIES)
    }

    /// Starts one in which each primary has a replica.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn with_replicas() -> Option<Self> {
        Self::of(2 * PRIMARIES)
    }

    fn of(count: usize) -> Option<Self> {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..count {
            let bus = free_port().to_string();
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--repl-diskless-sync-delay",
                "0",
            ];
            nodes.push(RedisServer::start_with(&arguments)?);
            buses.push(bus);
        }
        for (index, node) in nodes[..PRIMARIES].iter().enumerate() {
            let (first, next) = (SLOTS * index / PRIMARIES, SLOTS * (index + 1) / PRIMARIES);
            let (first, last) = (first.to_string(), (next - 1).to_string());
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        let port = nodes[0].port().to_string();
        for node in &nodes[1..] {
            node.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &buses[0]]);
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            let known = format!("cluster_known_nodes:{count}");
            eventually("the nodes know each other", || {
                node.says(&["CLUSTER", "INFO"], &known)
            });
        }
        for (primary, replica) in cluster.nodes.iter().zip(&cluster.nodes[PRIMARIES..]) {
            let id = primary.id();
            eventually("a replica knows its primary", || {
                ask(replica.port(), &["CLUSTER", "REPLICATE", &id]).is_ok()
            });
            eventually("the replica is in step", || {
                replica.says(&["INFO", "replication"], "master_link_status:up")
            });
        }
        cluster.settles();
        Some(cluster)
    }

    /// Waits until all that run agree that all is well.
    ///
    /// # Panics
    /// When they do not.
    pub fn settles(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            eventually("the cluster is well", || {
                node.says(&["CLUSTER", "INFO"], "cluster_state:ok")
            });
        }
    }

    /// The slot of a name.
    ///
    /// # Panics
    /// When the first node does not answer.
    #[must_use]
    pub fn slot(&self, name: &str) -> u16 {
        let node = self
            .nodes
            .iter()
            .find(|node| node.is_running())
            .expect("some node runs");
        redis::from_redis_value(node.ask(&["CLUSTER", "KEYSLOT", name])).expect("a slot")
    }

    /// The place of the node that has a slot.
    ///
    /// # Panics
    /// When nobody has it.
    #[must_use]
    pub fn owner(&self, slot: u16) -> usize {
        let owns = |node: &&RedisServer| node.is_running() && node.owns(slot);
        let owner = self.nodes.iter().position(|node| owns(&node));
        owner.expect("somebody has the slot")
    }

    /// Moves a slot to the primary at `to`, key by key, as resharding does.
    ///
    /// # Panics
    /// When a node refuses it.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let migration = self.begin_move(slot, to);
        self.end_move(migration);
    }

    /// Begins to move a slot: new keys go to `to`, those that are there stay for now.
    ///
    /// # Panics
    /// When a node refuses it.
    #[must_use]
    pub fn begin_move(&self, slot: u16, to: usize) -> Migration {
        let from = self.owner(slot);
        let name = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        target.ask(&["CLUSTER", "SETSLOT", &name, "IMPORTING", &source.id()]);
        source.ask(&["CLUSTER", "SETSLOT", &name, "MIGRATING", &target.id()]);
        Migration { slot, from, to }
    }

    /// Moves so many of the keys that are still at the source; how many that were.
    ///
    /// # Panics
    /// When a node refuses it.
    pub fn move_keys(&self, migration: &Migration, count: usize) -> usize {
        let (source, target) = (&self.nodes[migration.from], &self.nodes[migration.to]);
        let (slot, count) = (migration.slot.to_string(), count.to_string());
        let keys: Vec<String> =
            redis::from_redis_value(source.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, &count]))
                .expect("a list of keys");
        if !keys.is_empty() {
            let port = target.port().to_string();
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            source.ask(&command);
        }
        keys.len()
    }

    /// How many keys of its slot are still at the source.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn keys_left(&self, migration: &Migration) -> usize {
        let source = &self.nodes[migration.from];
        let count = source.ask(&["CLUSTER", "COUNTKEYSINSLOT", &migration.slot.to_string()]);
        redis::from_redis_value(count).expect("a number of keys")
    }

    /// Moves the keys and ends the migration.
    ///
    /// # Panics
    /// When a node refuses it.
    pub fn end_move(&self, Migration { slot, from, to }: Migration) {
        let migration = Migration { slot, from, to };
        while self.move_keys(&migration, 100) > 0 {}
        let name = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let id = target.id();
        target.ask(&["CLUSTER", "SETSLOT", &name, "NODE", &id]);
        // From here on a key that was made at the source since is nobody's; there is none, because new ones are made at
        // the target.
        source.ask(&["CLUSTER", "SETSLOT", &name, "NODE", &id]);
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            // A replica learns it from its primary.
            let _ = ask(node.port(), &["CLUSTER", "SETSLOT", &name, "NODE", &id]);
        }
    }

    /// The node that says that it has a slot; `None` while none does, or two do. `except` is not asked.
    #[must_use]
    pub fn claimant(&self, slot: u16, except: Option<usize>) -> Option<usize> {
        let mut claimants = (0..self.nodes.len()).filter(|&index| {
            Some(index) != except && self.nodes[index].is_running() && self.nodes[index].owns(slot)
        });
        let first = claimants.next()?;
        claimants.next().is_none().then_some(first)
    }

    /// Whether a node takes commands for its slots.
    #[must_use]
    pub fn serves(&self, node: usize) -> bool {
        self.nodes[node].says(&["CLUSTER", "INFO"], "cluster_state:ok")
    }

    /// A replica of a node, that runs.
    #[must_use]
    pub fn replica_of(&self, primary: usize) -> Option<usize> {
        let id = self.nodes[primary].id();
        (0..self.nodes.len()).find(|&index| {
            let node = &self.nodes[index];
            node.is_running()
                && node
                    .myself()
                    .is_some_and(|line| line.contains(&format!(" {id} ")))
        })
    }

    /// The nodes that are primaries.
    #[must_use]
    pub fn primaries(&self) -> Vec<usize> {
        let is_primary = |index: &usize| {
            let node = &self.nodes[*index];
            node.is_running() && node.myself().is_some_and(|line| line.contains("myself,master"))
        };
        (0..self.nodes.len()).filter(is_primary).collect()
    }

    /// Waits until all agree that all is well and every running replica is in step.
    ///
    /// # Panics
    /// When that does not become so.
    pub fn replicas_settle(&self) {
        self.settles();
        let replication = ["INFO", "replication"];
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            eventually("a node is a primary, or a replica in step", || {
                node.says(&replication, "role:master") || node.says(&replication, "master_link_status:up")
            });
        }
        eventually("each primary has a replica", || {
            let primaries = self.primaries();
            primaries.len() == PRIMARIES
                && primaries
                    .iter()
                    .all(|&primary| self.nodes[primary].says(&replication, "state=online"))
        });
    }

    /// A configuration that knows two of the nodes.
    ///
    /// # Panics
    /// Never: the addresses are valid.
    #[must_use]
    pub fn config(&self) -> Config {
        let urls = self.nodes.iter().rev().take(2).map(RedisServer::url);
        let urls = urls.map(|url| RedisUrl::parse(&url).expect("the address of a server on loopback"));
        Config {
            url: None,
            cluster: urls.collect(),
            ..self.nodes[0].config()
        }
    }
}

/// A slot on its way.
pub struct Migration {
    slot: u16,
    from: usize,
    to: usize,
}

impl RedisServer {
    fn id(&self) -> String {
        redis::from_redis_value(self.ask(&["CLUSTER", "MYID"])).expect("a node has an id")
    }

    fn owns(&self, slot: u16) -> bool {
        let Some(mine) = self.myself() else {
            return false;
        };
        // A replica has no slots, and a slot on its way has brackets around it.
        mine.split(' ').skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) => (first..=last).contains(&slot),
                _ => false,
            }
        })
    }

    /// What it says of itself in `CLUSTER NODES`; `None` when it does not answer.
    fn myself(&self) -> Option<String> {
        let Ok(Value::BulkString(nodes)) = ask(self.port, &["CLUSTER", "NODES"]) else {
            return None;
        };
        let nodes = String::from_utf8_lossy(&nodes).into_owned();
        let mine = nodes.lines().find(|line| line.contains("myself"))?;
        Some(mine.to_owned())
    }
}
