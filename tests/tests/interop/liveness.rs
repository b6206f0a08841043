//! Pings: whoever answers them stays.

use serde_json::json;
use tidings_tests::{Sdk, Way, token};

use crate::node::{configured, publish};

#[tokio::test]
async fn every_client_answers_pings_and_stays() {
    let short = "[clients.limits]\nping_interval = \"1s\"\npong_timeout = \"500ms\"\n";
    let server = configured(short).start().await;
    let mut clients = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| way.is_installed()) {
        let mut sdk = Sdk::connect(way, &server.address(), &token("ada")).await;
        sdk.subscribe("chat:1", json!({})).await;
        clients.push(sdk);
    }
    if clients.is_empty() {
        return;
    }
    // This one came last and says what it hears. A fourth ping means that all had three, and time to answer.
    let mut witness = Sdk::connect(Way::WebSocket, &server.address(), &token("eve")).await;
    for _ in 0..4 {
        witness.event("ping").await;
    }
    publish(&server, "chat:1", &json!(1)).await;
    for sdk in &mut clients {
        assert_eq!(sdk.hear().await["data"], 1);
        assert!(
            !sdk.had("connecting") && !sdk.had("disconnected"),
            "{}",
            sdk.rest()
        );
    }
}
