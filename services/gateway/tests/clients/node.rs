//! A gateway under test, and a client to look at it with.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tidings_auth::token::Verifier;
use tidings_broker::{Broker, Publisher};
use tidings_core::{Channel, Format, Namespaces, Publication};
use tidings_gateway::{Config, Counter, Deps, Gateway, presence::Members};
use tidings_runtime::{Health, Shutdown};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) publisher: Publisher,
    pub(crate) counter: Counter,
    pub(crate) registry: Registry,
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: tokio::task::JoinHandle<Option<()>>,
}

/// An open gateway on a free port, whose presence is away.
pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Node {
    start_with(None, change)
}

pub(crate) fn start_with(verifier: Option<Verifier>, change: impl FnOnce(&mut Config)) -> Node {
    start_on(&Broker::memory(), "test", verifier, change)
}

/// The same on a bus, under a name.
pub(crate) fn start_on(
    broker: &Broker,
    name: &str,
    verifier: Option<Verifier>,
    change: impl FnOnce(&mut Config),
) -> Node {
    let open = Namespaces::default().with_undeclared_open();
    start_whole(broker, name, open, verifier, change)
}

/// The same with these namespaces and no others.
pub(crate) fn start_in(
    namespaces: Namespaces,
    verifier: Option<Verifier>,
    change: impl FnOnce(&mut Config),
) -> Node {
    start_whole(&Broker::memory(), "test", namespaces, verifier, change)
}

/// An open gateway on a bus, with these namespaces and no others.
pub(crate) fn start_in_on(broker: &Broker, namespaces: Namespaces, change: impl FnOnce(&mut Config)) -> Node {
    start_whole(broker, "test", namespaces, None, change)
}

fn start_whole(
    broker: &Broker,
    name: &str,
    namespaces: Namespaces,
    verifier: Option<Verifier>,
    change: impl FnOnce(&mut Config),
) -> Node {
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        allow_anonymous: true,
        insecure: true,
        ..Config::default()
    };
    change(&mut config);
    config.check().expect("a valid configuration");
    let (shutdown, mut registry) = (Shutdown::new(), Registry::default());
    let nowhere = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let health = Health::new();
    let presence = health.component("presence");
    let members = Members::start(
        "test".into(),
        nowhere,
        Duration::from_secs(10),
        &shutdown,
        presence,
    );
    let deps = Deps {
        node: name.into(),
        broker: broker.clone(),
        namespaces,
        subscription_verifier: verifier.clone(),
        verifier,
        members,
        streams: health.component("streams"),
        drain_over: Duration::ZERO,
        shutdown: shutdown.clone(),
    };
    let gateway = Gateway::bind(&config, deps, &mut registry).expect("a free port");
    Node {
        address: gateway.local_addr().expect("bound"),
        publisher: broker.publisher(),
        counter: gateway.counter(),
        registry,
        health,
        running: shutdown.spawn(gateway.run()),
        shutdown,
    }
}

impl Node {
    pub(crate) async fn client(&self) -> Client {
        let mut client = self.open("/connection/websocket").await;
        client.send(&json!({"id": 1, "connect": {}})).await;
        assert_eq!(client.next().await["connect"]["ping"], 25);
        client
    }

    pub(crate) async fn subscriber(&self, channel: &str) -> Client {
        let mut client = self.client().await;
        client
            .send(&json!({"id": 2, "subscribe": {"channel": channel}}))
            .await;
        assert_eq!(client.next().await, json!({"id": 2, "subscribe": {}}));
        client
    }

    pub(crate) async fn open(&self, path: &str) -> Client {
        let (socket, _) = connect_async(format!("ws://{}{path}", self.address))
            .await
            .expect("a handshake");
        Client { socket }
    }

    pub(crate) async fn publish(&self, channel: &str, data: &str) {
        self.publish_as(channel, data, Format::Json).await;
    }

    pub(crate) async fn publish_as(&self, channel: &str, data: &str, format: Format) {
        let publication = Publication::new(data.to_owned().into(), format, std::time::SystemTime::now());
        let channel = Channel::parse(channel).expect("a channel name");
        for result in self.publisher.publish(&[channel.into()], &publication).await {
            result.expect("the embedded broker is never away");
        }
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("metrics");
        text.lines().any(|there| there == line)
    }

    /// Waits until the gateway holds nothing of clients that have gone.
    pub(crate) async fn is_empty(&self) {
        tokio::time::timeout(PATIENCE, async {
            while self.counter.count().await.connections > 0
                || !self.metric("connections 0")
                || !self.metric("subscriptions 0")
            {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("connections and subscriptions are given back");
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn send(&mut self, command: &Value) {
        self.say(command.to_string()).await;
    }

    pub(crate) async fn say(&mut self, text: impl Into<String>) {
        self.socket
            .send(Message::text(text.into()))
            .await
            .expect("an open socket");
    }

    pub(crate) async fn message(&mut self) -> Result<Message, Error> {
        tokio::time::timeout(PATIENCE, self.socket.next())
            .await
            .expect("an answer in time")
            .expect("a message")
    }

    pub(crate) async fn text(&mut self) -> String {
        self.message()
            .await
            .expect("a message")
            .into_text()
            .expect("text")
            .to_string()
    }

    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    /// Reads to the end; the code of the close frame.
    pub(crate) async fn close_code(mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await.expect("a close frame before the end") {
                return frame.expect("a code").code.into();
            }
        }
    }
}
