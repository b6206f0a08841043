//! Standalone nodes that share a Redis: all that differs between them is `PORT`.

use std::iter;

use serde_json::json;
use tidings_tests::{API_KEY, Backend, Client, Launch, Redis, Tidings, event, token};

/// A node that has no configuration file to speak of: what it needs it has from the environment.
pub(crate) async fn node(redis: &str) -> Tidings {
    Launch::new("standalone")
        .config("")
        .env("REDIS_URL", redis)
        .env(
            "TIDINGS_CLIENTS__TOKEN__HMAC_SECRET",
            "a secret of the tests, long enough",
        )
        .env(
            "TIDINGS_BACKENDS__KEY",
            &format!(r#"[{{ name = "tests", key = "{API_KEY}" }}]"#),
        )
        .env(
            "TIDINGS_NAMESPACE",
            r#"[{ name = "tasks", allow_subscribe_for_client = true, presence = true }]"#,
        )
        .start()
        .await
}

#[tokio::test]
async fn nodes_need_only_a_port_and_a_redis_to_be_one_cluster() {
    let Some(redis) = Redis::start() else { return };
    let mut nodes = Vec::new();
    let mut clients = Vec::new();
    for user in ["ada", "bob", "cid"] {
        let node = node(&redis.url()).await;
        let mut client = Client::connect(&node.websocket(), &token(user)).await;
        client.subscribe("tasks:1").await;
        nodes.push(node);
        clients.push(client);
    }
    for (number, publisher) in iter::zip(1.., &nodes) {
        let backend = Backend::new(&publisher.backends());
        backend
            .publish(event("task.created", &number.to_string(), &["tasks:1"]))
            .await
            .unwrap();
        for client in &mut clients {
            assert_eq!(client.hear().await.1["data"], json!(number));
        }
    }
}

#[tokio::test]
async fn a_password_of_redis_is_used_and_never_logged() {
    let Some(redis) = Redis::start_with(&["--requirepass", "hunter2"]) else {
        return;
    };
    let node = node(&redis.url().replace("redis://", "redis://:hunter2@")).await;
    node.wait_for_status("/health/redis", 200).await;
    let logs = node.logs();
    assert!(logs.contains("***") && !logs.contains("hunter2"), "{logs}");
}
