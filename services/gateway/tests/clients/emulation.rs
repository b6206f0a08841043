//! The Centrifuge protocol over HTTP: replies and pushes by a response that goes on, commands by other requests.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    http::Exchange,
    node::{Node, PATIENCE, start},
};

const HELLO: &str = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}";

/// A client of HTTP streaming that has subscribed to `a`, and what it was told as it connected.
async fn streaming(node: &Node) -> (Exchange, Value) {
    let mut stream = node.post("/connection/http_stream", HELLO).send().await;
    let connected = stream.line().await["connect"].clone();
    assert_eq!(stream.line().await, json!({"id": 2, "subscribe": {}}));
    (stream, connected)
}

fn encoded(commands: &str) -> String {
    let code = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    commands.bytes().map(code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_streaming_hears_by_its_response_and_speaks_by_other_requests() {
    let node = start(|_| {});
    let (mut stream, connected) = streaming(&node).await;
    assert_eq!(stream.header("x-accel-buffering"), "no");
    assert!(stream.header("cache-control").contains("no-store"));
    assert_eq!(
        (&connected["ping"], &connected["pong"]),
        (&json!(25), &json!(true))
    );
    assert_eq!(connected["node"], "test");
    node.publish("a", "[1]").await;
    assert_eq!(
        stream.line().await,
        json!({"push": {"channel": "a", "pub": {"data": [1]}}})
    );
    let publish = r#"{"id":3,"publish":{"channel":"a","data":2}}"#;
    assert_eq!(node.emulate(&connected, publish).await, 204);
    let (one, two) = (stream.line().await, stream.line().await);
    let (reply, push) = if one["id"].is_null() {
        (two, one)
    } else {
        (one, two)
    };
    assert_eq!(reply, json!({"id": 3, "publish": {}}));
    assert_eq!(push["push"]["pub"]["data"], 2);
    assert_eq!(
        node.emulate(
            &connected,
            "{\"id\":4,\"unsubscribe\":{\"channel\":\"a\"}}\n{\"id\":5,\"rpc\":{}}"
        )
        .await,
        204
    );
    assert_eq!(stream.line().await, json!({"id": 4, "unsubscribe": {}}));
    assert_eq!(stream.line().await["error"]["code"], 108);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_streaming_may_speak_protobuf() {
    let node = start(|_| {});
    // {id 1, connect {}} and {id 2, subscribe {channel "a"}}, each after its length.
    let hello = &b"\x04\x08\x01\x22\x00\x07\x08\x02\x2a\x03\x0a\x01a"[..];
    let asked = node.post("/connection/http_stream", hello);
    let mut stream = asked
        .with("content-type", "application/octet-stream")
        .send()
        .await;
    assert_eq!(stream.header("content-type"), "application/octet-stream");
    let size = stream.bytes(1).await[0];
    let connected = stream.bytes(size.into()).await;
    assert_eq!(connected[..3], [0x08, 1, 0x2a]);
    assert_eq!(stream.bytes(5).await, &b"\x04\x08\x02\x32\x00"[..]);
    // The session is field 9 of the result, the node field 10: "test".
    let at = connected
        .windows(6)
        .position(|it| it == b"\x52\x04test")
        .expect("the node");
    let start = connected[..at]
        .iter()
        .rposition(|byte| *byte == 0x4a)
        .expect("the session");
    let session = &connected[start + 2..at];
    // {id 3, publish {channel "a", data 0x01}}
    let publish = b"\x0a\x08\x03\x3a\x06\x0a\x01a\x12\x01\x01";
    let mut body = vec![0x0a, 4];
    body.extend_from_slice(b"test");
    for (tag, field) in [(0x12, session), (0x1a, &publish[..])] {
        body.extend([tag, u8::try_from(field.len()).expect("short")]);
        body.extend_from_slice(field);
    }
    let asked = node.post("/emulation", body);
    assert_eq!(
        asked
            .with("content-type", "application/octet-stream")
            .status()
            .await,
        204
    );
    let said = stream.bytes(5).await;
    assert!(
        said.contains(&3) || said.contains(&0x12),
        "the reply or the push: {said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_server_sent_events_says_hello_in_the_url_or_in_the_body() {
    let node = start(|_| {});
    let in_url = format!("/connection/sse?cf_connect={}", encoded(HELLO));
    for asked in [node.get(&in_url), node.post("/connection/sse", HELLO)] {
        let mut stream = asked.send().await;
        assert_eq!(stream.header("content-type"), "text/event-stream");
        assert_eq!(stream.bytes(2).await, "\r\n");
        let connected = stream.event().await["connect"].clone();
        assert_eq!(stream.event().await, json!({"id": 2, "subscribe": {}}));
        assert_eq!(node.emulate(&connected, r#"{"id":3,"rpc":{}}"#).await, 204);
        assert_eq!(stream.event().await["error"]["code"], 108);
        node.publish("a", "1").await;
        assert_eq!(stream.event().await["push"]["pub"]["data"], 1);
    }
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_with_a_status_and_a_reason() {
    let node = start(|config| config.limits.message_size = bytesize::ByteSize::kib(1));
    let large = "x".repeat(5000);
    let (status, why) = node.get("/connection/sse").refused().await;
    assert!(status == 400 && why.contains("cf_connect"), "{status}: {why}");
    for path in [
        "/connection/http_stream",
        "/connection/sse",
        "/connection/uni_sse",
        "/emulation",
    ] {
        assert_eq!(node.post(path, large.clone()).refused().await.0, 413, "{path}");
    }
    assert_eq!(
        node.post("/connection/uni_http_stream", "nope").refused().await.0,
        400
    );
    assert_eq!(node.get("/emulation").refused().await.0, 405);
    assert_eq!(node.post("/emulation", "nope").refused().await.0, 400);
    assert_eq!(node.get("/nowhere").refused().await.0, 404);
    assert_eq!(node.get("/connection/init").status().await, 200);
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_by_its_own_name_alone() {
    let node = start(|_| {});
    let (stream, connected) = streaming(&node).await;
    let session = connected["session"].as_str().expect("a session");
    let (place, _) = session.rsplit_once('.').expect("a secret");
    let guessed = format!("{place}.{}", "0".repeat(32));
    for name in [&guessed, "99.0.0", "", "nonsense"] {
        let other = json!({"session": name, "node": "test"});
        assert_eq!(node.emulate(&other, "{}").await, 404, "{name}");
    }
    drop(stream);
    node.is_empty().await;
    assert_eq!(node.emulate(&connected, "{}").await, 404, "it has gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_what_is_no_command_is_told_so_and_the_stream_ends() {
    let node = start(|_| {});
    let closed = json!({"push": {"disconnect": {"code": 3501, "reason": "bad request"}}});
    let mut stream = node.post("/connection/http_stream", "nope").send().await;
    assert_eq!(stream.line().await, closed);
    assert_eq!(stream.until("\n").await, None);
    let (mut stream, connected) = streaming(&node).await;
    assert_eq!(node.emulate(&connected, "nope").await, 204);
    assert_eq!(stream.line().await, closed);
    assert_eq!(stream.until("\n").await, None);
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_http_is_pinged_and_answers_by_other_requests() {
    let node = start(|config| {
        config.limits.ping_interval = Duration::from_secs(1);
        config.limits.pong_timeout = Duration::from_millis(900);
    });
    let (mut stream, connected) = streaming(&node).await;
    for _ in 0..2 {
        assert_eq!(stream.line().await, json!({}), "a ping");
        assert_eq!(node.emulate(&connected, "{}").await, 204);
    }
    assert_eq!(stream.line().await, json!({}), "a ping");
    assert_eq!(stream.line().await["push"]["disconnect"]["code"], 3012, "no pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_a_response_is_let_go_alone() {
    let node = start(|config| config.limits.outbox = bytesize::ByteSize::kib(256));
    let (mut good, _) = streaming(&node).await;
    let (mut slow, _) = streaming(&node).await;
    let data = format!("\"{}\"", "x".repeat(60_000));
    tokio::time::timeout(PATIENCE, async {
        while !node.metric("closes_total{code=\"3008\"} 1") {
            node.publish("a", &data).await;
            assert_eq!(good.line().await["push"]["channel"], "a");
        }
    })
    .await
    .expect("the slow client is let go");
    assert_eq!(node.counter.count().await.connections, 1);
    let last = loop {
        let line = slow.line().await;
        if line["push"]["pub"].is_null() {
            break line;
        }
    };
    assert_eq!(last["push"]["disconnect"]["code"], 3008);
    node.publish("a", "1").await;
    assert_eq!(good.line().await["push"]["pub"]["data"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_takes_everything_with_it() {
    let node = start(|config| config.limits.connections = 1);
    for _ in 0..3 {
        let (stream, _) = streaming(&node).await;
        assert_eq!(node.post("/connection/http_stream", HELLO).refused().await.0, 503);
        drop(stream);
        node.is_empty().await;
        // The place comes back with the response, which is a moment later than the session.
        tokio::time::timeout(PATIENCE, async {
            while node.get("/sse/a").status().await != 200 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("a place");
        node.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_gateway_tells_clients_over_http_to_reconnect_and_ends() {
    let node = start(|_| {});
    let (mut stream, _) = streaming(&node).await;
    node.shutdown.request();
    let goodbye = json!({"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}});
    assert_eq!(stream.line().await, goodbye);
    assert_eq!(stream.until("\n").await, None);
    tokio::time::timeout(PATIENCE, node.running)
        .await
        .expect("in time")
        .expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleartext_http_2_does_as_well() {
    let node = start(|_| {});
    let asked = node.post("/connection/http_stream", HELLO);
    let mut stream = asked.send_by_http2().await;
    let connected = stream.line().await["connect"].clone();
    stream.line().await;
    let body = json!({"session": connected["session"], "node": "test", "data": "{\"id\":3,\"rpc\":{}}"});
    let emulated = node.post("/emulation", body.to_string()).send_by_http2().await;
    assert_eq!(emulated.response.status(), 204);
    assert_eq!(stream.line().await["id"], 3);
    let large = format!("\"{}\"", "x".repeat(300_000));
    node.publish("a", &large).await;
    assert_eq!(
        stream.line().await["push"]["pub"]["data"].as_str().map(str::len),
        Some(300_000)
    );
    drop(stream);
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_an_allowed_origin_is_told_that_it_may_and_no_other() {
    let node = start(|config| config.allowed_origins = vec!["https://app.example.com".into()]);
    let asked = node.request(hyper::Method::OPTIONS, "/emulation", bytes::Bytes::new());
    let asked = asked
        .with("origin", "https://app.example.com")
        .with("access-control-request-headers", "content-type");
    let preflight = asked.send().await;
    assert_eq!(preflight.response.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-max-age", "300"),
        ("vary", "origin"),
    ] {
        assert_eq!(preflight.header(name), value, "{name}");
    }
    let events = node
        .get("/sse/a")
        .with("origin", "https://app.example.com")
        .send()
        .await;
    assert_eq!(
        events.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    for path in ["/emulation", "/connection/http_stream", "/connection/sse"] {
        let foreign = node.post(path, "{}").with("origin", "https://evil.example.com");
        assert_eq!(foreign.refused().await.0, 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_may_show_many_tokens_in_its_url() {
    let node = start(|_| {});
    let token = "t".repeat(600);
    let subscribe = |id| json!({"id": id, "subscribe": {"channel": format!("c{id}"), "token": token}});
    let mut commands = vec![json!({"id": 1, "connect": {}}).to_string()];
    commands.extend((2..62).map(|id| subscribe(id).to_string()));
    let path = format!("/connection/sse?cf_connect={}", encoded(&commands.join("\n")));
    assert!(path.len() > 40_000, "{}", path.len());
    let mut stream = node.get(&path).send().await;
    assert_eq!(stream.response.status(), 200);
    assert_eq!(stream.event().await["id"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http2_that_is_not_read_gives_its_place_back() {
    let node = start(|config| {
        config.limits.connections = 1;
        config.limits.outbox = config.limits.message_size;
    });
    let stream = node
        .post("/connection/http_stream", HELLO)
        .send_by_http2_unread()
        .await;
    while !node.metric("subscriptions 1") {
        tokio::task::yield_now().await;
    }
    let data = format!("\"{}\"", "x".repeat(50_000));
    while !node.metric("connections 0") {
        node.publish("a", &data).await;
    }
    let free = async {
        while node.post("/connection/http_stream", HELLO).status().await != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, free)
        .await
        .expect("the place is given back");
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_other_nodes_are_passed_on_only_so_often_and_its_own_are_not_counted() {
    let node = start(|_| {});
    let (_stream, connected) = streaming(&node).await;
    let session = connected["session"].clone();
    let away = json!({"session": session, "node": "away"});
    let statuses = join_all((0..600).map(|_| node.emulate(&away, "{}"))).await;
    let count = |status: u16| statuses.iter().filter(|it| it.as_u16() == status).count();
    assert!(count(404) >= 200 && count(429) > 0, "{} passed", count(404));
    assert_eq!(count(404) + count(429), 600);
    let ours = r#"{"id":3,"publish":{"channel":"a","data":2}}"#;
    assert_eq!(node.emulate(&connected, ours).await, 204);
}
