//! The ecosystem's own client of the server API, unchanged: cent, in Python.

use serde_json::json;
use tidings_tests::{API_KEY, Sdk, Way, python, token};

use crate::node::launch;

#[tokio::test]
async fn what_cent_asks_for_is_done_and_answered_as_it_expects() {
    if !Way::Python.is_installed() {
        return;
    }
    let server = launch().start().await;
    let mut sdk = Sdk::connect(Way::Python, &server.address(), &token("ada")).await;
    sdk.subscribe("chat:cent", json!({})).await;
    let url = format!("{}/api", server.backends());
    let said = python("cent_api.py", &[&url, API_KEY, "chat:cent", "ada"]).await;
    assert_eq!(
        said,
        json!({
            "offsets": [1, 1, 2, 3, 4],
            "broadcast_error": 102,
            "batch_clients": 1,
            "presence": ["ada"],
            "stats": [1, 1],
            "history": [1, 2, 3, 4],
            "tags": { "lang": "en" },
            "rest": [2],
            "errors": [112, 102],
            "nodes": [[1, 1, 1, 1]],
            "channels": { "chat:cent": 1 },
            "refused": true,
            "by_query": 200,
            "removed": 0,
        })
    );
    for n in 1..=4 {
        assert_eq!(sdk.hear().await["n"], n);
    }
    let told = sdk.event_of("subscribed", "chat:asked").await;
    assert_eq!(
        (&told["server"], &told["data"]),
        (&json!(true), &json!({ "welcome": 1 }))
    );
    assert_eq!(sdk.hear().await["n"], 5);
    assert_eq!(sdk.event("unsubscribed").await["channel"], "chat:asked");
    assert_eq!(sdk.event("disconnected").await["code"], 3503);
    assert!(!server.logs().contains(API_KEY), "a key is logged");
}
