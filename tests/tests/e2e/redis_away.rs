//! Redis is away, at the start or later: a node stays up, says so, serves its own, and joins when it can.

use serde_json::json;
use tidings_tests::{Backend, Client, Launch, Redis, Tidings, event, eventually, token};
use tonic::Code;

async fn node(redis: &Redis) -> Tidings {
    Launch::new("standalone")
        .redis(redis)
        .env("REDIS_CONNECT_TIMEOUT", "500")
        .start()
        .await
}

async fn subscriber(node: &Tidings, user: &str) -> Client {
    let mut client = Client::connect(&node.websocket(), &token(user)).await;
    client.subscribe("tasks:1").await;
    client
}

/// Waits until a node says that Redis is away, and still wants clients.
async fn until_degraded(node: &Tidings) {
    node.wait_for_status("/health/redis", 503).await;
    let (status, health) = node.json("/health/ready").await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")), "{health}");
    assert!(health["reasons"]["redis"].is_string(), "{health}");
}

/// One publish at a node, which both clients hear.
async fn publish(node: &Tidings, number: u32, clients: [&mut Client; 2]) {
    let backend = Backend::new(&node.backends());
    backend
        .publish(event("task.created", &number.to_string(), &["tasks:1"]))
        .await
        .unwrap();
    for client in clients {
        assert_eq!(client.hear().await.1["data"], json!(number));
    }
}

#[tokio::test]
async fn a_node_that_starts_before_redis_serves_its_own_clients_and_joins_when_redis_comes() {
    let Some(mut redis) = Redis::away() else { return };
    let (here, there) = (node(&redis).await, node(&redis).await);
    until_degraded(&here).await;

    let mut ada = subscriber(&here, "ada").await;
    let mut bob = subscriber(&here, "bob").await;
    let mut far = subscriber(&there, "far").await;
    ada.ask("publish", json!({ "channel": "tasks:1", "data": "hello" }))
        .await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.hear().await.1, json!("hello"));
    }

    redis.up();
    for node in [&here, &there] {
        node.wait_for_status("/health/redis", 200).await;
        // Presence, which keeps its members there, is back a moment later.
        node.wait_until_whole().await;
    }
    publish(&here, 1, [&mut ada, &mut far]).await;
}

#[tokio::test]
async fn when_redis_goes_clients_stay_and_when_it_returns_everything_is_as_before() {
    let Some(mut redis) = Redis::start() else { return };
    let (mut here, there) = (node(&redis).await, node(&redis).await);
    let (mut ada, mut far) = (subscriber(&here, "ada").await, subscriber(&there, "far").await);
    publish(&here, 1, [&mut ada, &mut far]).await;

    redis.kill();
    until_degraded(&here).await;
    until_degraded(&there).await;
    let refused = Backend::new(&here.backends())
        .publish(event("task.created", "0", &["tasks:1"]))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    // It can still be talked to, and newcomers are let in.
    let mut bob = subscriber(&here, "bob").await;

    redis.up();
    for node in [&here, &there] {
        node.wait_for_status("/health/redis", 200).await;
    }
    publish(&there, 2, [&mut ada, &mut far]).await;
    assert_eq!(bob.hear().await.1["data"], json!(2));
    assert!(here.is_running());
}

#[tokio::test]
async fn members_are_known_again_after_redis_has_lost_them() {
    let Some(mut redis) = Redis::start() else { return };
    let node = node(&redis).await;
    let _ada = subscriber(&node, "ada").await;
    let backend = Backend::new(&node.backends());
    let known = async || {
        eventually("the member is listed", async || {
            backend
                .list("tasks:1")
                .await
                .ok()
                .filter(|members| members.len() == 1)
        })
        .await
    };
    known().await;
    redis.kill();
    node.wait_for_status("/health/redis", 503).await;
    redis.up();
    assert_eq!(known().await[0].user, "ada");
}
