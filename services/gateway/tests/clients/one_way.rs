//! Clients that only listen: the unidirectional protocol, and the browser's own `EventSource`.

use std::time::{Duration, SystemTime};

use futures_util::SinkExt;
use serde_json::{Value, json};
use tidings_auth::token::{Expected, Keyring, Minter, Verifier};
use tidings_core::{Format, Secret};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    http::Asked,
    node::{Node, start, start_with},
};

/// A node that checks tokens, and one of them, which subscribes its bearer to `a`.
fn with_token() -> (Node, String) {
    let secret = Secret::from("0123456789abcdef0123456789ABCDEF!".to_owned());
    let keys = Keyring::secret(&secret).expect("a usable secret");
    let minter = Minter::hs256(&secret, Expected::default()).expect("a usable secret");
    let channels = ["a".to_owned()];
    let token = minter.connection("42", &channels, None, Duration::from_secs(600), SystemTime::now());
    (
        start_with(Some(Verifier::new(keys, Expected::default())), |_| {}),
        token,
    )
}

fn listens(connected: &Value) {
    assert!(connected["connect"]["subs"]["a"].is_object(), "{connected}");
    assert!(connected["connect"]["session"].is_string());
    assert_eq!(connected["connect"]["ping"], 25);
    assert!(connected["connect"]["pong"].is_null(), "it cannot answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_listens_is_told_that_it_is_connected_and_then_what_there_is() {
    let (node, token) = with_token();
    let push = json!({"channel": "a", "pub": {"data": 1}});
    let hello = json!({"token": token}).to_string();

    let mut events = node.post("/connection/uni_sse", hello.clone()).send().await;
    listens(&events.event().await);
    let mut lines = node
        .post("/connection/uni_http_stream", hello.clone())
        .send()
        .await;
    listens(&lines.line().await);
    let mut socket = node.open("/connection/uni_websocket").await;
    socket.say(hello).await;
    listens(&socket.next().await);
    socket.say("{\"id\":2,\"subscribe\":{\"channel\":\"b\"}}").await;
    let in_url = format!("/connection/uni_websocket?cf_connect=%7B%22token%22%3A%22{token}%22%7D");
    let mut other = node.open(&in_url).await;
    listens(&other.next().await);

    node.publish("b", "0").await;
    node.publish("a", "1").await;
    assert_eq!(events.event().await, push);
    assert_eq!(lines.line().await, push);
    assert_eq!(socket.next().await, push);
    assert_eq!(other.next().await, push);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_listens_and_is_not_let_in_is_told_by_the_status() {
    let (node, _) = with_token();
    let hello = r#"{"token":"e30.e30.AAAA"}"#;
    for path in ["/connection/uni_sse", "/connection/uni_http_stream"] {
        assert_eq!(node.post(path, hello).refused().await.0, 401, "{path}");
    }
    assert_eq!(node.get("/sse/a?token=e30.e30.AAAA").refused().await.0, 401);
    assert_eq!(node.get("/sse/a%7Db").refused().await.0, 400);
    let mut socket = node.open("/connection/uni_websocket").await;
    socket.say(hello).await;
    assert_eq!(
        socket.next().await["disconnect"]["code"],
        3500,
        "the push and the frame both"
    );
    assert_eq!(socket.close_code().await, 3500);
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_pinged_and_need_not_answer() {
    let node = start(|config| {
        config.limits.ping_interval = Duration::from_secs(1);
        config.limits.pong_timeout = Duration::from_millis(900);
    });
    let mut lines = node.post("/connection/uni_http_stream", "{}").send().await;
    assert_eq!(lines.line().await["connect"]["ping"], 1);
    let (mut events, _) = events(node.get("/sse/a")).await;
    for _ in 0..3 {
        assert_eq!(lines.line().await, json!({}));
    }
    for _ in 0..3 {
        assert_eq!(events.until("\n\n").await.as_deref(), Some(":"));
    }
}

async fn events(asked: Asked) -> (crate::http::Exchange, String) {
    let mut events = asked.send().await;
    assert_eq!(events.response.status(), 200);
    assert_eq!(events.header("content-type"), "text/event-stream");
    let first = events.until("\n\n").await.expect("a beginning");
    (events, first.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_gets_bare_data_and_goes_on_after_the_last_event_that_it_saw() {
    let node = start(|_| {});
    let (mut bare, _) = events(node.get("/sse/news")).await;
    node.publish_as("news", "two\nlines", Format::Binary).await;
    let event = bare.until("\n\n").await.expect("an event");
    assert!(event.ends_with("data: two\ndata: lines"), "{event}");

    let mut publisher = node.client().await;
    let mut publish = async |number: u32| {
        let publish = json!({"id": number + 2, "publish": {"channel": "kept:1", "data": number}});
        publisher.send(&publish).await;
        let reply = publisher.next().await;
        assert!(reply["publish"].is_object(), "{reply}");
    };
    publish(1).await;
    let (mut stream, first) = events(node.get("/sse/kept:1")).await;
    let id = first
        .strip_prefix("id: ")
        .expect("where the stream is")
        .to_owned();
    assert!(id.ends_with(":1"), "{id}");
    publish(2).await;
    let two = stream.until("\n\n").await.expect("an event");
    assert!(two.ends_with(":2\ndata: 2"), "{two}");
    drop(stream);
    publish(3).await;
    for asked in [
        node.get("/sse/kept:1").with("last-event-id", &id),
        node.get(&format!("/sse/kept:1?last_event_id={id}")),
    ] {
        let (mut stream, first) = events(asked).await;
        assert_eq!(first, format!("id: {id}"));
        for number in 2..=3 {
            let event = stream.until("\n\n").await.expect("what was missed");
            assert!(event.ends_with(&format!(":{number}\ndata: {number}")), "{event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_client_may_ask_for_pings_of_its_transport() {
    let node = start(|config| {
        config.limits.ping_interval = Duration::from_secs(1);
        config.limits.pong_timeout = Duration::from_millis(900);
    });
    let mut client = node
        .open("/connection/websocket?cf_ws_frame_ping_pong=true")
        .await;
    client.say("{\"id\":1,\"connect\":{}}").await;
    let connected = client.next().await["connect"].clone();
    assert!(
        connected["ping"].is_null() && connected["pong"].is_null(),
        "{connected}"
    );
    for _ in 0..3 {
        // The library answers it by itself.
        assert!(matches!(client.message().await, Ok(Message::Ping(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_that_is_refused_for_good_is_told_so_and_one_that_comes_at_a_bad_moment_comes_back() {
    let (node, _) = with_token();
    let secret = Secret::from("0123456789abcdef0123456789ABCDEF!".to_owned());
    let minter = Minter::hs256(&secret, Expected::default()).expect("a usable secret");
    let past = SystemTime::now() - Duration::from_secs(3600);
    let expired = minter.connection("42", &[], None, Duration::from_secs(1), past);
    assert_eq!(
        node.get(&format!("/sse/a?token={expired}")).refused().await.0,
        401
    );
    let greeting = json!({"token": expired}).to_string();
    assert_eq!(node.post("/connection/uni_sse", greeting).refused().await.0, 401);

    for full in [
        start(|config| config.limits.connections = 1),
        start(|config| config.limits.connections_per_address = 1),
    ] {
        let _held = full.client().await;
        for path in ["/sse/a", "/connection/uni_sse"] {
            let mut stream = full.get(path).send().await;
            assert_eq!(stream.response.status(), 200, "{path}");
            assert_eq!(stream.header("content-type"), "text/event-stream");
            let retry = stream.until("\n\n").await.expect("an instruction");
            assert!(retry.starts_with("retry: "), "{retry}");
            assert_eq!(stream.until("\n\n").await, None);
        }
        let status = full.post("/connection/uni_sse", "{}").status().await;
        assert!(status == 503 || status == 429, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_gateway_tells_event_sources_when_to_come_back() {
    let node = start(|_| {});
    let (mut stream, _) = events(node.get("/sse/a")).await;
    node.shutdown.request();
    let retry = stream.until("\n\n").await.expect("an instruction");
    assert!(retry.starts_with("retry: "), "{retry}");
    assert_eq!(stream.until("\n\n").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_cannot_make_a_browser_connect_by_a_link_or_a_picture() {
    let node = start(|_| {});
    for path in [
        "/sse/a",
        "/connection/uni_sse",
        "/connection/sse?cf_connect=%7B%7D",
    ] {
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "navigate"),
        ] {
            assert_eq!(
                node.get(path).with(name, value).status().await,
                403,
                "{path} {value}"
            );
        }
    }
    let own = node.get("/sse/a").with("sec-fetch-site", "same-origin");
    events(own.with("sec-fetch-mode", "cors")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_repeats_nothing_of_what_was_sent_and_is_in_json() {
    let node = start(|_| {});
    let (status, why) = node
        .post(
            "/connection/uni_sse",
            r#"{"data":1,"version":{"token":"secret"},"subs":"secret"}"#,
        )
        .refused()
        .await;
    assert_eq!(status, 400);
    assert!(!why.contains("secret") && why.contains("line 1 column"), "{why}");
    let twice = "/connection/uni_sse?cf_connect=%7B%7D&cf_connect=secret";
    let (status, why) = node.get(twice).refused().await;
    assert!(
        status == 400 && why.contains("cf_connect") && !why.contains("secret"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_floods_is_closed() {
    let node = start(|_| {});
    let mut client = node.open("/connection/uni_websocket").await;
    for _ in 0..1000 {
        let message = Message::text("{}");
        client.socket.feed(message).await.expect("an open socket");
    }
    client.socket.flush().await.expect("an open socket");
    assert_eq!(client.close_code().await, 3013);
}
