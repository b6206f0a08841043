//! Plain WebSockets: the channel in the path, the token in the query, bare data in the messages.

use serde_json::Value;
use tidings_tests::{
    Backend, Client, Launch, Plain, Tidings, event, eventually, expired_token, handshake, token,
};

async fn node() -> Tidings {
    Launch::new("standalone").start().await
}

async fn subscribed(node: &Tidings, count: f64) {
    eventually("it has subscribed", async || {
        (node.metric("tidings_subscriptions").await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_hears_bare_data_and_publishes_by_sending() {
    let node = node().await;
    let mut plain = Plain::connect(&node.plain(&format!("tasks:1?token={}", token("ada")))).await;
    let mut other = Client::connect(&node.websocket(), &token("bob")).await;
    other.subscribe("tasks:1").await;
    subscribed(&node, 2.0).await;

    let answer = Backend::new(&node.backends())
        .publish(event("task.created", "7", &["tasks:1"]))
        .await
        .unwrap();
    let heard: Value = serde_json::from_str(&plain.hear().await).unwrap();
    assert_eq!(
        (&heard["id"], &heard["data"]),
        (&answer.event_id.into(), &7.into())
    );
    assert_eq!(other.hear().await.1, heard);

    plain.publish(r#"{"from":"ada"}"#).await;
    assert_eq!(plain.hear().await, r#"{"from":"ada"}"#);
    assert_eq!(other.hear().await.1["from"], "ada");
}

#[tokio::test]
async fn what_fails_ends_the_connection_with_a_code_that_says_whether_to_come_back() {
    let node = node().await;
    let (good, old) = (token("ada"), expired_token("ada"));
    for (rest, code) in [
        ("tasks:1".to_owned(), 3501),
        ("tasks:1?token=nonsense".to_owned(), 3500),
        (format!("tasks:1?token={old}"), 3005),
        (format!("secrets:1?token={good}"), 3501),
    ] {
        let mut plain = Plain::connect(&node.plain(&rest)).await;
        assert_eq!(plain.closed().await.0, code, "{rest}");
    }
    let mut plain = Plain::connect(&node.plain(&format!("news:1?token={good}"))).await;
    subscribed(&node, 1.0).await;
    plain.publish("1").await;
    assert_eq!(plain.closed().await.0, 3507);
    assert!(!node.logs().contains(&good), "tokens are not logged");
}

#[tokio::test]
async fn a_path_that_names_no_channel_is_a_bad_request() {
    let node = node().await;
    for channel in ["%7Bbraces%7D", "white%20space", &"x".repeat(256)] {
        let (status, why) = handshake(&node.plain(channel), &[]).await;
        assert_eq!(status, 400, "{channel}");
        assert!(why.contains("channel name"), "{why}");
    }
}
