//! What streams cost a gateway when nothing or everything happens: `cargo run --release -p tidings-tests --example streams`.
//!
//! - A cut of the bus: 10,000 clients of one channel miss what is published in 5 s, and get it when the bus is back. Told are the
//!   gateway's CPU time for that, and for the same publications when nothing is cut; and how many clients were asked to subscribe again.
//! - Silence: 1,000 clients in 100 each of 1,000 channels. Told are the commands by which the gateway compares positions.
//!
//! Needs 25,000 open files (`ulimit -n 25000`). Processes and a Redis of its own; what is told are figures, nothing is asserted.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use serde_json::{Value, json};
use tidings_tests::{
    Backend, Launch, Redis, Tidings, event,
    fault::{Faulty, Wire},
    token,
};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tokio_util::task::TaskTracker;

const CONFIG: &str = r#"
[clients.token]
hmac_secret = "a secret of the tests, long enough"

[clients.limits]
connections_per_address = 100000
connections_per_user = 100000
ping_interval = "1h"

[[backends.key]]
name = "tests"
key = "the-key-of-the-tests"

[[namespace]]
name = "tasks"
history_size = 1000
history_ttl = "10m"
force_recovery = true
allow_subscribe_for_client = true
"#;

const CLIENTS: usize = 10_000;

/// Published while the bus is cut.
const MISSED: usize = 100;

/// For how long.
const CUT: Duration = Duration::from_secs(5);

/// Silence is listened to for so long; the gateway compares a quiet stream once in 40 s.
const SILENCE: Duration = Duration::from_secs(80);

/// What all clients together have heard.
#[derive(Default)]
struct Heard {
    subscribed: AtomicU64,
    publications: AtomicU64,
    /// Anything else that they were told.
    words: AtomicU64,
}

#[tokio::main]
async fn main() {
    let Some(redis) = Redis::start() else { return };
    let wire = Faulty::start(redis.port()).await;
    let node = launch(&wire.redis_url()).await;
    let other = launch(&redis.url()).await;
    let backend = Backend::new(&other.backends());
    cut(&node, &wire, &backend).await;
    silence(&node, &redis).await;
}

async fn launch(url: &str) -> Tidings {
    Launch::new("standalone")
        .config(CONFIG)
        .env("REDIS_URL", url)
        .start()
        .await
}

async fn cut(node: &Tidings, wire: &Faulty, backend: &Backend) {
    let heard = Arc::new(Heard::default());
    let clients = TaskTracker::new();
    let channels = vec!["tasks:1".to_owned()];
    for many in (0..CLIENTS).collect::<Vec<_>>().chunks(200) {
        let coming = many
            .iter()
            .map(|_| client(node.websocket(), channels.clone(), heard.clone(), &clients));
        join_all(coming).await;
    }
    until(&heard.subscribed, CLIENTS).await;
    println!("{CLIENTS} clients are subscribed");

    let all = CLIENTS * MISSED;
    let before = cpu(node);
    publish(backend, MISSED).await;
    until(&heard.publications, all).await;
    let live = cpu(node) - before;

    wire.set(Wire::Cut);
    publish(backend, MISSED).await;
    sleep(CUT).await;
    let (before, begin) = (cpu(node), Instant::now());
    wire.set(Wire::Whole);
    until(&heard.publications, 2 * all).await;
    let repaired = cpu(node) - before;
    println!(
        "{MISSED} publications to each, live: {live:.2?} of the gateway's CPU; missed in a cut of {CUT:?} and repaired: {repaired:.2?}, \
         {:.2?} after the bus was back; clients that were told anything else: {}",
        begin.elapsed(),
        heard.words.load(Relaxed)
    );
}

async fn silence(node: &Tidings, redis: &Redis) {
    let heard = Arc::new(Heard::default());
    let clients = TaskTracker::new();
    for client_number in 0..1000_usize {
        let channels = (0..100).map(|at| format!("tasks:q{}", (client_number + at * 10) % 1000));
        client(node.websocket(), channels.collect(), heard.clone(), &clients).await;
    }
    until(&heard.subscribed, 100_000).await;
    let before = scripts(redis);
    sleep(SILENCE).await;
    println!(
        "100,000 quiet subscriptions to 1,000 channels: {} commands in {SILENCE:?}",
        scripts(redis) - before
    );
}

/// A client that subscribes and counts what it hears, for as long as this program runs.
async fn client(url: String, channels: Vec<String>, heard: Arc<Heard>, clients: &TaskTracker) {
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let (mut socket, _) = connect_async_with_config(url, Some(config), false)
        .await
        .expect("a connection");
    clients.spawn(async move {
        let connect = json!({"id": 1, "connect": {"token": token("someone")}});
        let mut all = vec![connect.to_string()];
        for (at, channel) in channels.iter().enumerate() {
            all.push(
                json!({"id": at + 2, "subscribe": {"channel": channel, "recoverable": true}}).to_string(),
            );
        }
        for command in all {
            socket.send(Message::text(command)).await.expect("it can be sent");
        }
        while let Some(Ok(message)) = socket.next().await {
            for line in message.to_text().unwrap_or_default().lines() {
                let counted = match serde_json::from_str::<Value>(line) {
                    Ok(reply) if reply["subscribe"].is_object() => &heard.subscribed,
                    Ok(push) if push["push"]["pub"].is_object() => &heard.publications,
                    Ok(reply)
                        if reply["connect"].is_object()
                            || reply.as_object().is_some_and(|it| it.is_empty()) =>
                    {
                        continue;
                    }
                    _ => &heard.words,
                };
                counted.fetch_add(1, Relaxed);
            }
        }
        heard.words.fetch_add(1, Relaxed);
    });
}

async fn publish(backend: &Backend, many: usize) {
    for number in 0..many {
        let event = event("number", &number.to_string(), &["tasks:1"]);
        backend.publish(event).await.expect("it is published");
    }
}

async fn until(count: &AtomicU64, wanted: usize) {
    while count.load(Relaxed) < wanted as u64 {
        sleep(Duration::from_millis(5)).await;
    }
}

/// CPU time that a node has used.
fn cpu(node: &Tidings) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.id())).expect("Linux");
    let used = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}

/// Scripts that Redis has run, which is how positions are asked for.
fn scripts(redis: &Redis) -> u64 {
    let info: String = redis::from_redis_value(redis.ask(&["INFO", "commandstats"])).expect("text");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok())
        .unwrap_or_default()
}
