//! What goes wrong for some costs the others nothing: neither an answer nor work.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tidings_broker::test_util::{RedisCluster, RedisServer};
use tidings_tests::{Backend, Client, Launch, Redis, Tidings, event, eventually, token};
use tokio::time::sleep;

use crate::scene::CONFIG;

/// A publication of this many bytes.
const LARGE: usize = 60 * 1024;

/// Clients that come back to large publications, and those who only subscribe to something else meanwhile.
const RETURNING: usize = 10;
const NEW: usize = 23;

async fn node(redis: &str) -> Tidings {
    Launch::new("standalone")
        .config(&format!("{CONFIG}\n{redis}"))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_back_to_large_publications_keep_nobody_from_subscribing() {
    let Some(server) = Redis::start_with(&[]) else {
        return;
    };
    let node = node(&format!(
        "[redis]\nurl = \"redis://127.0.0.1:{}\"\n",
        server.port()
    ))
    .await;
    let backend = Backend::new(&node.backends());
    let at = json!({ "channel": "tasks:large", "recoverable": true });
    let mut first = Client::connect(&node.websocket(), &token("ada")).await;
    let epoch = first.ask("subscribe", at).await["subscribe"]["epoch"].take();
    for n in 0..250 {
        let data = json!({ "n": n, "text": "x".repeat(LARGE) }).to_string();
        let large = event("task.created", &data, &["tasks:large"]);
        backend.publish(large).await.expect("it is published");
    }

    let returning = (0..RETURNING).map(async |_| {
        let back = json!({ "channel": "tasks:large", "recoverable": true, "recover": true, "offset": 0, "epoch": epoch });
        for _ in 0..5 {
            let mut client = Client::connect(&node.websocket(), &token("bob")).await;
            let reply = client.ask("subscribe", back.clone()).await;
            assert_eq!(reply["subscribe"]["was_recovering"], true, "{reply}");
            assert_ne!(reply["subscribe"]["recovered"], true, "it is more than is recovered");
        }
    });
    let others = (0..NEW).map(async |n| {
        let mut client = Client::connect(&node.websocket(), &token("eve")).await;
        let to = json!({ "channel": format!("tasks:{n}"), "recoverable": true });
        let reply = client.ask("subscribe", to).await;
        assert!(reply["subscribe"].is_object(), "{reply}");
    });
    tokio::join!(join_all(returning), join_all(others));
}

/// How many scripts a server has run.
fn scripts(server: &RedisServer) -> u64 {
    let answer = server.ask(&["INFO", "commandstats"]);
    let info: String = redis::from_redis_value(answer).expect("text");
    let calls = info.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("cmdstat_evalsha:calls=")
            .or(line.strip_prefix("cmdstat_eval:calls="))?;
        rest.split(',').next()?.parse::<u64>().ok()
    });
    calls.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stays_away_costs_the_others_no_work() {
    const STREAMS: usize = 300;
    let Some(mut cluster) = tokio::task::spawn_blocking(RedisCluster::start).await.unwrap() else {
        return;
    };
    for server in &cluster.nodes {
        // Or Redis itself stops them all.
        server.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let seeds: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| format!("\"{}\"", node.url()))
        .collect();
    let node = node(&format!("[redis]\ncluster = [{}]\n", seeds.join(", "))).await;
    let mut clients = Vec::new();
    for n in 0..STREAMS {
        if n % 100 == 0 {
            clients.push(Client::connect(&node.websocket(), &token("ada")).await);
        }
        let client = clients.last_mut().unwrap();
        let to = json!({ "channel": format!("tasks:{n}"), "recoverable": true });
        let reply = client.ask("subscribe", to).await;
        assert!(reply["subscribe"].is_object(), "{reply}");
    }
    cluster.nodes[0].kill();
    for _ in 0..6 {
        for server in &cluster.nodes[1..] {
            // A gap: where all its streams are has to be asked.
            server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        sleep(Duration::from_millis(500)).await;
    }
    let healthy = &cluster.nodes[1];
    let mut before = scripts(healthy);
    eventually("a healthy primary is left alone", async || {
        sleep(Duration::from_secs(3)).await;
        let each = (scripts(healthy) - before) / 3;
        before = scripts(healthy);
        // Leases and checks; all its streams would be a hundred.
        (each < 30).then_some(())
    })
    .await;
}
