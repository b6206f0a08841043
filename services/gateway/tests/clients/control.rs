//! What nodes tell each other: two gateways on one Redis, and an asker that is neither.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message as _;
use serde_json::{Value, json};
use tidings_auth::token::{Expected, Keyring, Minter, Verifier};
use tidings_broker::{Broker, Incoming, Publisher, Subscriber, To, test_util::RedisServer};
use tidings_core::Secret;
use tidings_proto::bus::{self, control::Body, order::What};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::node::{Client, Node, PATIENCE, start_on};

const SECRET: &str = "a secret that is long enough to be taken";

/// Gateways `one` and `two`, and somebody who gives them orders.
struct Cluster {
    one: Node,
    two: Node,
    asker: Asker,
    _redis: RedisServer,
}

impl Cluster {
    async fn start() -> Option<Self> {
        let redis = RedisServer::start()?;
        let broker = || Broker::redis(&redis.config()).expect("a broker");
        let node = |name| {
            start_on(&broker(), name, Some(verifier()), |config| {
                config.cores = std::num::NonZero::new(2);
                config.insecure = false;
            })
        };
        let (one, two) = (node("one"), node("two"));
        let asker = Asker::of(2, &broker()).await;
        Some(Self {
            one,
            two,
            asker,
            _redis: redis,
        })
    }
}

struct Asker {
    publisher: Publisher,
    answers: mpsc::Receiver<bus::Answer>,
    orders: u64,
    _subscriber: Subscriber,
}

impl Asker {
    /// One that this many nodes hear.
    async fn of(nodes: u64, broker: &Broker) -> Self {
        let (sink, answers) = mpsc::channel(100);
        let subscriber = broker.subscriber(Arc::new(move |incoming| {
            let Incoming::Control(message) = incoming else {
                return;
            };
            let control = bus::Control::decode(message).expect("a message of ours");
            if let Some(Body::Answer(answer)) = control.body {
                sink.try_send(answer).expect("room");
            }
        }));
        subscriber
            .listen(To::Node("asker"))
            .await
            .expect("Redis is there");
        let mut asker = Self {
            publisher: broker.publisher(),
            answers,
            orders: 0,
            _subscriber: subscriber,
        };
        let meeting = async {
            while asker.ask(user("nobody"), send("1")).await != (nodes, 0) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, meeting).await.expect("all nodes listen");
        asker
    }

    /// How many nodes heard the order, and how many connections it was carried out on.
    async fn ask(&mut self, clients: bus::Clients, what: What) -> (u64, u32) {
        self.orders += 1;
        let order = bus::Order {
            id: self.orders,
            asker: "asker".to_owned(),
            clients: Some(clients),
            what: Some(what),
        };
        let body = Some(Body::Order(order));
        let message = bus::Control { body }.encode_to_vec().into();
        let heard = self.publisher.tell(To::All, &message).await.expect("a bus");
        let mut affected = 0;
        for _ in 0..heard {
            let answer = timeout(PATIENCE, self.answers.recv()).await;
            let answer = answer.expect("an answer in time").expect("a subscriber");
            assert_eq!(answer.id, self.orders);
            affected += answer.affected;
        }
        (heard, affected)
    }
}

fn verifier() -> Verifier {
    let keys = Keyring::secret(&Secret::from(SECRET.to_owned())).expect("a secret");
    Verifier::new(keys, Expected::default())
}

/// A client of this user, and its id.
async fn client(node: &Node, user: &str) -> (Client, String) {
    let minter = Minter::hs256(&Secret::from(SECRET.to_owned()), Expected::default()).expect("a secret");
    let hour = Duration::from_secs(3600);
    let token = minter.connection(user, &[], None, hour, SystemTime::now());
    let mut client = node.open("/connection/websocket").await;
    client.send(&json!({"id": 1, "connect": {"token": token}})).await;
    let connected = client.next().await;
    let id = connected["connect"]["client"].as_str().expect("an id").to_owned();
    (client, id)
}

fn user(user: &str) -> bus::Clients {
    bus::Clients {
        user: user.to_owned(),
        ..bus::Clients::default()
    }
}

fn one(client: &str) -> bus::Clients {
    bus::Clients {
        client: client.to_owned(),
        ..bus::Clients::default()
    }
}

fn send(data: &'static str) -> What {
    What::Send(bus::Send {
        data: data.into(),
        binary: false,
    })
}

fn disconnect(code: u32, reason: &str) -> What {
    What::Disconnect(bus::Disconnect {
        code,
        reason: reason.to_owned(),
        except: Vec::new(),
    })
}

/// Reads to the end: code and reason.
async fn closed(mut client: Client) -> (u16, String) {
    loop {
        if let Message::Close(frame) = client.message().await.expect("a close frame before the end") {
            let frame = frame.expect("a code");
            return (frame.code.into(), frame.reason.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_user_end_on_all_nodes_and_no_others() {
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    let (first, _) = client(&cluster.one, "ada").await;
    let (second, _) = client(&cluster.one, "ada").await;
    let (third, _) = client(&cluster.two, "ada").await;
    let (mut spared, id) = client(&cluster.two, "ada").await;
    let (mut other, _) = client(&cluster.two, "bob").await;

    let what = What::Disconnect(bus::Disconnect {
        code: 4001,
        reason: "banned".to_owned(),
        except: vec![id],
    });
    assert_eq!(cluster.asker.ask(user("ada"), what).await, (2, 3));
    for client in [first, second, third] {
        assert_eq!(closed(client).await, (4001, "banned".to_owned()));
    }
    for (client, name) in [(&mut spared, "ada"), (&mut other, "bob")] {
        assert_eq!(cluster.asker.ask(user(name), send("{}")).await, (2, 1));
        assert_eq!(client.next().await, json!({"push": {"message": {"data": {}}}}));
    }
    let what = disconnect(3503, "force disconnect");
    assert_eq!(cluster.asker.ask(user("bob"), what).await, (2, 1));
    assert_eq!(closed(other).await, (3503, "force disconnect".to_owned()));
    let again = cluster.asker.ask(user("bob"), disconnect(3503, "")).await;
    assert_eq!(again, (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_subscribed_and_unsubscribed_without_asking_for_it() {
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    let (mut client, id) = client(&cluster.one, "ada").await;
    let subscribe = || {
        What::Subscribe(bus::Subscribe {
            channel: "room:1".to_owned(),
            data: r#"{"hi":1}"#.into(),
            ..bus::Subscribe::default()
        })
    };
    assert_eq!(cluster.asker.ask(one(&id), subscribe()).await, (2, 1));
    let push = client.next().await;
    assert_eq!(push["push"]["channel"], "room:1");
    assert_eq!(push["push"]["subscribe"]["data"], json!({"hi": 1}));
    assert_eq!(cluster.asker.ask(one(&id), subscribe()).await, (2, 1));

    cluster.two.publish("room:1", "[1]").await;
    let push = client.next().await;
    assert_eq!(push["push"]["pub"]["data"], json!([1]), "{push}");

    let unsubscribe = |code, reason: &str| {
        What::Unsubscribe(bus::Unsubscribe {
            channel: "room:1".to_owned(),
            code,
            reason: reason.to_owned(),
        })
    };
    let what = unsubscribe(2000, "server unsubscribe");
    assert_eq!(cluster.asker.ask(user("ada"), what).await, (2, 1));
    let expected = json!({"code": 2000, "reason": "server unsubscribe"});
    assert_eq!(
        client.next().await,
        json!({"push": {"channel": "room:1", "unsubscribe": expected}})
    );
    let what = unsubscribe(2000, "");
    assert_eq!(cluster.asker.ask(user("ada"), what).await, (2, 0));

    client
        .send(&json!({"id": 2, "subscribe": {"channel": "room:1"}}))
        .await;
    assert_eq!(client.next().await["id"], 2);
    let what = unsubscribe(2501, "later");
    assert_eq!(cluster.asker.ask(one(&id), what).await, (2, 1));
    assert_eq!(client.next().await["push"]["unsubscribe"]["code"], 2501);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_good_for_as_long_as_a_backend_says() {
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    let (mut client, id) = client(&cluster.one, "ada").await;
    let refresh = |after: Option<u64>| {
        What::Refresh(bus::Refresh {
            expiry: after.map(|after_ms| bus::Expiry { after_ms }),
            info: None,
        })
    };
    assert_eq!(cluster.asker.ask(one(&id), refresh(Some(60_000))).await, (2, 1));
    assert_eq!(
        client.next().await,
        json!({"push": {"refresh": {"expires": true, "ttl": 60}}})
    );
    assert_eq!(cluster.asker.ask(one(&id), refresh(Some(0))).await, (2, 1));
    assert_eq!(closed(client).await.0, 3005);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_an_order_names_has_to_be_true_of_a_connection() {
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    let (_client, id) = client(&cluster.one, "ada").await;
    let both = |user: &str| bus::Clients {
        user: user.to_owned(),
        ..one(&id)
    };
    assert_eq!(cluster.asker.ask(both("bob"), send("1")).await, (2, 0));
    assert_eq!(cluster.asker.ask(both("ada"), send("1")).await, (2, 1));
    let session = bus::Clients {
        session: format!("0.0.{id}"),
        ..both("ada")
    };
    assert_eq!(cluster.asker.ask(session, send("1")).await, (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_reach_more_connections_than_a_core_looks_at_in_one_go() {
    const MANY: u32 = 300;
    let broker = Broker::memory();
    let node = start_on(&broker, "one", Some(verifier()), |config| {
        config.cores = std::num::NonZero::new(1);
        config.limits.connections_per_user = MANY as usize;
    });
    let mut asker = Asker::of(1, &broker).await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(client(&node, "ada").await.0);
    }
    assert_eq!(asker.ask(user("ada"), send("1")).await, (1, MANY));
    for client in &mut clients {
        assert_eq!(client.next().await, json!({"push": {"message": {"data": 1}}}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_is_left_alone() {
    let broker = Broker::memory();
    let node = start_on(&broker, "one", None, |_| {});
    let (mut asker, publisher) = (Asker::of(1, &broker).await, broker.publisher());
    for message in [&b"\xff\xff"[..], b"", b"word"] {
        let message = bytes::Bytes::copy_from_slice(message);
        assert_eq!(publisher.tell(To::All, &message).await.expect("a bus"), 1);
    }
    assert_eq!(asker.ask(user("ada"), send("1")).await, (1, 0));
    assert!(node.metric("control_in_total 5") && node.metric("control_out_total 2"));
}

/// A request of HTTP/1.1 with a JSON body, whose response may go on and on.
async fn post(node: &Node, path: &str, body: &Value) -> Stream {
    let mut socket = TcpStream::connect(node.address).await.expect("an open door");
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: tidings\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket
        .write_all(request.as_bytes())
        .await
        .expect("an open socket");
    Stream {
        socket,
        text: String::new(),
    }
}

struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    /// Reads until there is something behind `begin` up to `end`, and gives that.
    async fn between(&mut self, begin: &str, end: &str) -> String {
        loop {
            if let Some((_, rest)) = self.text.split_once(begin)
                && let Some((found, _)) = rest.split_once(end)
            {
                return found.to_owned();
            }
            let mut bytes = [0; 4096];
            let read = timeout(PATIENCE, self.socket.read(&mut bytes)).await;
            let read = read.expect("an answer in time").expect("an open socket");
            assert!(read > 0, "the answer ends: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    async fn status(&mut self) -> String {
        self.between("HTTP/1.1 ", " ").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_to_another_node_reaches_its_connection() {
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    let connect = json!({"id": 1, "connect": {}});
    let mut stream = post(&cluster.one, "/connection/http_stream", &connect).await;
    let session = stream.between("\"session\":\"", "\"").await;
    assert_eq!(stream.between("\"node\":\"", "\"").await, "one");

    let said = |node: &str, data: &str| json!({"session": session, "node": node, "data": data});
    let subscribe = json!({"id": 2, "subscribe": {"channel": "room:1"}}).to_string();
    let mut answer = post(&cluster.two, "/emulation", &said("one", &subscribe)).await;
    assert_eq!(answer.status().await, "204");
    stream.between("\"id\":2,\"subscribe\":{", "}").await;
    cluster.two.publish("room:1", "[7]").await;
    stream.between("\"data\":[7", "]").await;

    for unknown in ["three", "", "o\nne"] {
        let mut answer = post(&cluster.two, "/emulation", &said(unknown, &subscribe)).await;
        assert_eq!(answer.status().await, "404", "{unknown:?}");
    }

    let by_session = bus::Clients {
        session,
        ..bus::Clients::default()
    };
    let what = disconnect(3503, "force disconnect");
    assert_eq!(cluster.asker.ask(by_session, what).await, (2, 1));
    stream.between("\"disconnect\":{\"code\":3503", "}").await;
}
