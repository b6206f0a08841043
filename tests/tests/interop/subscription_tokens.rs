//! Tokens for single channels: who may be in, and for how long.

use std::time::Duration;

use serde_json::json;
use tidings_tests::{Sdk, in_every_way, signed, subscription_token, token};

use crate::node::{launch, publish};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_private_channel_is_open_to_whoever_has_a_token_for_it() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = format!("${}", way.channel("chat"));
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        ada.subscribing(&channel, json!({ "ask": true })).await;
        let ours = signed(json!({ "sub": "ada", "channel": channel, "info": { "role": "owner" } }));
        ada.give_token(&ours).await;
        ada.event("subscribed").await;
        publish(&server, &channel, &json!(1)).await;
        assert_eq!(ada.hear().await["data"], 1);
        let answer = ada.ask(&json!({ "do": "presence", "channel": channel })).await;
        let member = &answer["result"]["clients"][0];
        assert_eq!(member["chanInfo"], json!({ "role": "owner" }), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_expired_one_is_asked_for_again_and_one_that_is_not_ours_is_refused() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = format!("${}", way.channel("chat"));
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let old = signed(json!({ "sub": "ada", "channel": channel, "exp": 1 }));
        ada.subscribing(&channel, json!({ "token": old, "ask": true }))
            .await;
        ada.give_token(&subscription_token("ada", &channel, HOUR)).await;
        ada.event("subscribed").await;

        let other = format!("{channel}:other");
        ada.subscribing(&other, json!({ "token": "nonsense" })).await;
        assert_eq!(ada.event_of("unsubscribed", &other).await["code"], 103);
        // Good, but not for this: somebody means harm.
        let third = format!("{channel}:third");
        ada.subscribing(
            &third,
            json!({ "token": subscription_token("ada", &channel, HOUR) }),
        )
        .await;
        assert_eq!(ada.event("disconnected").await["code"], 3500);
    })
    .await;
}

#[tokio::test]
async fn it_renews_the_token_of_a_subscription_before_that_runs_out() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = format!("${}", way.channel("chat"));
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        ada.subscribing(&channel, json!({ "ask": true })).await;
        ada.give_tokens_until("subscribed", || {
            subscription_token("ada", &channel, Duration::from_secs(3))
        })
        .await;
        ada.forget();
        ada.give_token(&subscription_token("ada", &channel, HOUR)).await;
        // Done after the renewal, on the same subscription.
        let said = ada
            .ask(&json!({ "do": "publish", "channel": channel, "data": 1 }))
            .await;
        assert_eq!(said["result"], json!({}), "{said}");
        assert_eq!(ada.hear().await, 1);
        assert!(!ada.had("subscribing") && !ada.had("error"), "{}", ada.rest());
    })
    .await;
}
