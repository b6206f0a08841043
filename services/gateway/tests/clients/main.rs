//! A whole gateway on the embedded broker, seen by WebSocket clients that are not ours.

mod admission;
mod backend;
mod bursts;
mod control;
mod emulation;
mod hostile;
mod http;
mod losses;
mod node;
mod one_way;
mod streams;
mod tokens;

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tidings_auth::token::{Expected, Keyring, Verifier};
use tidings_core::{DataFormat, Format, Namespace, Namespaces};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{
    MaybeTlsStream, connect_async,
    tungstenite::{Error, Message, error::ProtocolError},
};

use crate::node::{Node, PATIENCE, start, start_in, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_reaches_every_subscriber_of_its_channel_and_nobody_else() {
    let node = start(|config| config.cores = std::num::NonZero::new(2));
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        subscribers.push(node.subscriber("tasks:1").await);
    }
    let mut other = node.subscriber("tasks:2").await;
    node.publish("tasks:1", r#"{"a":1}"#).await;
    node.publish("tasks:2", "2").await;
    for client in &mut subscribers {
        assert_eq!(
            client.next().await,
            json!({"push": {"channel": "tasks:1", "pub": {"data": {"a": 1}}}})
        );
    }
    assert_eq!(other.next().await["push"]["pub"]["data"], 2);
    drop((subscribers, other));
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_arrive_in_the_order_they_were_published_however_many_share_a_write() {
    let node = start(|_| {});
    let mut client = node.subscriber("tasks:1").await;
    for number in 0..2000 {
        node.publish("tasks:1", &number.to_string()).await;
    }
    for number in 0..2000 {
        assert_eq!(client.next().await["push"]["pub"]["data"], number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_and_subscribes_in_one_frame_are_answered_in_order() {
    let node = start(|_| {});
    let mut client = node.open("/connection/websocket").await;
    client
        .say("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":3,\"subscribe\":{\"channel\":\"b\"}}\n{\"id\":4,\"publish\":{\"channel\":\"a\",\"data\":[1]}}")
        .await;
    let mut ids = Vec::new();
    while ids.len() < 4 {
        let reply = client.next().await;
        if let Some(id) = reply["id"].as_u64() {
            ids.push(id);
        } else {
            assert_eq!(reply["push"]["pub"]["data"], json!([1]), "it hears itself");
        }
    }
    assert_eq!((ids[0], ids[3]), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsubscribed_client_hears_no_more() {
    let node = start(|_| {});
    let mut client = node.subscriber("tasks:1").await;
    client
        .send(&json!({"id": 3, "unsubscribe": {"channel": "tasks:1"}}))
        .await;
    assert_eq!(client.next().await, json!({"id": 3, "unsubscribe": {}}));
    node.publish("tasks:1", "1").await;
    client.send(&json!({"id": 4, "rpc": {}})).await;
    assert_eq!(
        client.next().await["error"]["code"],
        108,
        "nothing came in between"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_client_gets_bare_data_and_publishes_with_bare_text() {
    let node = start(|_| {});
    let mut plain = node.open("/ws/tasks:1").await;
    let mut centrifuge = node.subscriber("tasks:1").await;
    plain.say(r#"{"from":"plain"}"#).await;
    assert_eq!(
        centrifuge.next().await["push"]["pub"]["data"],
        json!({"from": "plain"})
    );
    assert_eq!(plain.text().await, r#"{"from":"plain"}"#, "it hears itself");
    node.publish("tasks:1", "[1, 2]").await;
    assert_eq!(plain.text().await, "[1, 2]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_protobuf_gets_binary_frames_and_any_data() {
    let node = start(|_| {});
    for path in [
        "/connection/websocket?format=protobuf",
        "/connection/websocket?cf_protocol=protobuf",
    ] {
        let mut client = node.open(path).await;
        // {id 1, connect {}} and {id 2, subscribe {channel "a"}}, each after its length.
        let commands = Message::binary(&b"\x04\x08\x01\x22\x00\x07\x08\x02\x2a\x03\x0a\x01a"[..]);
        client.socket.send(commands).await.expect("an open socket");
        let connected = client.message().await.expect("a reply").into_data();
        assert_eq!(connected[1..4], [0x08, 1, 0x2a], "{connected:?}");
        let subscribed = client.message().await.expect("a reply");
        assert_eq!(subscribed, Message::binary(&b"\x04\x08\x02\x32\x00"[..]));
        node.publish_as("a", "\u{1}", Format::Binary).await;
        let push = client.message().await.expect("a push");
        assert_eq!(
            push,
            Message::binary(&b"\x0a\x22\x08\x12\x01a\x22\x03\x22\x01\x01"[..])
        );
    }
}

/// A node whose clients may publish what is not JSON.
fn start_for_anything() -> Node {
    let tasks = Namespace {
        publication_data_format: DataFormat::Binary,
        ..Namespace::open("tasks")
    };
    start_in(Namespaces::new(vec![tasks]).expect("a namespace"), None, |_| {})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_publishes_what_is_not_json_harms_itself_alone() {
    let node = start(|_| {});
    let mut centrifuge = node.subscriber("tasks:1").await;
    let mut plain = node.open("/ws/tasks:1").await;
    plain.say("not json").await;
    assert_eq!(plain.close_code().await, 3501);
    node.publish("tasks:1", "1").await;
    assert_eq!(centrifuge.next().await["push"]["pub"]["data"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_not_json_reaches_plain_clients_and_closes_only_those_who_read_json() {
    let node = start_for_anything();
    let centrifuge = node.subscriber("tasks:1").await;
    let mut plain = node.open("/ws/tasks:1").await;
    plain.say("not json").await;
    assert_eq!(plain.text().await, "not json");
    assert_eq!(centrifuge.close_code().await, 3506);
    node.publish_as("tasks:1", "still here", Format::Binary).await;
    assert_eq!(plain.text().await, "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_misbehaves_is_closed_alone_with_the_code_that_says_how() {
    let node = start(|config| {
        config.limits.message_size = bytesize::ByteSize::kib(1);
    });
    let mut good = node.subscriber("tasks:1").await;
    let cases: [(Message, u16); 6] = [
        (Message::text("{nope"), 3501),
        (Message::text(""), 3501),
        (Message::text("{}"), 3501),
        (Message::text("{\"send\":{}}"), 3508),
        (Message::text("x".repeat(2000)), 1009),
        (Message::binary(vec![0xff, 0xfe]), 3501),
    ];
    for (message, code) in cases {
        let mut client = node.client().await;
        client.socket.send(message.clone()).await.expect("an open socket");
        assert_eq!(client.close_code().await, code, "{message:?}");
    }
    let mut raw = node.client().await;
    let MaybeTlsStream::Plain(stream) = raw.socket.get_mut() else {
        panic!("no TLS here")
    };
    // A text frame of the byte 0xff, under the mask 0: not UTF-8.
    stream
        .write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff])
        .await
        .expect("an open socket");
    assert_eq!(raw.close_code().await, 1007);
    node.publish("tasks:1", "1").await;
    assert_eq!(good.next().await["push"]["pub"]["data"], 1);
    drop(good);
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_closed_and_others_still_receive() {
    let node = start(|config| config.limits.outbox = bytesize::ByteSize::kib(256));
    let mut good = node.subscriber("tasks:1").await;
    let slow = node.subscriber("tasks:1").await;
    let data = format!("\"{}\"", "x".repeat(60_000));
    // What the kernel's socket buffers take comes on top of the outbox.
    tokio::time::timeout(PATIENCE, async {
        while !node.metric("closes_total{code=\"3008\"} 1") {
            node.publish("tasks:1", &data).await;
            assert_eq!(good.next().await["push"]["channel"], "tasks:1");
        }
    })
    .await
    .expect("the slow client is closed");
    assert_eq!(
        node.counter.count().await.connections,
        2,
        "it is given a moment to say goodbye"
    );
    assert_eq!(slow.close_code().await, 3008);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_everything_with_it() {
    let node = start(|_| {});
    let mut polite = node.subscriber("tasks:1").await;
    let rude = node.subscriber("tasks:1").await;
    assert_eq!(node.counter.count().await.connections, 2);
    polite.socket.close(None).await.expect("an open socket");
    while let Ok(message) = polite.message().await {
        if message.is_close() {
            break;
        }
    }
    drop(rude);
    node.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_gateway_tells_its_clients_to_reconnect_and_ends() {
    let node = start(|_| {});
    let client = node.subscriber("tasks:1").await;
    node.shutdown.request();
    assert_eq!(client.close_code().await, 3001);
    tokio::time::timeout(PATIENCE, node.running)
        .await
        .expect("in time")
        .expect("no panic");
    let refused = connect_async(format!("ws://{}/connection/websocket", node.address)).await;
    assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_refuses_further_clients_until_one_leaves() {
    let node = start(|config| config.limits.connections = 1);
    let client = node.client().await;
    let url = format!("ws://{}/connection/websocket", node.address);
    match connect_async(&url).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    drop(client);
    node.is_empty().await;
    node.client().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_cannot_be_is_refused_in_http() {
    let node = start(|config| config.allowed_origins = vec!["https://app.example.com".into()]);
    let status = async |path: &str, origin: &str| {
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
            format!("ws://{}{path}", node.address),
        )
        .expect("a request");
        request
            .headers_mut()
            .insert("Origin", origin.parse().expect("a header"));
        match connect_async(request).await {
            Ok(_) => 101,
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(Error::Protocol(ProtocolError::WrongHttpMethod)) => 405,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(
        status("/connection/websocket", "https://app.example.com").await,
        101
    );
    assert_eq!(
        status("/connection/websocket", "https://evil.example.com").await,
        403
    );
    assert_eq!(status("/ws/a%7Db", "https://app.example.com").await, 400);
    assert_eq!(status("/nowhere", "https://app.example.com").await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_without_data_is_refused_and_null_is_data() {
    let node = start(|_| {});
    let mut client = node.subscriber("a").await;
    client.send(&json!({"id": 3, "publish": {"channel": "a"}})).await;
    assert_eq!(client.next().await["error"]["code"], 107);
    client
        .send(&json!({"id": 4, "publish": {"channel": "a", "data": null}}))
        .await;
    let (one, two) = (client.next().await, client.next().await);
    let push = if one["id"].is_null() { one } else { two };
    assert_eq!(push["push"]["pub"]["data"], Value::Null);
    assert!(
        push["push"]["pub"]
            .as_object()
            .expect("a publication")
            .contains_key("data")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_utf_8_reach_plain_clients_in_binary_frames() {
    let node = start_for_anything();
    let mut plain = node.open("/ws/tasks:1").await;
    let data = Message::binary(&b"\"\xff\""[..]);
    plain.socket.send(data.clone()).await.expect("an open socket");
    assert_eq!(plain.message().await.expect("a message"), data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_late_gets_all_that_waits_for_it() {
    let node = start(|config| {
        config.limits.outbox = bytesize::ByteSize::mib(64);
        config.limits.ping_interval = Duration::from_secs(600);
    });
    let mut client = node.open("/connection/websocket").await;
    client
        .say("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}")
        .await;
    client.next().await;
    client.next().await;
    // Far more than two sockets' buffers take, and nothing that would wake the connection comes after it.
    let data = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..300 {
        node.publish("a", &data).await;
    }
    for _ in 0..300 {
        assert_eq!(client.next().await["push"]["channel"], "a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_pong_does_not_stand_for_the_protocols_own() {
    let node = start(|config| {
        config.limits.ping_interval = Duration::from_secs(1);
        config.limits.pong_timeout = Duration::from_millis(900);
    });
    let mut client = node.open("/connection/websocket").await;
    client.say("{\"id\":1,\"connect\":{}}").await;
    client.next().await;
    for _ in 0..2 {
        assert_eq!(client.next().await, json!({}), "a ping");
        client
            .socket
            .send(Message::Pong(bytes::Bytes::new()))
            .await
            .expect("an open socket");
        client.say("{}").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_it_subscribes_leaves_no_interest_behind() {
    let node = start(|_| {});
    // The bus keeps the channel for a moment after this one: the next subscribe is confirmed at once.
    drop(node.subscriber("a").await);
    node.is_empty().await;
    let mut client = node.client().await;
    client
        .say("{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\nnope")
        .await;
    assert_eq!(client.close_code().await, 3501);
    node.is_empty().await;
    // What the bus still brings is counted as it comes in.
    let came_in = |node: &Node| (0..1000).find(|n| node.metric(&format!("publications_in_total {n}")));
    tokio::time::timeout(PATIENCE, async {
        loop {
            let before = came_in(&node);
            node.publish("a", "1").await;
            if came_in(&node) == before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the bus is told that nobody wants the channel");
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_clients_ends_while_the_gateway_does() {
    let node = start(|config| config.cores = std::num::NonZero::new(4));
    let client = node.client().await;
    node.shutdown.request();
    assert_eq!(client.close_code().await, 3001);
    tokio::time::timeout(PATIENCE, node.running)
        .await
        .expect("in time")
        .expect("no panic");
    let counts = tokio::time::timeout(PATIENCE, node.counter.count())
        .await
        .expect("an answer");
    assert_eq!(counts.connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_read_from_any_position_and_a_lost_stream_is_said() {
    let node = start(|_| {});
    let mut client = node.subscriber("kept:1").await;
    for number in 1..=3 {
        client
            .send(&json!({"id": 2 + number, "publish": {"channel": "kept:1", "data": number}}))
            .await;
        for _ in 0..2 {
            let said = client.next().await;
            assert!(
                said["id"] == 2 + number || said["push"]["pub"]["offset"] == number,
                "{said}"
            );
        }
    }
    client
        .send(&json!({"id": 9, "history": {"channel": "kept:1", "limit": -1}}))
        .await;
    let all = client.next().await["history"].clone();
    assert_eq!(all["offset"], 3);
    let offsets = |history: &Value| -> Vec<u64> {
        let kept = history["publications"].as_array().expect("a list");
        kept.iter()
            .map(|it| it["offset"].as_u64().expect("an offset"))
            .collect()
    };
    assert_eq!(offsets(&all), [1, 2, 3]);
    let since = json!({"offset": 3, "epoch": all["epoch"]});
    client
        .send(
            &json!({"id": 10, "history": {"channel": "kept:1", "limit": 1, "since": since, "reverse": true}}),
        )
        .await;
    assert_eq!(offsets(&client.next().await["history"]), [2]);
    let lost = json!({"offset": 1, "epoch": "another"});
    client
        .send(&json!({"id": 11, "history": {"channel": "kept:1", "limit": 1, "since": lost}}))
        .await;
    assert_eq!(client.next().await["error"]["code"], 112);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_key_cannot_be_fetched_is_worth_another_try_and_holds_up_nobody_else() {
    let nowhere = "http://127.0.0.1:1/jwks.json".parse().expect("a URL");
    let keys = Keyring::jwks(&nowhere).expect("an address that can be meant");
    let node = start_with(Some(Verifier::new(keys, Expected::default())), |config| {
        config.cores = std::num::NonZero::new(1);
    });
    let mut client = node.open("/connection/websocket").await;
    // {"alg":"RS256","kid":"k"} . {} . nothing
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.AAAA";
    client.send(&json!({"id": 1, "connect": {"token": token}})).await;
    let mut other = node.subscriber("a").await;
    node.publish("a", "1").await;
    assert_eq!(other.next().await["push"]["pub"]["data"], 1);
    let error = client.next().await["error"].clone();
    assert_eq!((&error["code"], &error["temporary"]), (&json!(100), &json!(true)));
}
