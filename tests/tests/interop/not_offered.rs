//! What the protocol has and this server does not: it says so, and the client stays.

use serde_json::json;
use tidings_tests::{Sdk, Way, has_node, token};

use crate::node::launch;

#[tokio::test]
async fn map_and_shared_poll_subscriptions_are_refused_and_nothing_else_suffers() {
    if !has_node() {
        return;
    }
    let server = launch().start().await;
    for way in [Way::WebSocket, Way::WebSocketProtobuf] {
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        for kind in ["Map", "SharedPoll"] {
            let channel = format!("chat:{kind}");
            ada.subscribing(&channel, json!({ "kind": kind })).await;
            let refused = ada.event_of("unsubscribed", &channel).await;
            assert_eq!(refused["code"], 108, "{kind}: {refused}");
        }
        ada.subscribe("chat:ordinary", json!({})).await;
        assert!(
            !ada.had("disconnected") && !ada.had("connecting"),
            "{}",
            ada.rest()
        );
    }
}

#[tokio::test]
async fn a_message_that_nobody_takes_ends_the_connection() {
    let server = launch().start().await;
    tidings_tests::in_every_way(async |way| {
        // The Python SDK cannot send one.
        if matches!(way, Way::Python | Way::PythonProtobuf) {
            return;
        }
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        ada.tell(&json!({ "do": "send", "data": 1 })).await;
        assert_eq!(ada.event("disconnected").await["code"], 3508);
    })
    .await;
}
