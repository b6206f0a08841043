//! Several nodes and one Redis, behind a balancer that knows nothing of sessions.

use serde_json::json;
use tidings_tests::{Balancer, Redis, Sdk, in_every_way, token};

use crate::node::{launch, publish};

#[tokio::test]
async fn no_sticky_sessions_whichever_node_its_requests_meet_passes_them_on() {
    let Some(redis) = Redis::start() else { return };
    let first = launch().redis(&redis).start().await;
    let second = launch().redis(&redis).start().await;
    in_every_way(async |way| {
        // Each connection meets another node than the one before.
        let balancer = Balancer::start_in_turn(&[first.port(), second.port()]).await;
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &balancer.address(), &token("ada")).await;
        ada.subscribe(&channel, json!({})).await;
        for n in 0..4 {
            let said = ada
                .ask(&json!({ "do": "publish", "channel": channel, "data": n }))
                .await;
            assert_eq!(said["result"], json!({}), "{said}");
            assert_eq!(ada.hear().await, n);
        }
        assert!(!ada.had("connecting") && !ada.had("error"), "{}", ada.rest());
    })
    .await;
}

#[tokio::test]
async fn when_its_gateway_is_killed_it_is_back_on_another_and_missed_nothing() {
    let Some(redis) = Redis::start() else { return };
    let mut first = launch().redis(&redis).start().await;
    let second = launch().redis(&redis).start().await;
    let balancer = Balancer::start(&[first.port(), second.port()]).await;
    let mut clients = Vec::new();
    for way in tidings_tests::Way::ALL
        .into_iter()
        .filter(|way| way.is_installed())
    {
        let mut sdk = Sdk::connect(way, &balancer.address(), &token("ada")).await;
        sdk.subscribe("chat:1", json!({ "recoverable": true })).await;
        clients.push(sdk);
    }
    publish(&second, "chat:1", &json!(1)).await;
    for sdk in &mut clients {
        assert_eq!(sdk.hear().await["data"], 1);
    }
    assert_eq!(second.metric("tidings_connections").await, 0.0);

    first.kill().await;
    publish(&second, "chat:1", &json!(2)).await;
    for sdk in &mut clients {
        assert_eq!(sdk.event("subscribed").await["recovered"], true);
        assert_eq!(sdk.hear().await["data"], 2);
    }
}

#[tokio::test]
async fn when_its_node_drains_it_moves_to_another_by_itself_and_missed_nothing() {
    let Some(redis) = Redis::start() else { return };
    let mut first = launch()
        .redis(&redis)
        .env("TIDINGS_DRAIN__OVER", "1s")
        .start()
        .await;
    let second = launch().redis(&redis).start().await;
    let balancer = Balancer::start(&[first.port(), second.port()]).await;
    let mut clients = Vec::new();
    for way in tidings_tests::Way::ALL
        .into_iter()
        .filter(|way| way.is_installed())
    {
        let mut sdk = Sdk::connect(way, &balancer.address(), &token("ada")).await;
        sdk.subscribe("chat:1", json!({ "recoverable": true })).await;
        clients.push(sdk);
    }
    first.terminate().await;
    publish(&second, "chat:1", &json!(1)).await;
    for sdk in &mut clients {
        // Every transport says why: a close code, or a push before the stream ends.
        assert_eq!(sdk.event("connecting").await["code"], 3001);
        sdk.event("subscribed").await;
        assert_eq!(sdk.hear().await["data"], 1);
    }
    assert_eq!(first.exit().await.code, Some(0));
}
