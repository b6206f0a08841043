//! Publications by their tags: only those that a subscriber wants.

use serde_json::json;
use tidings_tests::{Backend, Sdk, event, in_every_way, token};

use crate::node::launch;

#[tokio::test]
async fn it_hears_only_what_its_filter_lets_through() {
    let server = launch().start().await;
    let backend = Backend::new(&server.backends());
    in_every_way(async |way| {
        let channel = way.channel("chat");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let filter = json!({ "op": "and", "nodes": [
            { "key": "ticker", "cmp": "in", "vals": ["BTC", "ETH"] },
            { "key": "price", "cmp": "gt", "val": "99.5" },
        ] });
        ada.subscribe(&channel, json!({ "tagsFilter": filter, "recoverable": true }))
            .await;
        ada.forget();
        for (n, ticker, price) in [
            (1, "BTC", "99"),
            (2, "BTC", "100"),
            (3, "XMR", "100"),
            (4, "ETH", "12"),
        ] {
            let mut tagged = event("price.changed", &n.to_string(), &[&channel]);
            tagged.tags.insert("ticker".to_owned(), ticker.to_owned());
            tagged.tags.insert("price".to_owned(), price.to_owned());
            backend.publish(tagged).await.unwrap();
        }
        let mut all = event("price.changed", "5", &[&channel]);
        all.tags = [("ticker", "BTC"), ("price", "101")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        backend.publish(all).await.unwrap();
        for n in [2, 5] {
            let heard = ada.event("publication").await;
            assert_eq!(heard["data"]["data"], n, "{heard}");
            assert_eq!(heard["offset"], n);
            assert_eq!(heard["tags"]["ticker"], "BTC");
        }
        assert!(
            !ada.had("unsubscribed") && !ada.had("subscribing"),
            "what it did not want was not missed"
        );
    })
    .await;
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_a_bad_request() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let filter = json!({ "key": "ticker", "cmp": "resembles", "val": "BTC" });
        ada.subscribing(&way.channel("chat"), json!({ "tagsFilter": filter }))
            .await;
        assert_eq!(ada.event("unsubscribed").await["code"], 107);
        // Not offered by this namespace.
        let filter = json!({ "key": "ticker", "cmp": "ex" });
        ada.subscribing(&way.channel("quiet"), json!({ "tagsFilter": filter }))
            .await;
        assert_eq!(ada.event("unsubscribed").await["code"], 107);
    })
    .await;
}
