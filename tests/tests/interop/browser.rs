//! A page in a real browser: what it has without any SDK, the SDK in it, and who lets it in.

use serde_json::{Value, json};
use tidings_tests::{Backend, Balancer, Launch, Sdk, Tidings, Way, event, eventually, token};

use crate::node::{configured, publish};

/// A page, and a node that lets pages of this machine in. `None` without a browser.
async fn page() -> Option<(Sdk, Tidings)> {
    page_and(configured("clients.allowed_origins = [\"http://localhost:*\"]")).await
}

async fn page_and(launch: Launch) -> Option<(Sdk, Tidings)> {
    if !Way::Browser.is_installed() {
        return None;
    }
    let server = launch.start().await;
    let mut page = Sdk::start(Way::Browser);
    page.event("page").await;
    Some((page, server))
}

async fn subscribed(server: &Tidings) {
    eventually("it has subscribed", async || {
        (server.metric("tidings_subscriptions").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_native_websocket_hears_and_publishes() {
    let Some((mut page, server)) = page().await else {
        return;
    };
    let url = server.plain(&format!("tasks:1?token={}", token("ada")));
    page.tell(&json!({ "do": "websocket", "url": url })).await;
    page.event("opened").await;
    subscribed(&server).await;
    publish(&server, "tasks:1", &json!({ "title": "Größe" })).await;
    let heard = page.event("heard").await;
    let heard: Value = serde_json::from_str(heard["data"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&heard["type"], &heard["data"]["title"]),
        (&json!("task.created"), &json!("Größe"))
    );
    page.tell(&json!({ "do": "say", "data": "{\"from\":\"the page\"}" }))
        .await;
    assert_eq!(page.event("heard").await["data"], "{\"from\":\"the page\"}");

    let url = server.plain("tasks:1?token=nonsense");
    page.tell(&json!({ "do": "websocket", "url": url })).await;
    assert_eq!(page.event("closed").await["code"], 3500);
}

#[tokio::test]
async fn a_native_eventsource_that_was_cut_resumes_where_it_was() {
    let Some((mut page, server)) = page().await else {
        return;
    };
    let balancer = Balancer::start(&[server.port()]).await;
    let url = format!("http://{}/sse/feed:1?token={}", balancer.address(), token("ada"));
    page.tell(&json!({ "do": "eventsource", "url": url, "types": ["task.created"] }))
        .await;
    page.event("opened").await;
    subscribed(&server).await;
    publish(&server, "feed:1", &json!(1)).await;
    let heard = page.event("heard").await;
    assert_eq!(heard["type"], "task.created");
    let epoch = heard["id"]
        .as_str()
        .and_then(|id| id.strip_suffix(":1"))
        .map(str::to_owned);
    let epoch = epoch.unwrap_or_else(|| panic!("its id is its place in the stream: {heard}"));

    balancer.cut();
    assert_eq!(
        page.event("failed").await["closed"],
        false,
        "it will be back by itself"
    );
    for n in 2..=3 {
        publish(&server, "feed:1", &json!(n)).await;
    }
    balancer.mend();
    page.event("opened").await;
    subscribed(&server).await;
    publish(&server, "feed:1", &json!(4)).await;
    for n in 2..=4 {
        let heard = page.event("heard").await;
        let data: Value = serde_json::from_str(heard["data"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&data["data"], &heard["id"]),
            (&json!(n), &json!(format!("{epoch}:{n}")))
        );
    }
}

#[tokio::test]
async fn the_sdk_in_a_page_connects_over_every_transport() {
    let Some((mut page, server)) = page().await else {
        return;
    };
    for transport in ["websocket", "http_stream", "sse"] {
        let connect = json!({ "do": "connect", "server": server.address(), "transport": transport, "token": token("ada") });
        page.tell(&connect).await;
        assert_eq!(page.event("connected").await["transport"], transport);
        let channel = format!("chat:{transport}");
        page.subscribe(&channel, json!({})).await;
        publish(&server, &channel, &json!(1)).await;
        assert_eq!(page.hear().await["data"], 1);
        let said = page
            .ask(&json!({ "do": "publish", "channel": channel, "data": { "n": 2 } }))
            .await;
        assert_eq!(said["result"], json!({}), "{said}");
        assert_eq!(page.hear().await, json!({ "n": 2 }));
        page.tell(&json!({ "do": "disconnect" })).await;
        page.event("disconnected").await;
    }
}

#[tokio::test]
async fn a_page_of_an_origin_that_is_not_listed_is_kept_out_of_every_transport() {
    let launch = configured("clients.allowed_origins = [\"https://app.example.com\"]");
    let Some((mut page, server)) = page_and(launch).await else {
        return;
    };
    let token = token("ada");
    let (address, plain) = (server.address(), server.plain(&format!("tasks:1?token={token}")));
    page.tell(&json!({ "do": "websocket", "url": plain })).await;
    assert_eq!(page.event("closed").await["code"], 1006, "a browser says no more");
    let url = format!("http://{address}/sse/feed:1?token={token}");
    page.tell(&json!({ "do": "eventsource", "url": url, "types": [] }))
        .await;
    assert_eq!(
        page.event("failed").await["closed"],
        true,
        "it will not try again"
    );
    for path in ["connection/http_stream", "emulation"] {
        let fetch = json!({ "do": "fetch", "url": format!("http://{address}/{path}"), "options": { "method": "POST", "body": "{}" } });
        let answer = page.ask(&fetch).await;
        assert_eq!(
            answer["code"], 0,
            "the page may not read the answer of {path}: {answer}"
        );
    }
    for transport in ["websocket", "http_stream", "sse"] {
        page.tell(&json!({ "do": "connect", "server": address, "transport": transport, "token": token }))
            .await;
        assert_eq!(page.event("error").await["type"], "transport", "{transport}");
        page.tell(&json!({ "do": "disconnect" })).await;
        page.event("disconnected").await;
        page.forget();
    }
    assert_eq!(server.metric("tidings_connections").await, 0.0);
    let backend = Backend::new(&server.backends());
    backend
        .publish(event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
}
