//! Who is there, and who comes and goes.

use serde_json::{Value, json};
use tidings_tests::{Sdk, Way, eventually, in_every_way, signed, token};

use crate::node::launch;

#[tokio::test]
async fn it_is_told_who_is_there_and_what_their_tokens_say_of_them() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = way.channel("chat");
        let named = signed(json!({ "sub": "ada", "info": { "name": "Ada" } }));
        let mut ada = Sdk::connect(way, &server.address(), &named).await;
        let mut bob = Sdk::connect(Way::WebSocket, &server.address(), &token("bob")).await;
        ada.subscribe(&channel, json!({})).await;
        bob.subscribe(&channel, json!({})).await;
        let mut members = eventually("both are there", async || {
            let answer = ada.ask(&json!({ "do": "presence", "channel": channel })).await;
            let members = answer["result"]["clients"].as_array().cloned();
            members
                .unwrap_or_else(|| panic!("{answer}"))
                .try_into()
                .ok()
                .map(|members: [Value; 2]| members)
        })
        .await;
        members.sort_by_key(|member| member["user"].to_string());
        let [first, second] = members;
        assert_eq!((&first["user"], &second["user"]), (&json!("ada"), &json!("bob")));
        assert_eq!(first["connInfo"], json!({ "name": "Ada" }));
        let stats = ada
            .ask(&json!({ "do": "presence_stats", "channel": channel }))
            .await;
        assert_eq!(
            stats["result"],
            json!({ "numClients": 2, "numUsers": 2 }),
            "{stats}"
        );
    })
    .await;
}

#[tokio::test]
async fn it_hears_others_come_and_go_where_it_asks_for_it() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        ada.subscribe(&channel, json!({ "joinLeave": true })).await;
        assert_eq!(ada.event("join").await["info"]["user"], "ada", "its own too");
        let mut bob = Sdk::connect(Way::WebSocket, &server.address(), &token("bob")).await;
        bob.subscribe(&channel, json!({})).await;
        let join = ada.event("join").await;
        assert_eq!(
            (&join["channel"], &join["info"]["user"]),
            (&json!(channel), &json!("bob"))
        );
        bob.tell(&json!({ "do": "unsubscribe", "channel": channel }))
            .await;
        let leave = ada.event("leave").await;
        assert_eq!(leave["info"], join["info"]);
        bob.event("unsubscribed").await;
        assert!(!bob.had("join") && !bob.had("leave"), "it did not ask for it");
    })
    .await;
}
