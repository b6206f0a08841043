//! A backend in another language, which has nothing of ours but the `.proto` files.

use serde_json::json;
use tidings_tests::{API_KEY, Sdk, Way, has_node, node, token};

use crate::node::launch;

#[tokio::test]
async fn it_publishes_and_is_told_what_it_did_wrong() {
    if !has_node() {
        return;
    }
    let server = launch().start().await;
    let mut ada = Sdk::connect(Way::WebSocket, &server.address(), &token("ada")).await;
    ada.subscribe("tasks:1", json!({})).await;
    let address = server.backends().replace("http://", "");
    let wanted = json!({
        "id": "from-node-1", "type": "task.created", "source": "node", "attributes": { "tenant": "1" },
        "data": { "assignee_id": "ada" },
    })
    .to_string();
    let answer = node("publish.mjs", &[&address, API_KEY, &wanted]).await;
    assert_eq!(answer["event_id"], "from-node-1", "{answer}");
    let results = answer["results"].as_array().unwrap();
    let channels: Vec<_> = results.iter().map(|result| &result["channel"]).collect();
    assert_eq!(channels, ["tasks:1", "news:ada"]);
    let heard = ada.hear().await;
    assert_eq!(
        (&heard["id"], &heard["source"]),
        (&json!("from-node-1"), &json!("node"))
    );

    let wrong = json!({ "type": "", "channels": ["tasks:1"], "data": 1 }).to_string();
    let refused = node("publish.mjs", &[&address, API_KEY, &wrong]).await;
    assert_eq!(refused["code"], 3, "INVALID_ARGUMENT: {refused}");
    let refused = node("publish.mjs", &[&address, "", &wanted]).await;
    assert_eq!(refused["code"], 16, "UNAUTHENTICATED: {refused}");
}
