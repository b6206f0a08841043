//! Channels that a client hears without asking for them.

use serde_json::json;
use tidings_tests::{Balancer, Sdk, in_every_way, signed, token};

use crate::node::{configured, launch, publish};

#[tokio::test]
async fn it_hears_the_channels_that_its_token_names() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let (first, second) = (way.channel("chat"), way.channel("feed"));
        let token = signed(json!({ "sub": "ada", "subs": { first.clone(): {}, second.clone(): { "data": { "welcome": 1 } } } }));
        let mut ada = Sdk::connecting(way, &server.address(), json!({ "token": token })).await;
        assert_eq!(ada.event_of("subscribed", &first).await["server"], true);
        assert_eq!(ada.event_of("subscribed", &second).await["data"], json!({ "welcome": 1 }));
        for channel in [&first, &second] {
            publish(&server, channel, &json!(1)).await;
            let heard = ada.event("publication").await;
            assert_eq!((&heard["channel"], &heard["server"]), (&json!(channel), &json!(true)));
        }
    })
    .await;
}

#[tokio::test]
async fn it_recovers_them_when_it_comes_back() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let balancer = Balancer::start(&[server.port()]).await;
        let channel = way.channel("feed");
        let token = signed(json!({ "sub": "ada", "channels": [channel] }));
        let mut ada = Sdk::connecting(way, &balancer.address(), json!({ "token": token })).await;
        ada.event("subscribed").await;
        publish(&server, &channel, &json!(1)).await;
        assert_eq!(ada.hear().await["data"], 1);
        balancer.cut();
        ada.event("connecting").await;
        publish(&server, &channel, &json!(2)).await;
        balancer.mend();
        let back = ada.event("subscribed").await;
        assert_eq!(
            (&back["recovered"], &back["wasRecovering"]),
            (&json!(true), &json!(true)),
            "{back}"
        );
        assert_eq!(ada.hear().await["data"], 2);
        publish(&server, &channel, &json!(3)).await;
        assert_eq!(ada.hear().await["data"], 3);
    })
    .await;
}

#[tokio::test]
async fn everybody_hears_a_channel_of_their_own() {
    let server = configured("clients.personal_namespace = \"feed\"").start().await;
    in_every_way(async |way| {
        let user = way.to_string();
        let channel = format!("feed:#{user}");
        let mut sdk = Sdk::connecting(way, &server.address(), json!({ "token": token(&user) })).await;
        assert_eq!(sdk.event("subscribed").await["channel"], *channel);
        publish(&server, &channel, &json!(1)).await;
        assert_eq!(sdk.hear().await["data"], 1);
    })
    .await;
}
