//! Clients that others wrote: the real `centrifuge` SDK, and gRPC from the `.proto` files alone, both in Node.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use serde_json::{Value, json};
use tidings_tests::{
    API_KEY, Backend, Balancer, CONFIG, Launch, Redis, Sdk, Tidings, event, eventually, expired_token,
    has_node, node, token, token_for,
};

async fn standalone() -> Tidings {
    Launch::new("standalone").start().await
}

async fn subscribed(url: &str, user: &str) -> Sdk {
    let mut sdk = Sdk::connect(url, Some(&token(user))).await;
    sdk.event("connecting").await;
    sdk.event("connected").await;
    sdk.tell(&json!({ "do": "subscribe", "channel": "tasks:1" }))
        .await;
    sdk.event("subscribed").await;
    sdk
}

async fn publish(server: &Tidings, data: &str) {
    let backend = Backend::new(&server.backends());
    backend
        .publish(event("task.created", data, &["tasks:1"]))
        .await
        .unwrap();
}

#[tokio::test]
async fn it_subscribes_hears_publishes_and_unsubscribes() {
    if !has_node() {
        return;
    }
    let server = standalone().await;
    let mut ada = subscribed(&server.websocket(), "ada").await;
    publish(&server, r#"{"title":"Größe \"1\"\n"}"#).await;
    let heard = ada.event("publication").await;
    assert_eq!(heard["channel"], "tasks:1");
    assert_eq!(
        (&heard["data"]["type"], &heard["data"]["data"]["title"]),
        (&json!("task.created"), &json!("Größe \"1\"\n"))
    );

    let mut bob = subscribed(&server.websocket(), "bob").await;
    let answer = bob
        .ask(&json!({ "do": "publish", "channel": "tasks:1", "data": { "n": 1 } }))
        .await;
    assert!(answer["result"].is_object(), "{answer}");
    for sdk in [&mut ada, &mut bob] {
        let heard = sdk.event("publication").await;
        assert_eq!(
            (&heard["data"], &heard["user"]),
            (&json!({ "n": 1 }), &json!("bob"))
        );
    }

    ada.tell(&json!({ "do": "unsubscribe", "channel": "tasks:1" }))
        .await;
    assert_eq!(ada.event("unsubscribed").await["code"], 0);
    eventually("the server knows", async || {
        (server.metric("tidings_subscriptions").await == 1.0).then_some(())
    })
    .await;
    publish(&server, "2").await;
    bob.event("publication").await;
    ada.tell(&json!({ "do": "disconnect" })).await;
    ada.event("disconnected").await;
    assert!(!ada.had("publication") && !ada.had("error"));
}

#[tokio::test]
async fn it_does_the_same_in_protobuf() {
    if !has_node() {
        return;
    }
    let short = format!("[clients.limits]\nping_interval = \"1s\"\npong_timeout = \"500ms\"\n{CONFIG}");
    let server = Launch::new("standalone").config(&short).start().await;
    let mut bob = subscribed(&server.websocket(), "bob").await;
    let mut ada = Sdk::connect_in_protobuf(&server.websocket(), Some(&token("ada"))).await;
    ada.tell(&json!({ "do": "subscribe", "channel": "tasks:1" }))
        .await;
    ada.event("subscribed").await;
    publish(&server, r#"{"title":"Hello"}"#).await;
    for sdk in [&mut ada, &mut bob] {
        assert_eq!(
            sdk.event("publication").await["data"]["data"],
            json!({ "title": "Hello" })
        );
    }
    ada.ask(&json!({ "do": "publish", "channel": "tasks:1", "data": [1] }))
        .await;
    for sdk in [&mut ada, &mut bob] {
        let heard = sdk.event("publication").await;
        assert_eq!((&heard["data"], &heard["user"]), (&json!([1]), &json!("ada")));
    }
    let stats = ada
        .ask(&json!({ "do": "presence_stats", "channel": "tasks:1" }))
        .await;
    assert!(stats["result"]["numClients"].is_number(), "{stats}");
    for _ in 0..2 {
        ada.event("ping").await;
    }
    publish(&server, "1").await;
    ada.event("publication").await;
    assert!(!ada.had("disconnected") && !ada.had("error"));
}

#[tokio::test]
async fn it_is_told_who_is_there() {
    if !has_node() {
        return;
    }
    let server = standalone().await;
    let mut ada = subscribed(&server.websocket(), "ada").await;
    let _bob = subscribed(&server.websocket(), "bob").await;
    let users = eventually("both are there", async || {
        let answer = ada.ask(&json!({ "do": "presence", "channel": "tasks:1" })).await;
        let clients = answer["result"]["clients"]
            .as_object()
            .unwrap_or_else(|| panic!("{answer}"));
        let mut users: Vec<_> = clients.values().map(|info| info["user"].clone()).collect();
        users.sort_by_key(Value::to_string);
        Some(users).filter(|users| users.len() == 2)
    })
    .await;
    assert_eq!(users, ["ada", "bob"]);
    let stats = ada
        .ask(&json!({ "do": "presence_stats", "channel": "tasks:1" }))
        .await;
    assert_eq!(stats["result"], json!({ "numClients": 2, "numUsers": 2 }));
}

#[tokio::test]
async fn it_is_pinged_and_stays() {
    if !has_node() {
        return;
    }
    let short = format!("[clients.limits]\nping_interval = \"1s\"\npong_timeout = \"500ms\"\n{CONFIG}");
    let server = Launch::new("standalone").config(&short).start().await;
    let mut ada = subscribed(&server.websocket(), "ada").await;
    // A third ping means that the first two were answered in time.
    for _ in 0..3 {
        ada.event("ping").await;
    }
    publish(&server, "1").await;
    ada.event("publication").await;
    assert!(
        !ada.had("connecting") && !ada.had("disconnected"),
        "it is still on its first connection"
    );
}

#[tokio::test]
async fn without_a_token_it_is_refused_with_the_protocols_code_and_stays_away() {
    if !has_node() {
        return;
    }
    let server = standalone().await;
    for (token, code) in [(None, 3501), (Some("nonsense"), 3500)] {
        let mut sdk = Sdk::connect(&server.websocket(), token).await;
        // "disconnected" is the SDK's word for good; when it will be back it says "connecting".
        assert_eq!(sdk.event("disconnected").await["code"], code);
    }
}

#[tokio::test]
async fn with_an_expired_token_it_gets_another_and_is_let_in() {
    if !has_node() {
        return;
    }
    let server = standalone().await;
    let mut sdk = Sdk::connect(&server.websocket(), Some(&expired_token("ada"))).await;
    sdk.event("token_wanted").await;
    sdk.tell(&json!({ "do": "token", "token": token("ada") })).await;
    sdk.event("connected").await;
}

#[tokio::test]
async fn it_renews_its_token_before_that_runs_out_and_stays_connected() {
    if !has_node() {
        return;
    }
    let server = standalone().await;
    // With an expired one it first asks for another, so that this one's time begins when everything runs.
    let mut sdk = Sdk::connect(&server.websocket(), Some(&expired_token("ada"))).await;
    let give = async |sdk: &mut Sdk, seconds| {
        sdk.event("token_wanted").await;
        let token = token_for("ada", Duration::from_secs(seconds));
        sdk.tell(&json!({ "do": "token", "token": token })).await;
    };
    give(&mut sdk, 5).await;
    sdk.event("connected").await;
    sdk.forget();
    give(&mut sdk, 3600).await;
    // Commands are done in their order: a refresh that failed would have ended the connection before this.
    sdk.tell(&json!({ "do": "subscribe", "channel": "tasks:1" }))
        .await;
    sdk.event("subscribed").await;
    assert!(
        !sdk.had("connecting") && !sdk.had("error"),
        "it is still on its first connection"
    );
}

#[tokio::test]
async fn when_its_gateway_is_killed_it_is_back_on_another_and_hears_again() {
    let Some(redis) = Redis::start() else { return };
    if !has_node() {
        return;
    }
    let mut first = Launch::new("standalone").redis(&redis).start().await;
    let second = Launch::new("standalone").redis(&redis).start().await;
    let balancer = Balancer::start(&[first.port(), second.port()]).await;
    let mut ada = subscribed(&balancer.websocket(), "ada").await;
    publish(&second, "1").await;
    assert_eq!(ada.event("publication").await["data"]["data"], 1);
    assert_eq!(second.metric("tidings_connections").await, 0.0);

    first.kill().await;
    ada.event("connected").await;
    ada.event("subscribed").await;
    assert_eq!(second.metric("tidings_connections").await, 1.0);
    publish(&second, "2").await;
    assert_eq!(ada.event("publication").await["data"]["data"], 2);
}

#[tokio::test]
async fn when_its_node_drains_it_moves_to_another_by_itself() {
    let Some(redis) = Redis::start() else { return };
    if !has_node() {
        return;
    }
    let mut first = Launch::new("standalone")
        .redis(&redis)
        .env("TIDINGS_DRAIN__OVER", "1s")
        .start()
        .await;
    let second = Launch::new("standalone").redis(&redis).start().await;
    let balancer = Balancer::start(&[first.port(), second.port()]).await;
    let mut ada = subscribed(&balancer.websocket(), "ada").await;
    first.terminate().await;
    assert_eq!(ada.event("connecting").await["code"], 3001);
    ada.event("subscribed").await;
    publish(&second, "1").await;
    ada.event("publication").await;
}

#[tokio::test]
async fn a_backend_in_another_language_publishes_from_the_proto_files_alone() {
    if !has_node() {
        return;
    }
    let server = standalone().await;
    let mut ada = subscribed(&server.websocket(), "ada").await;
    let address = server.backends().replace("http://", "");
    let wanted = json!({
        "id": "from-node-1", "type": "task.created", "source": "node", "attributes": { "tenant": "1" },
        "data": { "assignee_id": "ada" },
    })
    .to_string();
    let answer = node("publish.mjs", &[&address, API_KEY, &wanted]).await;
    assert_eq!(answer["event_id"], "from-node-1", "{answer}");
    let channels: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["channel"])
        .collect();
    assert_eq!(channels, ["tasks:1", "news:ada"]);
    let heard = ada.event("publication").await;
    assert_eq!(
        (&heard["data"]["id"], &heard["data"]["source"]),
        (&json!("from-node-1"), &json!("node"))
    );

    let wrong = json!({ "type": "", "channels": ["tasks:1"], "data": 1 }).to_string();
    let refused = node("publish.mjs", &[&address, API_KEY, &wrong]).await;
    assert_eq!(refused["code"], 3, "INVALID_ARGUMENT: {refused}");
    let refused = node("publish.mjs", &[&address, "", &wanted]).await;
    assert_eq!(refused["code"], 16, "UNAUTHENTICATED: {refused}");
}
