//! A Redis with a stream in it, and nodes that read it.

use std::collections::BTreeMap;

use redis::{Client, Value, aio::MultiplexedConnection, cmd};
use serde_json::Value as Json;
use tidings_tests::{CONFIG, Client as Reader, Launch, Redis, Tidings, eventually, token};

/// The stream of the tests, as a producer and an operator see it.
pub(crate) struct Stream(MultiplexedConnection);

pub(crate) const STREAM: &str = "jobs";

/// A source in the node's own Redis, with further keys of `[source.redis]`.
pub(crate) fn config(more: &str) -> String {
    config_of("", more)
}

/// A source with further keys of `[[source]]` and `[source.redis]`.
pub(crate) fn config_of(source: &str, redis: &str) -> String {
    format!(
        "{CONFIG}\n[[source]]\nname = \"jobs\"\n{source}\n[source.redis]\nstream = \"{STREAM}\"\n{redis}\n"
    )
}

pub(crate) async fn node(redis: &Redis, config: &str) -> Tidings {
    let node = Launch::new("standalone")
        .config(config)
        .redis(redis)
        .start()
        .await;
    node.wait_until_whole().await;
    node
}

/// A client that hears `tasks:1`.
pub(crate) async fn reader(node: &Tidings) -> Reader {
    let mut reader = Reader::connect(&node.websocket(), &token("ada")).await;
    reader.subscribe("tasks:1").await;
    reader
}

/// The numbers that a client hears, as the `data` of their events: so many.
pub(crate) async fn numbers(reader: &mut Reader, count: usize) -> Vec<u64> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let (_, event) = reader.hear().await;
        heard.push(event["data"].as_u64().unwrap());
    }
    heard
}

impl Stream {
    pub(crate) async fn of(redis: &Redis) -> Self {
        let client = Client::open(redis.url()).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    pub(crate) async fn run<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.0).await.unwrap()
    }

    /// Adds an entry; gives its id.
    pub(crate) async fn add(&mut self, fields: &[(&str, &str)]) -> String {
        let mut words = vec!["XADD", STREAM, "*"];
        words.extend(fields.iter().flat_map(|&(name, value)| [name, value]));
        self.run(&words).await
    }

    /// Adds an event with this number as its data, for `tasks:1`.
    pub(crate) async fn add_number(&mut self, number: u64) -> String {
        let data = number.to_string();
        self.add(&[
            ("type", "task.created"),
            ("channels", r#"["tasks:1"]"#),
            ("data", &data),
        ])
        .await
    }

    /// How many entries somebody has in hand.
    pub(crate) async fn pending(&mut self) -> u64 {
        let (count, ..): (u64, Value, Value, Value) = self.run(&["XPENDING", STREAM, "tidings"]).await;
        count
    }

    /// Waits until all that was read is acknowledged.
    pub(crate) async fn settled(&mut self) {
        for _ in 0..600 {
            if self.pending().await == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("entries are never acknowledged");
    }

    /// What was set aside, once it is so many.
    pub(crate) async fn aside(&mut self, count: usize) -> Vec<BTreeMap<String, String>> {
        let connection = self.0.clone();
        eventually("entries are set aside", async || {
            let mut read = cmd("XRANGE");
            read.arg(format!("{STREAM}:dead")).arg("-").arg("+");
            let entries: Vec<(String, Vec<(String, String)>)> =
                read.query_async(&mut connection.clone()).await.ok()?;
            let fields = entries
                .into_iter()
                .map(|(_, fields)| fields.into_iter().collect());
            let fields: Vec<_> = fields.collect();
            (fields.len() >= count).then_some(fields)
        })
        .await
    }
}

/// What readiness says is missing.
pub(crate) async fn reason(node: &Tidings, component: &str) -> Option<String> {
    let (status, body): (u16, Json) = node.json("/health/ready").await;
    assert_eq!(status, 200, "a source takes no node out of the balancer");
    body["reasons"][component].as_str().map(str::to_owned)
}
