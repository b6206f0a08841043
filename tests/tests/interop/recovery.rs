//! A client that was away and comes back: it misses nothing, or it is told so.

use serde_json::json;
use tidings_tests::{Balancer, Sdk, in_every_way, token};

use crate::node::{launch, publish};

#[tokio::test]
async fn after_a_cut_it_gets_exactly_what_it_missed() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let balancer = Balancer::start(&[server.port()]).await;
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &balancer.address(), &token("ada")).await;
        let subscribed = ada.subscribe(&channel, json!({ "recoverable": true })).await;
        assert_eq!(
            (&subscribed["recoverable"], &subscribed["positioned"]),
            (&json!(true), &json!(true))
        );
        publish(&server, &channel, &json!(1)).await;
        assert_eq!(ada.hear().await["data"], 1);
        for round in 1..=2 {
            balancer.cut();
            ada.event("connecting").await;
            for n in 0..3 {
                publish(&server, &channel, &json!(round * 10 + n)).await;
            }
            balancer.mend();
            let back = ada.event("subscribed").await;
            assert_eq!(
                (&back["recovered"], &back["wasRecovering"]),
                (&json!(true), &json!(true)),
                "{back}"
            );
            publish(&server, &channel, &json!(round * 10 + 3)).await;
            for n in 0..4 {
                assert_eq!(ada.hear().await["data"], round * 10 + n);
            }
            ada.forget();
        }
    })
    .await;
}

#[tokio::test]
async fn where_the_namespace_says_so_it_recovers_unasked() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let balancer = Balancer::start(&[server.port()]).await;
        let channel = way.channel("feed");
        let mut ada = Sdk::connect(way, &balancer.address(), &token("ada")).await;
        assert_eq!(ada.subscribe(&channel, json!({})).await["recoverable"], true);
        balancer.cut();
        ada.event("connecting").await;
        publish(&server, &channel, &json!(1)).await;
        balancer.mend();
        assert_eq!(ada.event("subscribed").await["recovered"], true);
        assert_eq!(ada.hear().await["data"], 1);
    })
    .await;
}

#[tokio::test]
async fn when_more_is_missed_than_was_kept_it_is_told_so_and_gets_none_of_it() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let balancer = Balancer::start(&[server.port()]).await;
        let channel = way.channel("feed");
        let mut ada = Sdk::connect(way, &balancer.address(), &token("ada")).await;
        ada.subscribe(&channel, json!({})).await;
        publish(&server, &channel, &json!(1)).await;
        assert_eq!(ada.hear().await["data"], 1);
        balancer.cut();
        ada.event("connecting").await;
        // The namespace keeps five.
        for n in 2..=8 {
            publish(&server, &channel, &json!(n)).await;
        }
        balancer.mend();
        let back = ada.event("subscribed").await;
        assert_eq!(
            (&back["recovered"], &back["wasRecovering"]),
            (&json!(false), &json!(true)),
            "{back}"
        );
        publish(&server, &channel, &json!(9)).await;
        assert_eq!(ada.hear().await["data"], 9);
    })
    .await;
}
