//! Clients that mean no good. Each is closed with the code that says why, and leaves nothing behind: no connection, no
//! subscription, no interest in a channel, no task.

use std::time::Duration;

use futures_util::{SinkExt, future::join_all};
use serde_json::{Value, json};
use tidings_gateway::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
};
use tokio_tungstenite::{
    MaybeTlsStream,
    tungstenite::{Bytes, Message},
};

use crate::node::{Client, Node, PATIENCE, start};

/// A node, and how many tasks it has while nobody is there.
struct Quiet {
    node: Node,
    tasks: usize,
}

impl Quiet {
    /// Waits for what a node does once, with its first client.
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let node = start(change);
        let mut first = node.open("/connection/websocket").await;
        first
            .say("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"first\"}}")
            .await;
        while !node.metric("subscriptions 1") {
            first.message().await.expect("an answer");
        }
        drop(first);
        node.is_empty().await;
        unwanted(&node, "first").await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        Self { node, tasks }
    }

    /// Waits until the node holds what it held before anybody came, and nothing of the channels.
    async fn again(&self, channels: &[&str]) {
        self.node.is_empty().await;
        for channel in channels {
            unwanted(&self.node, channel).await;
        }
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let ended = async {
            while tasks() > self.tasks {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        assert!(ended.is_ok(), "{} tasks were {} before", tasks(), self.tasks);
    }
}

/// Waits until the bus brings nothing more of a channel: what it brings is counted as it comes in.
async fn unwanted(node: &Node, channel: &str) {
    let came_in = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &node.registry).expect("metrics");
        let line = text
            .lines()
            .find(|line| line.starts_with("publications_in_total "));
        line.expect("the count").to_owned()
    };
    let silent = async {
        loop {
            let before = came_in();
            node.publish(channel, "1").await;
            if came_in() == before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let silent = tokio::time::timeout(PATIENCE, silent).await;
    silent.expect("the bus is told that nobody wants the channel");
}

/// The socket below a client.
fn raw(client: &mut Client) -> &mut TcpStream {
    match client.socket.get_mut() {
        MaybeTlsStream::Plain(stream) => stream,
        _ => panic!("no TLS here"),
    }
}

async fn write(client: &mut Client, bytes: &[u8]) {
    raw(client).write_all(bytes).await.expect("an open socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_says_who_it_is_is_closed_however_busy_it_looks() {
    let quiet = Quiet::start(|config| config.limits.connect_timeout = Duration::from_millis(300)).await;
    // Nothing; half a frame's head; a frame without its payload; the first fragment of a message.
    for beginning in [
        &b""[..],
        b"\x81",
        b"\x81\xfe\x03\xe8\0\0\0\0{",
        b"\x01\x81\0\0\0\0{",
    ] {
        let mut client = quiet.node.open("/connection/websocket").await;
        for byte in beginning {
            write(&mut client, &[*byte]).await;
        }
        assert_eq!(client.close_code().await, 3502, "{beginning:?}");
    }
    quiet.again(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_in_the_middle_of_a_frame_is_let_go_when_it_answers_no_ping() {
    let quiet = Quiet::start(|config| {
        config.limits.ping_interval = Duration::from_secs(1);
        config.limits.pong_timeout = Duration::from_millis(300);
    });
    let quiet = quiet.await;
    let mut client = quiet.node.open("/connection/websocket").await;
    let commands = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}";
    client.say(commands).await;
    client.next().await;
    write(&mut client, b"\x81\xfe\x03\xe8\0\0\0\0{").await;
    assert_eq!(client.close_code().await, 3012);
    quiet.again(&["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_handshake_takes_no_clients_place() {
    let quiet = Quiet::start(|config| config.limits.connections = 1).await;
    let mut halves = Vec::new();
    for _ in 0..100 {
        let mut socket = TcpStream::connect(quiet.node.address)
            .await
            .expect("an open door");
        let half = b"GET /connection/websocket HTTP/1.1\r\nHost: here\r\nUpgrade: webso";
        socket.write_all(half).await.expect("an open socket");
        halves.push(socket);
    }
    let client = quiet.node.client().await;
    drop((client, halves));
    quiet.again(&[]).await;
    // A whole one from a client that does not wait for the answer.
    for _ in 0..20 {
        let mut socket = TcpStream::connect(quiet.node.address)
            .await
            .expect("an open door");
        let whole = b"GET /connection/websocket HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(whole).await.expect("an open socket");
        socket.set_zero_linger().expect("an open socket");
    }
    quiet.again(&[]).await;
}

/// A thousand subscribes, one to each line.
fn a_thousand_subscribes() -> String {
    let lines: Vec<_> = (2..1002)
        .map(|id| json!({"id": id, "subscribe": {"channel": format!("c{id}")}}).to_string())
        .collect();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_subscribes_fill_the_clients_channels_and_no_more() {
    let quiet = Quiet::start(|config| config.limits.commands_per_second = 1000).await;
    let mut client = quiet.node.client().await;
    client.say(a_thousand_subscribes()).await;
    let (mut subscribed, mut refused) = (0, 0);
    while subscribed + refused < 1000 {
        for line in client.text().await.lines() {
            let reply: Value = serde_json::from_str(line).expect("JSON");
            match reply["error"]["code"].as_u64() {
                None => subscribed += 1,
                Some(106) => refused += 1,
                Some(_) => panic!("{reply}"),
            }
        }
    }
    assert_eq!((subscribed, refused), (128, 872));
    assert!(quiet.node.metric("subscriptions 128"));
    drop(client);
    quiet.again(&["c2", "c129", "c130", "c1001"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_commands_is_answered_for_a_while_and_then_closed() {
    let quiet = Quiet::start(|_| {}).await;
    let mut client = quiet.node.client().await;
    client.say(a_thousand_subscribes()).await;
    let mut codes = Vec::new();
    let closed: u16 = loop {
        match client.message().await.expect("a close frame before the end") {
            Message::Close(frame) => break frame.expect("a code").code.into(),
            message => {
                let text = message.into_text().expect("text");
                let replies = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
                codes.extend(replies.filter_map(|reply: Value| reply["error"]["code"].as_u64()));
            }
        }
    };
    assert_eq!(closed, 3013);
    assert!(codes.contains(&111), "{codes:?}");
    assert!(codes.len() < 400, "a flood is not answered for ever");
    quiet.again(&["c2", "c100"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_or_pongs_is_closed() {
    let quiet = Quiet::start(|_| {}).await;
    for frame in [
        Message::Ping(Bytes::from_static(b"x")),
        Message::Pong(Bytes::new()),
    ] {
        let mut client = quiet.node.client().await;
        for _ in 0..1000 {
            client.socket.feed(frame.clone()).await.expect("an open socket");
        }
        client.socket.flush().await.expect("an open socket");
        assert_eq!(client.close_code().await, 3013, "{frame:?}");
    }
    let mut unasked = quiet.node.client().await;
    unasked.say("{}").await;
    assert_eq!(unasked.close_code().await, 3501);
    quiet.again(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_websocket_message_is_closed_by_the_code_of_the_rule_that_it_breaks() {
    let quiet = Quiet::start(|config| config.limits.message_size = bytesize::ByteSize::kib(1)).await;
    let fragments = [
        &b"\x01\xfe\x02\x58\0\0\0\0"[..],
        &[b' '; 600],
        b"\x80\xfe\x02\x58\0\0\0\0",
        &[b' '; 600],
    ]
    .concat();
    let cases: [(&str, &[u8], u16); 9] = [
        ("unmasked", b"\x81\x02{}", 1002),
        ("compressed, which nobody agreed to", b"\xc1\x80\0\0\0\0", 1002),
        ("an opcode that there is not", b"\x83\x80\0\0\0\0", 1002),
        ("a ping in fragments", b"\x09\x80\0\0\0\0", 1002),
        ("a ping that is too long", b"\x89\xfe\0\x7e\0\0\0\0", 1002),
        ("the end of nothing", b"\x80\x80\0\0\0\0", 1002),
        ("four exabytes", b"\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0", 1009),
        ("many small parts", &fragments, 1009),
        ("no UTF-8", b"\x81\x81\0\0\0\0\xff", 1007),
    ];
    for (what, bytes, code) in cases {
        let mut client = quiet.node.subscriber("a").await;
        write(&mut client, bytes).await;
        assert_eq!(client.close_code().await, code, "{what}");
    }
    quiet.again(&["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_is_closed_after_connect_as_before() {
    let quiet = Quiet::start(|_| {}).await;
    let deep = format!(r#"{{"id":2,"rpc":{}"#, "[".repeat(60_000));
    let cases = [
        "GET / HTTP/1.1",
        "{\"id\":2}",
        "{\"id\":2,\"ping\":{}}",
        "[]",
        "\u{0}",
        &deep,
        "{\"id\":2,\"connect\":{}}",
    ];
    for garbage in cases {
        let mut client = quiet.node.subscriber("a").await;
        client.say(garbage).await;
        assert_eq!(client.close_code().await, 3501, "{:.20}", garbage);
        let mut client = quiet.node.open("/connection/websocket").await;
        client.say(garbage.replace("connect", "subscribe")).await;
        assert_eq!(client.close_code().await, 3501, "{:.20}", garbage);
    }
    quiet.again(&["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_shut_on_one_side_is_shut_on_the_other() {
    let quiet = Quiet::start(|_| {}).await;
    let mut client = quiet.node.subscriber("a").await;
    let socket = raw(&mut client);
    socket.shutdown().await.expect("an open socket");
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    read.expect("an end in time").expect("an end that is clean");
    quiet.again(&["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_that_vanish_at_once_leave_nothing_behind() {
    let quiet = Quiet::start(|config| config.cores = std::num::NonZero::new(2)).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.extend(join_all((0..100).map(|_| quiet.node.subscriber("a"))).await);
    }
    assert!(quiet.node.metric("connections 1000") && quiet.node.metric("subscriptions 1000"));
    for (number, mut client) in clients.into_iter().enumerate() {
        if number % 2 == 0 {
            // A reset instead of an end.
            raw(&mut client).set_zero_linger().expect("an open socket");
        }
    }
    quiet.again(&["a"]).await;
}
