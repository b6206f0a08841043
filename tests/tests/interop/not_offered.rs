//! What the protocol has and this server does not: it says so, and the client stays.

use serde_json::json;
use tidings_tests::{Client, Sdk, Way, handshake, has_node, in_every_way, in_time, token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::node::{launch, publish};

#[tokio::test]
async fn map_and_shared_poll_subscriptions_are_refused_and_nothing_else_suffers() {
    if !has_node() {
        return;
    }
    let server = launch().start().await;
    for way in [Way::WebSocket, Way::WebSocketProtobuf] {
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        for kind in ["Map", "SharedPoll"] {
            let channel = format!("chat:{kind}");
            ada.subscribing(&channel, json!({ "kind": kind })).await;
            let refused = ada.event_of("unsubscribed", &channel).await;
            assert_eq!(refused["code"], 108, "{kind}: {refused}");
        }
        ada.subscribe("chat:ordinary", json!({})).await;
        assert!(
            !ada.had("disconnected") && !ada.had("connecting"),
            "{}",
            ada.rest()
        );
    }
}

#[tokio::test]
async fn a_message_that_nobody_takes_ends_the_connection() {
    let server = launch().start().await;
    in_every_way(async |way| {
        // The Python SDK cannot send one.
        if matches!(way, Way::Python | Way::PythonProtobuf) {
            return;
        }
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        ada.tell(&json!({ "do": "send", "data": 1 })).await;
        assert_eq!(ada.event("disconnected").await["code"], 3508);
    })
    .await;
}

#[tokio::test]
async fn transports_that_are_not_offered_are_not_found() {
    let server = launch().start().await;
    for path in ["connection/webtransport", "connection/sockjs", "connection/other"] {
        let (status, why) = handshake(&format!("ws://{}/{path}", server.address()), &[]).await;
        assert_eq!(status, 404, "{path}");
        assert!(why.contains("/connection/websocket"), "{path}: {why}");
    }
}

#[tokio::test]
async fn what_a_client_offers_beyond_the_protocol_is_left_alone() {
    let server = launch().start().await;
    let mut client = Client::open(&server.websocket()).await;
    // Dictionary compression, and the compaction of channel names in every subscribe.
    let connect =
        json!({ "token": token("ada"), "flag": 3, "dict": "some", "profile": "some", "unheard": "of" });
    let reply = client.ask("connect", connect).await;
    let known = reply["connect"].as_object().unwrap_or_else(|| panic!("{reply}"));
    assert!(
        !known.contains_key("dict") && !known.contains_key("flag") && !known.contains_key("time"),
        "{reply}"
    );
    let reply = client
        .ask("subscribe", json!({ "channel": "chat:1", "flag": 1 }))
        .await;
    assert!(reply["subscribe"]["id"].is_null(), "{reply}");
    publish(&server, "chat:1", &json!(1)).await;
    assert_eq!(
        client.hear().await.0,
        "chat:1",
        "the channel has its name, not a number"
    );
}

#[tokio::test]
async fn frames_are_not_compressed_though_the_client_could() {
    let server = launch().start().await;
    let offer = "permessage-deflate; client_max_window_bits";
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let request = format!(
        "GET /connection/websocket HTTP/1.1\r\nhost: tests\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: {offer}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![0; 512];
    let length = in_time("an answer", stream.read(&mut head)).await.unwrap();
    let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && !head.contains("extensions"),
        "{head}"
    );
}

#[tokio::test]
async fn a_ping_of_the_clients_own_is_a_bad_request() {
    let server = launch().start().await;
    let mut client = Client::connect(&server.websocket(), &token("ada")).await;
    client.send(r#"{"id":2,"ping":{}}"#).await;
    assert_eq!(client.closed().await.0, 3501);
}
