//! A door on a free port, and ears on its bus.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use prometheus_client::registry::Registry;
use tidings_auth::keys;
use tidings_broker::{Broker, Incoming, Subscriber};
use tidings_core::{Channel, Namespaces, Publication};
use tidings_fanout::{Config, Deps, Fanout, Payload, Route, routing::live::Live};
use tidings_proto::fanout as proto;
use tidings_runtime::Shutdown;
use tokio::sync::mpsc;
use tonic::{Request, Status, transport};

/// Far longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) shutdown: Shutdown,
    pub(crate) routes: Live,
    subscriber: Subscriber,
    heard: mpsc::Receiver<(Channel, Publication)>,
}

impl Door {
    pub(crate) fn open(config: &Config, routes: &[Route]) -> Self {
        Self::open_with(open_to_all(&Broker::memory()), config, routes)
    }

    pub(crate) fn open_with(deps: Deps, config: &Config, routes: &[Route]) -> Self {
        let (sink, heard) = mpsc::channel(100);
        let subscriber = deps.broker.subscriber(Arc::new(move |incoming| {
            if let Incoming::Publication(channel, publication) = incoming {
                sink.try_send((channel, publication)).expect("the test listens");
            }
        }));
        let mut registry = Registry::with_prefix("tidings");
        let fanout = Fanout::bind(config, routes, deps, &mut registry).expect("a good configuration");
        let (address, shutdown) = (fanout.local_addr(), Shutdown::new());
        let routes = fanout.routes();
        drop(shutdown.spawn(fanout.run(shutdown.clone())));
        Self {
            address,
            registry,
            shutdown,
            routes,
            subscriber,
            heard,
        }
    }

    pub(crate) async fn listen(&self, channels: &[&str]) {
        for name in channels {
            let channel = Channel::parse(name).unwrap();
            self.subscriber.subscribe(&channel).await.unwrap();
        }
    }

    /// What was published before this call, in order. The embedded broker hands on before it acknowledges.
    pub(crate) fn heard(&mut self) -> Vec<(String, Publication)> {
        std::iter::from_fn(|| self.heard.try_recv().ok())
            .map(|(channel, publication)| (channel.to_string(), publication))
            .collect()
    }

    pub(crate) async fn channel(&self) -> transport::Channel {
        let endpoint = transport::Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.timeout(PATIENCE).connect().await.unwrap()
    }

    pub(crate) async fn publish(&self, event: proto::Event) -> Result<proto::PublishResponse, Status> {
        self.publish_with(event, &[]).await
    }

    pub(crate) async fn publish_with(
        &self,
        event: proto::Event,
        metadata: &[(&'static str, &'static str)],
    ) -> Result<proto::PublishResponse, Status> {
        let mut client = proto::fanout_client::FanoutClient::new(self.channel().await);
        let request = with(proto::PublishRequest { event: Some(event) }, metadata);
        client.publish(request).await.map(tonic::Response::into_inner)
    }

    /// The answer to a plain HTTP/1.1 request: head and body.
    pub(crate) async fn http(&self, request_line: &str) -> String {
        let (address, request) = (
            self.address,
            format!("{request_line} HTTP/1.1\r\nhost: tidings\r\nconnection: close\r\n\r\n"),
        );
        let ask = move || {
            let mut socket = TcpStream::connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.write_all(request.as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// A request with metadata.
pub(crate) fn with<T>(message: T, metadata: &[(&'static str, &'static str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// Channels of any name, with a short history; presence is not known.
pub(crate) fn open_to_all(broker: &Broker) -> Deps {
    Deps {
        node: "test".to_owned(),
        broker: broker.clone(),
        namespaces: Namespaces::default().with_undeclared_open(),
        presence: None,
    }
}

/// A door that anyone may use.
pub(crate) fn insecure() -> Config {
    Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        insecure: true,
        ..Config::default()
    }
}

/// A door with one key, `secret-key`, named `tasks`.
pub(crate) fn keyed(events: Option<&[&str]>, channels: Option<&[&str]>) -> Config {
    let owned = |list: Option<&[&str]>| list.map(|list| list.iter().map(|&glob| glob.to_owned()).collect());
    let key = keys::Config {
        name: "tasks".to_owned(),
        key: Some("secret-key".to_owned().into()),
        events: owned(events),
        channels: owned(channels),
        ..keys::Config::default()
    };
    Config {
        insecure: false,
        key: vec![key],
        ..insecure()
    }
}

pub(crate) fn route(event: &str, channels: &[&str], payload: Payload) -> Route {
    Route {
        event: event.to_owned(),
        channels: channels.iter().map(|&template| template.to_owned()).collect(),
        payload,
        ..Route::default()
    }
}

/// A `task.created` with explicit channels.
pub(crate) fn event(channels: &[&str]) -> proto::Event {
    proto::Event {
        id: "e1".to_owned(),
        r#type: "task.created".to_owned(),
        data: "{\"id\": 1}".into(),
        channels: channels.iter().map(|&name| name.to_owned()).collect(),
        ..proto::Event::default()
    }
}
