//! Bad input at every door: a clear error that names what and why, and harm to nobody else.

use serde_json::json;
use tidings_tests::{Backend, CONFIG, Client, Launch, Tidings, command, event, eventually, token};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

async fn node() -> Tidings {
    Launch::new("standalone").start().await
}

#[tokio::test]
async fn a_wrong_key_in_the_file_is_named_with_its_place_and_the_nearest_valid_one() {
    for (config, wrong, nearest) in [
        ("[clients]\nlisten_on = '0.0.0.0:8000'\n", "listen_on", "listen"),
        (
            "[clients.limits]\nping_intervall = '25s'\n",
            "ping_intervall",
            "ping_interval",
        ),
        (
            "[[namespace]]\nname = 'tasks'\npresense = true\n",
            "presense",
            "presence",
        ),
        ("[redsi]\nurl = 'redis://x'\n", "redsi", "redis"),
    ] {
        let exit = Launch::new("standalone")
            .config(&format!("{config}\n"))
            .exit()
            .await;
        assert_eq!(exit.code, Some(64), "{exit:?}");
        for part in [wrong, nearest, "node.toml"] {
            assert!(exit.output.contains(part), "{part:?} is not in {exit:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_variable_or_value_is_named() {
    for (name, value, parts) in [
        (
            "TIDINGS_CLEINTS__LISTEN",
            "0.0.0.0:1",
            ["TIDINGS_CLEINTS__LISTEN", "TIDINGS_CLIENTS"],
        ),
        (
            "TIDINGS_CLIENTS__LIMITS__OUTBOX",
            "much",
            ["clients.limits.outbox", "TIDINGS_CLIENTS__LIMITS__OUTBOX"],
        ),
        ("TIDINGS_PRESENCE__LEASE", "1ms", ["presence.lease", "1s"]),
        ("REDIS_URL", "http://cache", ["REDIS_URL", "redis://"]),
        ("PORT", "eight", ["PORT", "port"]),
    ] {
        let exit = Launch::new("standalone").env(name, value).exit().await;
        assert_eq!(exit.code, Some(64), "{name}: {exit:?}");
        for part in parts {
            assert!(exit.output.contains(part), "{part:?} is not in {exit:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    for path in ["/does/not/exist.toml", "/"] {
        let exit = command(&["--config", path, "standalone"], &[]).await;
        assert_eq!(exit.code, Some(64), "{exit:?}");
        assert!(exit.output.contains(path), "{exit:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_with_the_door_and_the_address_and_nothing_is_half_open() {
    let first = node().await;
    let taken = first.port();
    for (door, taken) in [
        ("clients", taken),
        ("backends", taken + 1000),
        ("operators", taken + 1100),
    ] {
        let doors = ["clients", "backends", "operators"].into_iter();
        let second = doors.fold(Launch::new("standalone").env("PORT", ""), |launch, listed| {
            let port = if listed == door { taken } else { 0 };
            let variable = format!("TIDINGS_{}__LISTEN", listed.to_uppercase());
            launch.env(&variable, &format!("127.0.0.1:{port}"))
        });
        let exit = second.exit().await;
        assert_eq!(exit.code, Some(1), "{exit:?}");
        for part in [door, &taken.to_string(), "in use"] {
            assert!(exit.output.contains(part), "{part:?} is not in {exit:?}");
        }
    }
    assert_eq!(first.json("/health/ready").await.0, 200);
}

#[tokio::test]
async fn a_malformed_event_is_refused_with_the_field() {
    let node = node().await;
    let backend = Backend::new(&node.backends());
    let long = "x".repeat(256);
    for (wrong, field) in [
        (event("", "1", &["tasks:1"]), "event.type"),
        (event("task..created", "1", &["tasks:1"]), "event.type"),
        (event("task.created", "{", &["tasks:1"]), "event.data"),
        (
            event("task.created", "1", &["tasks:1", "tasks:{2}"]),
            "event.channels[1]",
        ),
        (event("task.created", "1", &["white space"]), "event.channels[0]"),
        (event("task.created", "1", &[&long]), "event.channels[0]"),
        (event("task.created", "1", &[""]), "event.channels[0]"),
    ] {
        let refused = backend.publish(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let details = refused.get_error_details();
        let fields: Vec<_> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, [field], "{refused}");
        assert!(refused.message().contains(field), "{refused}");
    }
    let big = format!("\"{}\"", "x".repeat(2 << 20));
    let refused = backend
        .publish(event("task.created", &big, &["tasks:1"]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("backends.message_size"), "{refused}");
    // The connection and everybody else's go on.
    backend
        .publish(event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_sends_garbage_is_closed_with_the_right_code_and_another_goes_on() {
    let node = node().await;
    let backend = Backend::new(&node.backends());
    let mut bystander = Client::connect(&node.websocket(), &token("bob")).await;
    bystander.subscribe("tasks:1").await;

    let text = |data: Vec<u8>| Message::Frame(Frame::message(data, OpCode::Data(Data::Text), true));
    let reserved = Message::Frame(Frame::message(&b""[..], OpCode::Data(Data::Reserved(3)), true));
    let continuation = Message::Frame(Frame::message(&b""[..], OpCode::Data(Data::Continue), true));
    for (number, (what, garbage, code)) in [
        ("no JSON", Message::text("{"), 3501),
        ("no object", Message::text("[1]"), 3501),
        ("an empty message", Message::text(""), 3501),
        (
            "an unknown command",
            Message::text(r#"{"id":9,"dance":{}}"#),
            3501,
        ),
        (
            "a second connect",
            Message::text(r#"{"id":9,"connect":{}}"#),
            3501,
        ),
        ("a pong nobody asked for", Message::text("{}"), 3501),
        ("deep nesting", Message::text("[".repeat(60_000)), 3501),
        ("invalid UTF-8", text(b"{\"id\":1,\"\xff\":1}".to_vec()), 1007),
        ("an oversized message", Message::text("x".repeat(65 * 1024)), 1009),
        ("a reserved opcode", reserved, 1002),
        ("a continuation of nothing", continuation, 1002),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::connect(&node.websocket(), &token("ada")).await;
        client.subscribe("tasks:1").await;
        client.send_message(garbage).await;
        assert_eq!(client.closed().await.0, code, "{what}");

        backend
            .publish(event("task.created", &number.to_string(), &["tasks:1"]))
            .await
            .unwrap();
        assert_eq!(bystander.hear().await.1["data"], json!(number), "after {what}");
    }
}

#[tokio::test]
async fn a_channel_name_that_could_break_a_redis_hash_tag_fails_that_command_alone() {
    let node = node().await;
    let mut client = Client::connect(&node.websocket(), &token("ada")).await;
    for channel in [
        "tasks:{1}",
        "tasks:}",
        "tasks: 1",
        "tasks:\u{e9}",
        &"x".repeat(256),
    ] {
        let reply = client.ask("subscribe", json!({ "channel": channel })).await;
        assert_eq!(reply["error"]["code"], 107, "{channel}: {reply}");
        assert!(
            reply["error"]["message"]
                .as_str()
                .unwrap()
                .contains("channel name"),
            "{reply}"
        );
    }
    client.subscribe("tasks:1").await;
}

#[tokio::test]
async fn a_client_that_opens_too_many_channels_or_asks_too_often_is_told_so_and_one_that_floods_is_closed() {
    let limits = format!("[clients.limits]\nchannels = 2\ncommands_per_second = 5\n{CONFIG}");
    let node = Launch::new("standalone").config(&limits).start().await;
    let mut client = Client::connect(&node.websocket(), &token("ada")).await;
    client.subscribe("tasks:1").await;
    client.subscribe("tasks:2").await;
    let reply = client.ask("subscribe", json!({ "channel": "tasks:3" })).await;
    assert_eq!(reply["error"]["code"], 106, "{reply}");
    let publish = json!({ "channel": "tasks:1", "data": 1 });
    eventually("a command is refused", async || {
        let reply = client.ask("publish", publish.clone()).await;
        (reply["error"]["code"] == 111).then_some(())
    })
    .await;
    // Who goes on regardless is closed, and may come back later.
    for id in 1000..2000 {
        client
            .send(&json!({ "id": id, "publish": publish }).to_string())
            .await;
    }
    assert_eq!(client.closed().await.0, 3013);
}

#[tokio::test]
async fn what_is_not_http_harms_no_door() {
    let node = node().await;
    let mut bystander = Client::connect(&node.websocket(), &token("bob")).await;
    bystander.subscribe("tasks:1").await;
    for port in [node.port(), node.port() + 1000, node.port() + 1100] {
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"GET\r\n\r\n",
            &[0xff; 20_000],
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            // It may be cut off at any moment; that it ends is what matters.
            let _ = stream.write_all(garbage).await;
            let _ = stream.shutdown().await;
            let _ = tidings_tests::in_time("the end", stream.read_to_end(&mut Vec::new())).await;
        }
    }
    Backend::new(&node.backends())
        .publish(event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
    assert_eq!(bystander.hear().await.1["data"], json!(1));
}
