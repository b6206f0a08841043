//! `tidings dev`: a newcomer's first five minutes.

use serde_json::{Value, json};
use tidings_tests::{Backend, Client, Launch, Plain, Shell, event, eventually, shell};

async fn dev() -> tidings_tests::Tidings {
    Launch::new("dev").config("").start().await
}

#[tokio::test]
async fn what_the_welcome_says_to_type_works_as_it_is_typed() {
    let node = dev().await;
    let welcome = eventually("the welcome is complete", async || {
        Some(node.logs()).filter(|logs| logs.contains(" publish --type "))
    })
    .await;
    let typed = |command: &str| {
        let line = welcome
            .lines()
            .find(|line| line.starts_with("  ") && line.contains(&format!(" {command} ")));
        line.unwrap_or_else(|| panic!("no {command} in {welcome}"))
            .to_owned()
    };
    for address in [node.websocket(), node.backends(), node.operators()] {
        assert!(welcome.contains(&address), "{address} is not in {welcome}");
    }

    let mut listener = Shell::start(&typed("listen"));
    eventually("it listens", async || {
        (node.metric("tidings_subscriptions").await > 0.0).then_some(())
    })
    .await;
    let published = shell(&typed("publish")).await;
    assert_eq!(published.code, Some(0), "{published:?}");
    let heard = listener.line().await;
    assert!(
        heard.contains("task.created") && heard.contains(r#"{"title":"Hello"}"#),
        "{heard}"
    );
}

#[tokio::test]
async fn one_publish_is_heard_by_every_client_and_needs_no_key_and_no_token() {
    let node = dev().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&node.websocket(), "").await;
        client.subscribe("tasks:1").await;
        clients.push(client);
    }
    let mut plain = Plain::connect(&node.plain("tasks:1")).await;
    eventually("all have subscribed", async || {
        (node.metric("tidings_subscriptions").await == 4.0).then_some(())
    })
    .await;

    let backend = Backend::new(&node.backends()).with_key(None);
    let answer = backend
        .publish(event("task.created", r#"{"title": "Hello"}"#, &["tasks:1"]))
        .await
        .unwrap();
    assert_eq!(answer.results.len(), 1);
    let is_it = |heard: &Value| {
        assert_eq!(heard["id"], answer.event_id);
        assert_eq!(heard["type"], "task.created");
        assert_eq!(heard["data"], json!({ "title": "Hello" }));
    };
    for client in &mut clients {
        let (channel, data) = client.hear().await;
        assert_eq!(channel, "tasks:1");
        is_it(&data);
    }
    is_it(&serde_json::from_str(&plain.hear().await).unwrap());

    // What one client publishes, all hear, the publisher too.
    let reply = clients[0]
        .ask("publish", json!({ "channel": "tasks:1", "data": [1, 2] }))
        .await;
    assert_eq!(reply["publish"], json!({}));
    for client in &mut clients {
        assert_eq!(client.hear().await.1, json!([1, 2]));
    }
    assert_eq!(plain.hear().await, "[1,2]");

    let (_, stats) = node.json("/stats").await;
    assert_eq!(
        (&stats["local_connections"], &stats["redis_enabled"]),
        (&json!(4), &json!(false))
    );
}

#[tokio::test]
async fn it_says_in_one_line_that_it_is_alone_and_stays_on_loopback() {
    let node = dev().await;
    assert_eq!(
        node.logs().matches("Redis is not used by `tidings dev`").count(),
        1,
        "{}",
        node.logs()
    );
    assert!(!node.logs().contains("0.0.0.0"), "{}", node.logs());
    node.wait_until_whole().await;
    assert_eq!(
        node.json("/health/redis").await,
        (200, json!({ "status": "disabled" }))
    );
}
