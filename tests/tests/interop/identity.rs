//! Who is let in, and for how long.

use std::time::Duration;

use serde_json::json;
use tidings_tests::{Sdk, expired_token, in_every_way, signed, token, token_for};

use crate::node::{configured, launch};

#[tokio::test]
async fn without_a_good_token_it_is_refused_with_the_protocols_code_and_stays_away() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let another = signed(json!({ "sub": "ada", "channel": "chat:1" }));
        for (token, code) in [("", 3501), ("nonsense", 3500), (&*another, 3500)] {
            let mut sdk = Sdk::connecting(way, &server.address(), json!({ "token": token })).await;
            // "disconnected" is the SDK's word for good; when it will be back it says "connecting".
            assert_eq!(sdk.event("disconnected").await["code"], code, "{token}");
        }
    })
    .await;
}

#[tokio::test]
async fn where_anonymous_clients_are_allowed_it_needs_no_token() {
    let server = configured("clients.allow_anonymous = true").start().await;
    in_every_way(async |way| {
        let mut sdk = Sdk::connecting(way, &server.address(), json!({})).await;
        sdk.event("connected").await;
        // But this namespace is for known users.
        sdk.subscribing(&way.channel("chat"), json!({})).await;
        assert_eq!(sdk.event("unsubscribed").await["code"], 103);
    })
    .await;
}

#[tokio::test]
async fn with_an_expired_token_it_gets_another_and_is_let_in() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let options = json!({ "token": expired_token("ada"), "ask": true });
        let mut sdk = Sdk::connecting(way, &server.address(), options).await;
        sdk.give_token(&token("ada")).await;
        sdk.event("connected").await;
    })
    .await;
}

#[tokio::test]
async fn it_renews_its_token_before_that_runs_out_and_stays_connected() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let mut sdk = Sdk::connecting(way, &server.address(), json!({ "ask": true })).await;
        sdk.give_tokens_until("connected", || token_for("ada", Duration::from_secs(4)))
            .await;
        sdk.forget();
        sdk.give_token(&token("ada")).await;
        // Commands are done in their order: a refresh that failed would have ended the connection before this.
        sdk.subscribe(&way.channel("chat"), json!({})).await;
        assert!(!sdk.had("connecting") && !sdk.had("error"), "{}", sdk.rest());
    })
    .await;
}

#[tokio::test]
async fn a_newer_token_of_somebody_else_ends_the_connection_for_good() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let mut sdk = Sdk::connecting(way, &server.address(), json!({ "ask": true })).await;
        sdk.give_tokens_until("connected", || token_for("ada", Duration::from_secs(3)))
            .await;
        sdk.give_token(&token("eve")).await;
        assert_eq!(sdk.event("disconnected").await["code"], 3500);
    })
    .await;
}
