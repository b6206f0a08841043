//! A Redis Cluster of which one shard is dead, or refuses writes: events for the others are published as if nothing was.

use std::{collections::BTreeMap, time::Duration};

use redis::{aio::MultiplexedConnection, cmd};
use serde_json::{Value, json};
use tidings_broker::test_util::{RedisCluster, RedisServer};
use tidings_tests::{CONFIG, Client, Launch, Postgres, Redis, Tidings, eventually, token};
use tokio::time::Instant;

use crate::outbox::{self, Outbox};

/// The shard that dies.
const DEAD: usize = 1;

/// Channels that keep what is published, so that it can be looked at afterwards.
const NAMESPACE: &str = r#"
[[namespace]]
name = "kept"
history_size = 50000
history_ttl = "1h"
allow_subscribe_for_client = true
allow_history_for_client = true
"#;

/// A Cluster and a channel at each of its primaries.
struct Scene {
    cluster: RedisCluster,
    channels: Vec<String>,
}

impl Scene {
    async fn start() -> Option<Self> {
        let cluster = tokio::task::spawn_blocking(RedisCluster::start).await.unwrap()?;
        for server in &cluster.nodes {
            // Or Redis itself stops them all.
            server.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
        }
        let channels = (0..cluster.nodes.len()).map(|node| {
            let mut names = (0..).map(|number| format!("kept:{number}"));
            let at_node = |name: &String| cluster.owner(cluster.slot(name)) == node;
            names.find(at_node).unwrap()
        });
        Some(Self {
            channels: channels.collect(),
            cluster,
        })
    }

    async fn node(&self, config: &str) -> Tidings {
        let seeds = self.cluster.nodes.iter().map(RedisServer::url);
        let seeds: Vec<_> = seeds.map(|url| format!("\"{url}\"")).collect();
        let cluster = format!("[redis]\ncluster = [{}]\n", seeds.join(", "));
        let node = Launch::new("standalone")
            .config(&format!("{config}\n{NAMESPACE}\n{cluster}"))
            .start()
            .await;
        node.wait_until_whole().await;
        node
    }

    /// Kills a shard and waits until the node knows.
    async fn shard_dies(&mut self, node: &Tidings) {
        self.cluster.nodes[DEAD].kill();
        node.wait_for_status("/health/redis", 503).await;
    }
}

/// The partitions and numbers that were published to a channel, in order.
async fn published(node: &Tidings, channel: &str) -> Vec<(String, u64)> {
    let mut client = Client::connect(&node.websocket(), &token("ada")).await;
    let (mut published, mut since) = (Vec::new(), Value::Null);
    loop {
        let mut query = json!({ "channel": channel, "limit": 300 });
        if since.is_object() {
            query["since"] = since;
        }
        let reply = client.ask("history", query).await;
        let history = &reply["history"];
        let list = history["publications"].as_array().cloned().unwrap_or_default();
        for publication in &list {
            let data = &publication["data"]["data"];
            let (partition, number) = (&data[0], &data[1]);
            published.push((partition.as_str().unwrap().to_owned(), number.as_u64().unwrap()));
        }
        match list.last() {
            Some(last) if last["offset"] != history["offset"] => {
                since = json!({ "offset": last["offset"], "epoch": history["epoch"] });
            }
            _ => return published,
        }
    }
}

/// Each number of each of the partitions is there once, and those of `in_order` are in order.
#[track_caller]
fn assert_whole(published: &[(String, u64)], each: u64, in_order: impl Fn(&str) -> bool) {
    let mut partitions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (partition, number) in published {
        partitions.entry(partition).or_default().push(*number);
    }
    for (partition, mut numbers) in partitions {
        if !in_order(partition) {
            numbers.sort_unstable();
        }
        assert_eq!(numbers, (0..each).collect::<Vec<_>>(), "of {partition}");
    }
}

/// Inserts rows, a third of them for each of three channels: half of them in `partitions` partitions, half in none.
async fn insert(outbox: &Outbox, channels: &[String], rows: i32, partitions: i32) {
    let insert = "INSERT INTO tidings_outbox (partition_key, type, channels, data) \
                  SELECT CASE WHEN n % 2 = 0 THEN 'even-' || n % $3 END, 'task.created', \
                         ARRAY[($1::text[])[n % 3 + 1]], \
                         jsonb_build_array(CASE WHEN n % 2 = 0 THEN 'even-' ELSE 'odd-' END || n % $3, n / $3) \
                  FROM generate_series(0, $2 - 1) AS n";
    outbox
        .0
        .execute(insert, &[&channels, &rows, &partitions])
        .await
        .unwrap();
}

/// `backlog`: so many rows of the dead shard without a partition come first.
async fn all_but_those_of_a_dead_shard(backlog: i32, rows: i32, batch: u16) {
    const PARTITIONS: i32 = 60;
    let (Some(server), Some(mut scene)) = (Postgres::start().await, Scene::start().await) else {
        return;
    };
    let node = scene
        .node(&outbox::config(&server, "", &format!("batch = {batch}")))
        .await;
    let outbox = Outbox::of(&server).await;
    scene.shard_dies(&node).await;
    let dead = &scene.channels[DEAD];
    let first = "INSERT INTO tidings_outbox (type, channels, data) \
                 SELECT 'task.created', ARRAY[$1], jsonb_build_array('first', n) FROM generate_series(0, $2 - 1) AS n";
    outbox.0.execute(first, &[dead, &backlog]).await.unwrap();
    insert(&outbox, &scene.channels, rows, PARTITIONS).await;
    let both = "INSERT INTO tidings_outbox (type, channels, data) VALUES ('task.created', ARRAY[$1, $2], '[\"both\", 0]')";
    outbox.0.execute(both, &[&scene.channels[0], dead]).await.unwrap();
    let dead = format!("channels @> '{{{dead}}}'");
    eventually("the rows of the other shards are published", async || {
        (outbox.count(&format!("NOT {dead}")).await == 0).then_some(())
    })
    .await;
    let both = ("both".to_owned(), 0);
    eventually(
        "of an event for two channels the one that is well has it",
        async || {
            let published = published(&node, &scene.channels[0]).await;
            published.contains(&both).then_some(())
        },
    )
    .await;
    let waiting = backlog + rows / 3 + 1;
    assert_eq!(outbox.count(&dead).await, i64::from(waiting), "these wait");
    assert_eq!(outbox.count("failed_at IS NOT NULL").await, 0);

    scene.cluster.nodes[DEAD].up();
    let deadline = Instant::now() + Duration::from_secs(120);
    while outbox.count("true").await > 0 {
        assert!(Instant::now() < deadline, "some are never published");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for channel in &scene.channels {
        let mut published = published(&node, channel).await;
        let count = published.extract_if(.., |it| *it == both).count();
        assert_eq!(count, usize::from(*channel != scene.channels[2]), "once");
        let (mut first, rest): (Vec<_>, Vec<_>) =
            published.into_iter().partition(|(name, _)| name == "first");
        assert_eq!(rest.len(), usize::try_from(rows / 3).unwrap(), "each once");
        let each = u64::try_from(rows / PARTITIONS).unwrap();
        assert_whole(&rest, each, |partition| partition.starts_with("even"));
        first.sort_unstable();
        first.dedup();
        let backlog = if *channel == scene.channels[DEAD] {
            backlog
        } else {
            0
        };
        assert_eq!(first.len(), usize::try_from(backlog).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_publishes_all_rows_but_those_of_a_dead_shard_of_the_redis_cluster() {
    all_but_those_of_a_dead_shard(0, 9_000, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_goes_on_though_more_partitions_than_are_remembered_wait_for_a_dead_shard() {
    all_but_those_of_a_dead_shard(24_000, 3_000, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_looks_each_second_for_a_row_of_a_dead_shard_that_another_node_works_on() {
    const MEASURED: Duration = Duration::from_secs(5);
    let (Some(server), Some(mut scene)) = (Postgres::start().await, Scene::start().await) else {
        return;
    };
    let node = scene.node(&outbox::config(&server, "", "")).await;
    let outbox = Outbox::of(&server).await;
    scene.shard_dies(&node).await;
    let insert = "INSERT INTO tidings_outbox (type, channels, data) VALUES ('task.created', ARRAY[$1], '[\"dead\", 0]')";
    outbox.0.execute(insert, &[&scene.channels[DEAD]]).await.unwrap();
    let retried = r#"tidings_source_events_total{source="shop",result="retried"}"#;
    eventually("the row was tried", async || {
        (node.metric(retried).await > 0.0).then_some(())
    })
    .await;
    // What another node does that works on the row's shard of the table.
    let lock = "SELECT pg_advisory_lock('tidings_outbox'::regclass::oid::int, lane) FROM tidings_outbox";
    outbox.0.batch_execute(lock).await.unwrap();
    let statements = async || -> i64 {
        let ask =
            "SELECT pg_stat_get_db_xact_commit(oid) FROM pg_database WHERE datname = current_database()";
        outbox.0.query_one(ask, &[]).await.unwrap().get(0)
    };
    let before = statements().await;
    tokio::time::sleep(MEASURED).await;
    let count = statements().await - before;
    // A round is two, and begins after 1 s at the latest, or at each poll.
    assert!((2..100).contains(&count), "{count} in {MEASURED:?}");

    outbox
        .0
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .await
        .unwrap();
    scene.cluster.nodes[DEAD].up();
    outbox.settled().await;
    assert_eq!(
        published(&node, &scene.channels[DEAD]).await,
        [("dead".to_owned(), 0)]
    );
}

const PUBLISHED: &str = r#"tidings_source_events_total{source="jobs",result="published"}"#;

/// A source that reads the stream `jobs`.
fn stream_config(server: &Redis) -> String {
    format!(
        "{CONFIG}\n[[source]]\nname = \"jobs\"\n[source.redis]\nurl = \"{}\"\nstream = \"jobs\"\n",
        server.url()
    )
}

/// Adds entries to the stream at once, each with its channels and its data.
async fn add(server: &Redis, entries: impl Iterator<Item = (Value, Value)>) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    let mut stream = client.get_multiplexed_async_connection().await.unwrap();
    let mut adds = redis::pipe();
    for (channels, data) in entries {
        let add = adds.cmd("XADD").arg(&["jobs", "*", "type", "task.created"]);
        add.arg("channels").arg(channels.to_string());
        add.arg("data").arg(data.to_string()).ignore();
    }
    adds.exec_async(&mut stream).await.unwrap();
    stream
}

/// How many entries are not acknowledged.
async fn pending(stream: &mut MultiplexedConnection) -> usize {
    let mut ask = cmd("XPENDING");
    ask.arg(&["jobs", "tidings"]);
    let (count, ..): (usize, redis::Value, redis::Value, redis::Value) =
        ask.query_async(stream).await.unwrap();
    count
}

/// The numbers that were published to a channel, in order.
async fn numbers(node: &Tidings, channel: &str) -> Vec<u64> {
    let published = published(node, channel).await.into_iter();
    published.map(|(_, number)| number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_for_a_dead_shard_and_others_reaches_the_others_at_once_and_in_order() {
    const ENTRIES: u64 = 2_000;
    let (Some(server), Some(mut scene)) = (Redis::start(), Scene::start().await) else {
        return;
    };
    let node = scene.node(&stream_config(&server)).await;
    scene.shard_dies(&node).await;
    let [first, dead, last] = scene.channels.clone().try_into().unwrap();
    // Each entry has a channel of the one before it: what waits for the dead shard could hold up all of them, one by another.
    let channels = [
        json!([dead]),
        json!([dead, first]),
        json!([first, last]),
        json!([last]),
    ];
    let entries = (0..ENTRIES).map(|number| (channels[number as usize % 4].clone(), json!(["all", number])));
    let mut stream = add(&server, entries).await;
    let of = |rest: [u64; 2]| {
        (0..ENTRIES)
            .filter(move |number| rest.contains(&(number % 4)))
            .collect::<Vec<_>>()
    };
    for (channel, rest) in [(&first, [1, 2]), (&last, [2, 3])] {
        eventually("a channel of a shard that is up has its events", async || {
            (numbers(&node, channel).await.len() >= of(rest).len()).then_some(())
        })
        .await;
        assert_eq!(numbers(&node, channel).await, of(rest), "in order");
    }
    assert_eq!(
        pending(&mut stream).await as u64,
        ENTRIES / 2,
        "these wait for the dead shard"
    );

    scene.cluster.nodes[DEAD].up();
    eventually("all are published", async || {
        (pending(&mut stream.clone()).await == 0).then_some(())
    })
    .await;
    for (channel, rest) in [(&dead, [0, 1]), (&first, [1, 2]), (&last, [2, 3])] {
        assert_eq!(numbers(&node, channel).await, of(rest), "once and in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_stream_source_publishes_all_entries_but_those_of_a_dead_shard_of_the_redis_cluster() {
    let (Some(server), Some(mut scene)) = (Redis::start(), Scene::start().await) else {
        return;
    };
    let node = scene.node(&stream_config(&server)).await;
    let dead = channels_of_the_shard(&scene);
    scene.shard_dies(&node).await;
    let mut entries = Entries::add(&server, &scene, dead).await;
    entries.of_others_are_published(&node).await;
    scene.cluster.nodes[DEAD].up();
    entries.are_published(&node, &scene).await;
}

/// As after a failover, where `min-replicas-to-write` is set. Redis answers, so only its refusals tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_stream_source_dead_letters_nothing_for_a_shard_that_refuses_writes_and_publishes_the_others()
{
    let (Some(server), Some(scene)) = (Redis::start(), Scene::start().await) else {
        return;
    };
    let node = scene.node(&stream_config(&server)).await;
    let replicas =
        |number| scene.cluster.nodes[DEAD].ask(&["CONFIG", "SET", "min-replicas-to-write", number]);
    replicas("1");
    let mut entries = Entries::add(&server, &scene, channels_of_the_shard(&scene)).await;
    entries.of_others_are_published(&node).await;
    replicas("0");
    entries.are_published(&node, &scene).await;
}

/// Channels of the shard [`DEAD`], while that can still be asked.
fn channels_of_the_shard(scene: &Scene) -> Vec<String> {
    let (names, cluster) = ((0..).map(|number| format!("kept:{number}")), &scene.cluster);
    let dead = names.filter(|name| cluster.owner(cluster.slot(name)) == DEAD);
    dead.take(Entries::CHANNELS).collect()
}

/// Entries of a source, a third of them for the shard [`DEAD`]: for many channels, each of which holds up no other.
struct Entries {
    stream: MultiplexedConnection,
    dead: Vec<String>,
}

impl Entries {
    const COUNT: usize = 6_000;
    const CHANNELS: usize = 500;

    async fn add(server: &Redis, scene: &Scene, dead: Vec<String>) -> Self {
        let entries = (0..Self::COUNT).map(|number| {
            let channel = match number % 3 {
                DEAD => &dead[number / 3 % dead.len()],
                shard => &scene.channels[shard],
            };
            (json!([channel]), json!([channel, number / 3]))
        });
        let stream = add(server, entries).await;
        Self { stream, dead }
    }

    async fn of_others_are_published(&self, node: &Tidings) {
        eventually("the entries of the other shards are published", async || {
            let others = Self::COUNT - Self::COUNT / 3;
            (node.metric(PUBLISHED).await >= others as f64).then_some(())
        })
        .await;
    }

    async fn are_published(&mut self, node: &Tidings, scene: &Scene) {
        eventually("all are published", async || {
            let all = node.metric(PUBLISHED).await >= Self::COUNT as f64;
            (all && pending(&mut self.stream).await == 0).then_some(())
        })
        .await;
        for shard in [0, 2] {
            let channel = &scene.channels[shard];
            assert_whole(&published(node, channel).await, (Self::COUNT / 3) as u64, |_| {
                true
            });
        }
        let rounds = (Self::COUNT / 3 / Self::CHANNELS) as u64;
        let expected = (0..rounds).map(|round| round * Self::CHANNELS as u64 + 7);
        assert_eq!(numbers(node, &self.dead[7]).await, expected.collect::<Vec<_>>());
    }
}
