//! A primary that changes, watched by real Sentinels.

use std::{
    collections::HashSet,
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tidings_broker::{
    Broker, Incoming, Target,
    redis::{Config, RedisUrl, Sentinel, Verdict},
    test_util::RedisServer,
};
use tidings_core::{Position, Publication};
use tokio::time::timeout;

use crate::{
    common::{Listener, PATIENCE, channel, eventually, publication},
    rollback::{RETENTION, follow},
    up,
};

/// A `redis-server --sentinel` that ends when this is dropped.
struct Watcher {
    port: u16,
    process: Child,
    _directory: TempDir,
}

impl Watcher {
    fn start(primary: &RedisServer) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            primary.port()
        );
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null());
        Self {
            port,
            process: command.spawn().unwrap(),
            _directory: directory,
        }
    }

    async fn ask(&self, words: &[&str]) -> Option<redis::Value> {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut command = redis::cmd("SENTINEL");
        command.arg(words);
        command.query_async(&mut connection).await.ok()
    }

    /// How many of something it knows of.
    async fn knows(&self, what: &str) -> usize {
        match self.ask(&[what, "main"]).await {
            Some(redis::Value::Array(found)) => found.len(),
            _ => 0,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A primary, its replica, and three Sentinels that know of both and of each other.
struct Watched {
    primary: RedisServer,
    replica: RedisServer,
    watchers: Vec<Watcher>,
}

impl Watched {
    async fn start() -> Option<Self> {
        let (primary, replica) = (RedisServer::start()?, RedisServer::start()?);
        follow(&replica, &primary).await;
        let watchers: Vec<_> = (0..3).map(|_| Watcher::start(&primary)).collect();
        for watcher in &watchers {
            eventually(async || {
                watcher.knows("REPLICAS").await == 1 && watcher.knows("SENTINELS").await == 2
            })
            .await;
        }
        Some(Self {
            primary,
            replica,
            watchers,
        })
    }

    fn broker(&self) -> Broker {
        Broker::redis(&self.config()).unwrap()
    }

    fn config(&self) -> Config {
        let nodes = self.watchers.iter().map(|watcher| watcher.port);
        // One that is away comes first.
        let nodes = std::iter::once(1).chain(nodes);
        let nodes = nodes.map(|port| RedisUrl::parse(&format!("redis://127.0.0.1:{port}")).unwrap());
        Config {
            url: None,
            sentinel: Some(Sentinel {
                master: "main".to_owned(),
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

/// Publishes to the stream `a:1`, when the bus lets it; where to.
async fn try_publish(broker: &Broker) -> Option<Position> {
    let target = Target {
        retention: Some(RETENTION),
        ..Target::from(channel("a:1"))
    };
    let mut results = broker.publisher().publish(&[target], &publication("x")).await;
    results.pop().unwrap().ok()?.position
}

/// Publishes until it works.
async fn publish(broker: &Broker) -> Position {
    let published = async {
        loop {
            if let Some(position) = try_publish(broker).await {
                return position;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, published).await.expect("nothing was published")
}

#[tokio::test]
async fn publishing_goes_on_at_the_new_primary_and_subscribers_are_told_of_the_gap() {
    let Some(mut redis) = Watched::start().await else {
        return;
    };
    let broker = redis.broker();
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    let before = publish(&broker).await;
    assert_eq!(listener.hear_position().await.1, before);

    redis.primary.kill();
    let mut given = HashSet::from([(before.epoch, before.offset)]);
    for _ in 0..50 {
        let Position { offset, epoch } = publish(&broker).await;
        assert!(given.insert((epoch, offset)), "offset {offset} was given twice");
    }
    up(&broker).await;
    assert_eq!(listener.next().await, Incoming::Gap);
    let last = publish(&broker).await;
    let heard = async {
        loop {
            if let Incoming::Publication(_, Publication { position, .. }) = listener.next().await
                && position.as_ref() == Some(&last)
            {
                return;
            }
        }
    };
    timeout(PATIENCE, heard)
        .await
        .expect("the new primary's publications are not heard");
}

#[tokio::test]
async fn a_primary_that_is_replaced_in_order_loses_its_connections_to_the_new_one() {
    let Some(redis) = Watched::start().await else {
        return;
    };
    let broker = redis.broker();
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    publish(&broker).await;
    // The Sentinels promote the replica while the primary is well.
    eventually(async || redis.watchers[0].ask(&["FAILOVER", "main"]).await.is_some()).await;
    let new = redis.replica.port().to_string();
    for watcher in &redis.watchers {
        eventually(async || {
            let now = watcher.ask(&["GET-MASTER-ADDR-BY-NAME", "main"]).await;
            now.is_some_and(|now| redis::from_redis_value::<(String, String)>(now).unwrap().1 == new)
        })
        .await;
    }
    // Everything is on the new one: what is published there alone is heard.
    let direct = crate::node(&redis.replica);
    up(&direct).await;
    eventually(async || {
        publish(&direct).await;
        try_publish(&broker).await.is_some()
    })
    .await;
    let last = publish(&broker).await;
    let heard = async {
        loop {
            if let Incoming::Publication(_, Publication { position, .. }) = listener.next().await
                && position.as_ref() == Some(&last)
            {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("the bus is elsewhere");
}

#[tokio::test]
async fn sentinels_that_cannot_say_where_the_primary_is_are_named() {
    let Some(redis) = Watched::start().await else {
        return;
    };
    let Watched {
        watchers, primary, ..
    } = redis;
    let node = format!("redis://127.0.0.1:{}", watchers[0].port);
    let config = Config {
        url: None,
        sentinel: Some(Sentinel {
            master: "other".to_owned(),
            nodes: vec![RedisUrl::parse(&node).unwrap()],
            username: None,
            password: None,
            db: 0,
            tls_name: None,
        }),
        ..primary.config()
    };
    let reason = crate::away(&Broker::redis(&config).unwrap()).await;
    for part in ["\"other\"", &node, "it watches no"] {
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn what_waits_during_a_failover_is_published_once_at_the_new_primary() {
    let Some(mut redis) = Watched::start().await else {
        return;
    };
    let broker = redis.broker();
    up(&broker).await;
    publish(&broker).await;
    redis.primary.kill();
    let target = Target {
        retention: Some(RETENTION),
        ..Target::from(channel("b:1"))
    };
    let deadline = Some(tokio::time::Instant::now() + PATIENCE);
    let (publisher, publication) = (broker.publisher(), publication("x"));
    let targets = [target];
    let waiting = (0..20).map(|_| publisher.publish_within(&targets, &publication, deadline));
    let mut offsets = HashSet::new();
    for mut published in futures_util::future::join_all(waiting).await {
        offsets.insert(published.pop().unwrap().unwrap().position.unwrap().offset);
    }
    assert_eq!(offsets, (1..=20).collect());
}

#[tokio::test]
async fn a_look_at_redis_says_which_sentinels_answer_and_where_the_primary_is() {
    let Some(redis) = Watched::start().await else {
        return;
    };
    let found = tidings_broker::redis::examine(&redis.config()).await;
    let says = |verdict, part: &str| {
        let mut of = found.iter().filter(|finding| finding.verdict == verdict);
        assert!(
            of.any(|finding| finding.text.contains(part)),
            "{part}: {found:#?}"
        );
    };
    let primary = format!("the primary is at 127.0.0.1:{}", redis.primary.port());
    says(Verdict::Ok, &primary);
    says(Verdict::Warn, "Sentinel redis://127.0.0.1:1:");
    says(Verdict::Ok, "a primary with a replica in step");
    assert!(
        found.iter().all(|finding| finding.verdict != Verdict::Fail),
        "{found:#?}"
    );
}
