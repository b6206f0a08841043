//! What is wrong with a Redis before anybody suffers from it: `tidings doctor`.
//!
//! Everything is asked as a node would ask it: by the same addresses, users and certificates. Nothing of any channel is
//! touched; what has to be written goes to keys of its own that expire.

mod permissions;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{Client, ProtocolVersion, PushInfo, RedisError, aio::MultiplexedConnection};
use tokio::time::Instant;

pub use permissions::PERMISSIONS;

use super::{
    Config, health::Health, keys::Keys, peer::Peer, place::Place, slots::Address, topology::Topology,
};
use crate::{Error, FORMAT};

/// How many round trips are measured.
const ROUND_TRIPS: usize = 10;

/// A round trip that people notice in every event.
const SLOW: Duration = Duration::from_millis(10);

/// The most that clocks may differ.
const SKEW: Duration = Duration::from_secs(1);

/// The oldest version that has all that is used.
const VERSION: (u32, u32) = (6, 2);

/// The oldest version whose Clusters carry messages in shards.
const IN_CLUSTER: (u32, u32) = (7, 0);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// It does not work, or loses what it promises to keep.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found and, unless it is fine, what to do about it.
    pub text: String,
}

impl Finding {
    /// A finding in these words.
    pub fn new(verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            verdict,
            text: text.into(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}

/// Looks at the Redis that `config` says, within some seconds.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut found = Findings::default();
    match look(config, &mut found).await {
        Err(error @ Error::Away { .. }) => {
            found.fail(format!("{error}; start it there, or correct the address"));
        }
        Err(error @ Error::Refused { .. }) => {
            found.fail(format!("{error}; correct its user and password, or ours"));
        }
        Err(error) => found.fail(error.to_string()),
        Ok(()) => {}
    }
    found.all
}

async fn look(config: &Config, found: &mut Findings) -> Result<(), Error> {
    config.check()?;
    let peer = Peer::new(config)?;
    let place = Place::new(config)?;
    let seeds = Place::seeds(config)?;
    if seeds.is_empty() {
        let mut kind = Kind::Alone;
        if let Some(sentinels) = place.sentinels() {
            kind = Kind::Watched;
            sentinels.examine(&peer, found).await;
        }
        return look_at(config, place, peer, kind, found).await;
    }
    let health = Arc::new(Health::new(peer.name().clone()));
    let topology = Topology::new(place.clone(), seeds, peer.clone(), health);
    let slots = tokio::time::timeout(config.connect_timeout * 2, topology.look()).await;
    let slots = slots.map_err(|_| peer.away("no node says who has which slots in time"))?;
    let slots = slots.map_err(|why| peer.error(&why))?;
    match slots.missing() {
        0 => found.ok("all slots have an owner"),
        missing => found.fail(format!(
            "{missing} slots have no owner: what is published there is refused; look at CLUSTER SHARDS, and start the \
             node that is missing, or have a replica take over"
        )),
    }
    for address in slots.primaries() {
        let node = peer.of_node(address);
        // Of one that is away the others are still of interest.
        if let Err(error) = look_at(config, place.at(address), node, Kind::InCluster, found).await {
            found.fail(format!("{error}; start it, or have its replica take over"));
        }
    }
    Ok(())
}

/// How a Redis is deployed, as far as it has to do other things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alone,
    Watched,
    InCluster,
}

async fn look_at(
    config: &Config,
    place: Place,
    peer: Peer,
    kind: Kind,
    found: &mut Findings,
) -> Result<(), Error> {
    // As the bus does it, so that it can subscribe.
    let info = place.info();
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.set_redis_settings(settings)).map_err(|why| peer.error(&why))?;
    let ignore = |_: PushInfo| -> Result<(), Infallible> { Ok(()) };
    let connection = place.connection().set_push_sender(ignore);
    let connecting = client.get_multiplexed_async_connection_with_config(&connection);
    // The library has its own limits for the two halves of this; nobody wants to wait for ever for the whole.
    let connected = tokio::time::timeout(config.connect_timeout * 2, connecting).await;
    let connected = connected.map_err(|_| peer.away("it does not let us connect in time"))?;
    let connection = connected.map_err(|why| peer.error(&why))?;
    let many = kind == Kind::InCluster;
    found.about = many.then(|| place.address());
    found.ok(format!("{} is reached", peer.name()));
    let mut server = Server {
        connection,
        peer,
        keys: Keys::new(&config.prefix),
    };
    server.round_trip(found).await?;
    match server.info().await {
        Ok(info) => {
            version(&info, kind, found);
            replication(&info, kind, found);
            eviction(&info, found);
            persistence(&info, found);
        }
        Err(why) if why.code() == Some("NOPERM") => {}
        Err(why) => return Err(server.peer.error(&why)),
    }
    server.clock(found).await;
    server.format(found).await;
    permissions::examine(&mut server, kind, found).await?;
    found.about = None;
    Ok(())
}

/// A connection to who is examined.
struct Server {
    connection: MultiplexedConnection,
    peer: Peer,
    keys: Keys,
}

impl Server {
    async fn info(&mut self) -> Result<Info, RedisError> {
        let mut text = String::new();
        for section in ["server", "memory", "persistence", "replication"] {
            let mut question = redis::cmd("INFO");
            let part: String = question.arg(section).query_async(&mut self.connection).await?;
            text.push_str(&part);
        }
        Ok(Info(text))
    }

    async fn round_trip(&mut self, found: &mut Findings) -> Result<(), Error> {
        let mut took = Vec::new();
        for _ in 0..ROUND_TRIPS {
            let begin = Instant::now();
            let asked = redis::cmd("PING").exec_async(&mut self.connection).await;
            asked.map_err(|why| self.peer.error(&why))?;
            took.push(begin.elapsed());
        }
        took.sort_unstable();
        let median = took[ROUND_TRIPS / 2];
        let text = format!("a round trip takes {median:.1?}");
        if median > SLOW {
            found.warn(format!("{text}, as every publication will; move Redis nearer"));
        } else {
            found.ok(text);
        }
        Ok(())
    }

    /// Which format the nodes speak that use it. A node of a Cluster that does not have the key says nothing.
    async fn format(&mut self, found: &mut Findings) {
        let prefix = self.keys.prefix().to_owned();
        let key = super::format::key(&prefix);
        let said: Result<Option<String>, _> =
            redis::cmd("GET").arg(key).query_async(&mut self.connection).await;
        match said {
            Ok(Some(said)) if said != FORMAT.to_string() => {
                found.fail(super::format::mismatch(self.peer.name(), &prefix, &said));
            }
            Ok(Some(said)) => found.ok(format!("its nodes speak format {said}, as this version does")),
            _ => {}
        }
    }

    /// Leases are told by its clock, tokens by ours.
    async fn clock(&mut self, found: &mut Findings) {
        let begin = SystemTime::now();
        let asked = Instant::now();
        let told: Result<(u64, u64), _> = redis::cmd("TIME").query_async(&mut self.connection).await;
        let Ok((seconds, micros)) = told else { return };
        let ours = begin + asked.elapsed() / 2;
        let theirs = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
        let skew = theirs
            .duration_since(ours)
            .unwrap_or_else(|behind| behind.duration());
        let text = format!("its clock differs from ours by {skew:.1?}");
        if skew > SKEW {
            found.warn(format!("{text}; let a time service keep both"));
        } else {
            found.ok(text);
        }
    }
}

/// What INFO says.
struct Info(String);

impl Info {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name)
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    }
}

fn version(info: &Info, kind: Kind, found: &mut Findings) {
    let (name, version) = match info.get("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", info.get("redis_version").unwrap_or("unknown")),
    };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let (oldest, for_what) = match kind {
        Kind::InCluster => (IN_CLUSTER, " in a Cluster"),
        Kind::Alone | Kind::Watched => (VERSION, ""),
    };
    if number < oldest {
        found.fail(format!(
            "it is {name} {version}; {}.{} is the oldest that can be used{for_what}, upgrade it",
            oldest.0, oldest.1
        ));
    } else {
        found.ok(format!("it is {name} {version}"));
    }
    if info.get("redis_mode") == Some("cluster") && kind != Kind::InCluster {
        found.fail("it is a node of a Redis Cluster; set redis.cluster in place of redis.url");
    }
    let hidden = |name| info.get(name).is_none_or(|id| id.trim_matches('0').is_empty());
    if hidden("run_id") && hidden("master_replid") {
        found.warn(
            "it does not say which process it is (run_id, master_replid), so that a restored backup goes unnoticed: \
             flush it after each restore",
        );
    }
}

fn replication(info: &Info, kind: Kind, found: &mut Findings) {
    if info.get("role") == Some("slave") {
        let (host, port) = (info.get("master_host"), info.get("master_port"));
        let primary = format!("{}:{}", host.unwrap_or("?"), port.unwrap_or("?"));
        found.fail(format!(
            "it is a replica, to which nothing can be written; use its primary {primary}"
        ));
        return;
    }
    let replicas: Vec<&str> = (0..info.number("connected_slaves"))
        .filter_map(|number| info.get(&format!("slave{number}")))
        .collect();
    // Only there where it is set.
    if kind != Kind::Alone && !replicas.is_empty() && info.get("min_slaves_good_slaves").is_none() {
        found.warn(
            "its min-replicas-to-write is 0: while it is cut off from its replicas, or replaced without knowing it, it goes on \
             acknowledging what will be lost; set min-replicas-to-write 1 and min-replicas-max-lag 10 where that is worse than refusing",
        );
    }
    let behind = replicas
        .iter()
        .filter(|replica| !replica.contains("state=online"))
        .count();
    match replicas.len() {
        0 if kind == Kind::InCluster => {
            found.warn("it is a primary without replicas: when it is away, so are its slots; add a replica");
        }
        0 if kind == Kind::Watched => found.warn(
            "it is a primary without replicas: the Sentinels have nothing to fail over to; add a replica",
        ),
        0 => found.ok("it is a primary without replicas"),
        count if behind > 0 => found.warn(format!(
            "it is a primary, and {behind} of its {count} replicas are not in step yet; a failover now would lose data"
        )),
        1 => found.ok("it is a primary with a replica in step"),
        count => found.ok(format!("it is a primary with {count} replicas in step")),
    }
}

fn eviction(info: &Info, found: &mut Findings) {
    let policy = info.get("maxmemory_policy").unwrap_or("unknown");
    let limit = match info.number("maxmemory") {
        0 => "without a memory limit".to_owned(),
        limit => format!("with a memory limit of {} MiB", limit >> 20),
    };
    let text = format!("its maxmemory-policy is {policy}, {limit}");
    if policy == "noeviction" {
        found.ok(text);
    } else {
        found.fail(format!(
            "{text}: streams and presence, whose keys expire, would be evicted while they are needed; \
             set maxmemory-policy noeviction"
        ));
    }
}

fn persistence(info: &Info, found: &mut Findings) {
    for (name, what) in [
        ("rdb_last_bgsave_status", "snapshot"),
        ("aof_last_write_status", "write to its append-only file"),
    ] {
        if info.get(name).is_some_and(|status| status != "ok") {
            found.warn(format!(
                "its last {what} failed; its log says why, most often a full disk"
            ));
        }
    }
    if info.get("aof_enabled") == Some("1") {
        found.ok("it keeps an append-only file: a restart loses about the last second, and clients are told");
    } else if info.number("rdb_last_save_time") > 0 && info.number("rdb_saves") > 0 {
        found.ok("it keeps snapshots: a restart loses what came after the last, and clients are told");
    } else {
        found.warn(
            "it keeps no append-only file, and has saved no snapshot: a restart loses all streams, and clients are \
             told; set appendonly yes where that matters",
        );
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    all: Vec<Finding>,
    /// Which of several nodes what is found is about.
    about: Option<Address>,
}

impl Findings {
    pub(super) fn ok(&mut self, text: impl Into<String>) {
        self.add(Verdict::Ok, text.into());
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.add(Verdict::Warn, text.into());
    }

    pub(super) fn fail(&mut self, text: impl Into<String>) {
        self.add(Verdict::Fail, text.into());
    }

    fn add(&mut self, verdict: Verdict, text: String) {
        let text = match &self.about {
            Some(node) => format!("{node}: {text}"),
            None => text,
        };
        self.all.push(Finding::new(verdict, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(info: &str, look: impl Fn(&Info, &mut Findings)) -> Vec<Verdict> {
        let mut found = Findings::default();
        look(&Info(info.to_owned()), &mut found);
        found.all.into_iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn versions_before_6_2_are_refused() {
        let ids = "run_id:7a\r\nmaster_replid:7b";
        for (version, verdict) in [
            ("redis_version:6.0.16", Verdict::Fail),
            ("redis_version:6.2.0", Verdict::Ok),
            ("redis_version:10.0.0", Verdict::Ok),
            ("redis_version:7.2.4\r\nvalkey_version:8.1.0", Verdict::Ok),
        ] {
            let info = format!("{version}\r\n{ids}");
            assert_eq!(found(&info, version_of), [verdict], "{info}");
        }
    }

    fn version_of(info: &Info, found: &mut Findings) {
        version(info, Kind::Alone, found);
    }

    #[test]
    fn a_cluster_and_a_redis_that_hides_what_it_is_are_told() {
        let info = "redis_version:7.0.0\r\nredis_mode:cluster\r\nrun_id:0000";
        assert_eq!(
            found(info, version_of),
            [Verdict::Ok, Verdict::Fail, Verdict::Warn]
        );
    }

    #[test]
    fn replicas_that_lag_are_told() {
        let look = |info: &Info, found: &mut Findings| replication(info, Kind::Watched, found);
        let info =
            "role:master\r\nconnected_slaves:1\r\nslave0:ip=::1,port=1,state=wait_bgsave,offset=0,lag=0";
        assert_eq!(found(info, look), [Verdict::Warn, Verdict::Warn]);
        let info = "role:master\r\nconnected_slaves:1\r\nslave0:ip=::1,port=1,state=online,offset=0,lag=0";
        assert_eq!(found(info, look), [Verdict::Warn, Verdict::Ok]);
        let bounded = format!("{info}\r\nmin_slaves_good_slaves:1");
        assert_eq!(found(&bounded, look), [Verdict::Ok]);
        assert_eq!(found("role:master\r\nconnected_slaves:0", look), [Verdict::Warn]);
    }
}
