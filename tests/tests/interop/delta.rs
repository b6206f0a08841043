//! Publications as differences from the one before: fewer bytes, the same data.

use serde_json::{Value, json};
use tidings_tests::{Balancer, Sdk, in_every_way, token};

use crate::node::{launch, publish};

/// Much that stays the same, and a little that does not.
fn long(n: i64) -> Value {
    let rows: Vec<_> = (0..40)
        .map(|row| json!({ "row": row, "text": "Größe «unverändert»" }))
        .collect();
    json!({ "n": n, "rows": rows })
}

#[tokio::test]
async fn it_gets_differences_and_puts_them_together_again() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let balancer = Balancer::start(&[server.port()]).await;
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &balancer.address(), &token("ada")).await;
        ada.subscribe(&channel, json!({ "delta": "fossil", "recoverable": true }))
            .await;
        for n in 1..=3 {
            publish(&server, &channel, &long(n)).await;
            assert_eq!(ada.hear().await["data"], long(n));
        }
        let differences = json!({ "do": "differences", "channel": channel });
        assert_eq!(ada.ask(&differences).await["result"], 2, "all but the first");

        balancer.cut();
        ada.event("connecting").await;
        for n in 4..=5 {
            publish(&server, &channel, &long(n)).await;
        }
        balancer.mend();
        assert_eq!(ada.event("subscribed").await["recovered"], true);
        publish(&server, &channel, &long(6)).await;
        for n in 4..=6 {
            assert_eq!(ada.hear().await["data"], long(n));
        }
        ada.forget();
        // What shares nothing with the one before comes whole.
        publish(&server, &channel, &json!(7)).await;
        assert_eq!(ada.hear().await["data"], 7);
        publish(&server, &channel, &long(8)).await;
        assert_eq!(ada.hear().await["data"], long(8));
        assert!(!ada.had("error") && !ada.had("disconnected"), "{}", ada.rest());
    })
    .await;
}

#[tokio::test]
async fn where_the_namespace_does_not_offer_them_it_gets_whole_publications() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let channel = way.channel("feed");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        ada.subscribe(&channel, json!({ "delta": "fossil" })).await;
        for n in 1..=2 {
            publish(&server, &channel, &long(n)).await;
            assert_eq!(ada.hear().await["data"], long(n));
        }
        let answer = ada.ask(&json!({ "do": "differences", "channel": channel })).await;
        assert_eq!(answer["result"], 0);
    })
    .await;
}
