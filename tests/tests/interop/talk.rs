//! What a client is for: it hears, it says, it asks.

use serde_json::json;
use tidings_tests::{Application, Sdk, Way, eventually, in_every_way, token};

use crate::node::{configured, launch, publish};

#[tokio::test]
async fn it_subscribes_hears_publishes_and_unsubscribes() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let mut bob = Sdk::connect(Way::WebSocket, &server.address(), &token("bob")).await;
        for sdk in [&mut ada, &mut bob] {
            assert_eq!(sdk.subscribe(&channel, json!({})).await["recoverable"], false);
        }
        publish(&server, &channel, &json!({ "title": "Größe \"1\"\n" })).await;
        for sdk in [&mut ada, &mut bob] {
            let heard = sdk.event("publication").await;
            assert_eq!(heard["channel"], *channel);
            assert_eq!(heard["data"]["type"], "task.created");
            assert_eq!(heard["data"]["data"]["title"], "Größe \"1\"\n");
        }

        let said = ada
            .ask(&json!({ "do": "publish", "channel": channel, "data": { "n": [1, "two"] } }))
            .await;
        assert_eq!(said["result"], json!({}), "{said}");
        for sdk in [&mut ada, &mut bob] {
            let heard = sdk.event("publication").await;
            assert_eq!(heard["data"], json!({ "n": [1, "two"] }));
            assert_eq!(heard["info"]["user"], "ada");
            assert_eq!(heard["offset"], 2);
        }

        ada.tell(&json!({ "do": "unsubscribe", "channel": channel }))
            .await;
        assert_eq!(ada.event("unsubscribed").await["code"], 0);
        // It is not told what it did itself. Over HTTP its requests may overtake each other.
        eventually("only subscribers may publish", async || {
            let said = ada
                .ask(&json!({ "do": "publish", "channel": channel, "data": 3 }))
                .await;
            (said["code"] == 103).then_some(())
        })
        .await;
        publish(&server, &channel, &json!(4)).await;
        while bob.hear().await["data"] != 4 {}
        ada.tell(&json!({ "do": "disconnect" })).await;
        assert_eq!(ada.event("disconnected").await["code"], 0);
        assert!(!ada.had("publication") && !ada.had("error"), "{}", ada.rest());
        drop(bob);
    })
    .await;
    eventually("nothing is left of them", async || {
        (server.metric("tidings_connections").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_subscribes_again_after_it_unsubscribed() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let mut bob = Sdk::connect(Way::WebSocket, &server.address(), &token("bob")).await;
        for sdk in [&mut ada, &mut bob] {
            sdk.subscribe(&channel, json!({})).await;
        }
        for _ in 0..3 {
            ada.tell(&json!({ "do": "unsubscribe", "channel": channel }))
                .await;
            ada.event("unsubscribed").await;
            // Over HTTP the next request may overtake this one.
            eventually("it is gone", async || {
                let stats = bob
                    .ask(&json!({ "do": "presence_stats", "channel": channel }))
                    .await;
                (stats["result"]["numClients"] == 1).then_some(())
            })
            .await;
            ada.tell(&json!({ "do": "resubscribe", "channel": channel }))
                .await;
            ada.event("subscribed").await;
        }
        publish(&server, &channel, &json!(1)).await;
        ada.hear().await;
        assert!(!ada.had("publication") && !ada.had("error"), "{}", ada.rest());
    })
    .await;
}

#[tokio::test]
async fn it_reads_what_a_channel_has_kept() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        ada.subscribe(&channel, json!({})).await;
        for n in 1..=4 {
            publish(&server, &channel, &json!(n)).await;
        }
        let top = ada.ask(&json!({ "do": "history", "channel": channel })).await;
        assert_eq!(top["result"]["publications"], json!([]), "{top}");
        assert_eq!(top["result"]["offset"], 4);
        let epoch = &top["result"]["epoch"];

        let read = async |ada: &mut Sdk, more| {
            let mut command = json!({ "do": "history", "channel": channel, "limit": -1 });
            command.as_object_mut().unwrap().extend(json_object(more));
            let answer = ada.ask(&command).await;
            let list = answer["result"]["publications"].as_array().cloned();
            let list = list.unwrap_or_else(|| panic!("{answer}"));
            list.iter()
                .map(|publication| publication["offset"].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&mut ada, json!({})).await, [1, 2, 3, 4]);
        assert_eq!(read(&mut ada, json!({ "limit": 2 })).await, [1, 2]);
        let since = json!({ "since": { "offset": 2, "epoch": epoch } });
        assert_eq!(read(&mut ada, since).await, [3, 4]);
        assert_eq!(
            read(&mut ada, json!({ "limit": 2, "reverse": true })).await,
            [4, 3]
        );
        let lost = json!({ "do": "history", "channel": channel, "limit": 1, "since": { "offset": 1, "epoch": "lost" } });
        assert_eq!(ada.ask(&lost).await["code"], 112);
    })
    .await;
}

fn json_object(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(fields) => fields,
        other => panic!("not an object: {other}"),
    }
}

#[tokio::test]
async fn its_rpc_is_answered_by_the_application_and_refused_with_its_error() {
    let application = Application::start(async |_, question| {
        if question["method"] == "sum" {
            let sum: i64 = question["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_i64().unwrap())
                .sum();
            json!({ "result": { "data": { "sum": sum, "for": question["user"] } } })
        } else {
            json!({ "error": { "code": 404, "message": "no such method" } })
        }
    })
    .await;
    let server = configured("").env(
        "TIDINGS_CLIENTS__PROXY__RPC__ENDPOINT",
        &application.endpoint("rpc"),
    );
    let server = server.start().await;
    in_every_way(async |way| {
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let answer = ada
            .ask(&json!({ "do": "rpc", "method": "sum", "data": [1, 2, 3] }))
            .await;
        assert_eq!(
            answer["result"]["data"],
            json!({ "sum": 6, "for": "ada" }),
            "{answer}"
        );
        let answer = ada
            .ask(&json!({ "do": "rpc", "method": "other", "data": 1 }))
            .await;
        assert_eq!(answer["code"], 404, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn what_it_may_not_do_is_refused_with_the_protocols_code() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        for (channel, code) in [
            ("nowhere:1", 102),
            ("secrets", 102),
            ("$chat:1", 103),
            ("chat:1#bob", 103),
        ] {
            ada.subscribing(channel, json!({})).await;
            let refused = ada.event_of("unsubscribed", channel).await;
            assert_eq!(refused["code"], code, "{channel}: {refused}");
        }
        let quiet = way.channel("quiet");
        ada.subscribe(&quiet, json!({})).await;
        for command in ["presence", "presence_stats", "history"] {
            let refused = ada.ask(&json!({ "do": command, "channel": quiet })).await;
            assert_eq!(refused["code"], 108, "{command}: {refused}");
        }
        for (channel, code) in [("chat:of others", 107), ("chat:others", 103)] {
            for command in [
                json!({ "do": "presence", "channel": channel }),
                json!({ "do": "presence_stats", "channel": channel }),
                json!({ "do": "history", "channel": channel }),
                json!({ "do": "publish", "channel": channel, "data": 1 }),
            ] {
                let refused = ada.ask(&command).await;
                assert_eq!(refused["code"], code, "{command}: {refused}");
            }
        }
        ada.subscribe("chat:1#ada,eve", json!({})).await;
        assert!(
            !ada.had("disconnected") && !ada.had("connecting"),
            "{}",
            ada.rest()
        );
    })
    .await;
}
