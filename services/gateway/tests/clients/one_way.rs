//! Clients that only listen: the unidirectional protocol, and the browser's own `EventSource`.

use std::time::{Duration, SystemTime};

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
