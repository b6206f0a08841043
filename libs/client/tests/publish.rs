//! The client against a real backends' door.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use prometheus_client::registry::Registry;
use tidings_auth::keys;
use tidings_broker::{Broker, Incoming, Subscriber};
use tidings_client::{Client, Error, Event};
use tidings_core::{Channel, Namespaces};
use tidings_fanout::{Config, Deps, Fanout, Route};
use tidings_runtime::{Shutdown, serve::tls, test_util::Authority};
use tokio::sync::mpsc;
use tonic::Code;

struct Door {
    address: SocketAddr,
    shutdown: Shutdown,
    heard: mpsc::Receiver<String>,
    _subscriber: Subscriber,
}

impl Door {
    async fn open(address: SocketAddr) -> Self {
        Self::open_as(Config {
            listen: address,
            insecure: true,
            ..Config::default()
        })
        .await
    }

    async fn open_as(config: Config) -> Self {
        let broker = Broker::memory();
        let (sink, heard) = mpsc::channel(2000);
        let subscriber = broker.subscriber(Arc::new(move |incoming| {
            if let Incoming::Publication(_, publication) = incoming {
                sink.try_send(publication.id).unwrap();
            }
        }));
        subscriber
            .subscribe(&Channel::parse("tasks").unwrap())
            .await
            .unwrap();
        let deps = Deps {
            node: "test".to_owned(),
            broker,
            namespaces: Namespaces::default().with_undeclared_open(),
            presence: None,
        };
        let routes = [Route {
            event: "task.*".to_owned(),
            channels: vec!["tasks".to_owned()],
            ..Route::default()
        }];
        let fanout = Fanout::bind(&config, &routes, deps, &mut Registry::default()).unwrap();
        let (address, shutdown) = (fanout.local_addr(), Shutdown::new());
        drop(shutdown.spawn(fanout.run(shutdown.clone())));
        Self {
            address,
            shutdown,
            heard,
            _subscriber: subscriber,
        }
    }

    async fn anywhere() -> Self {
        Self::open(([127, 0, 0, 1], 0).into()).await
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address)).unwrap()
    }

    fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

fn task(number: usize) -> Event {
    Event::new("task.created")
        .id(format!("e{number}"))
        .source("tests")
        .json(&serde_json::json!({ "id": number }))
        .unwrap()
}

#[tokio::test]
async fn an_event_is_published_and_a_repeat_is_known() {
    let mut door = Door::anywhere().await;
    let client = door.client();
    let published = client.publish(task(1)).await.unwrap();
    assert_eq!((published.id.as_str(), published.duplicate), ("e1", false));
    assert_eq!(published.channels[0].name, "tasks");
    assert!(client.publish(task(1)).await.unwrap().duplicate);
    assert_eq!(door.heard(), ["e1"]);
}

#[tokio::test]
async fn batches_of_any_length_and_streams_are_answered_in_order() {
    let mut door = Door::anywhere().await;
    let client = door.client();
    let mut events: Vec<_> = (0..1200).map(task).collect();
    events[700] = Event::new("").id("e700");
    let published = client.publish_batch(events).await.unwrap();
    for (number, published) in published.into_iter().enumerate() {
        match published {
            Ok(published) => assert_eq!(published.id, format!("e{number}")),
            Err(Error::Refused {
                code: Code::InvalidArgument,
                ..
            }) => assert_eq!(number, 700),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(door.heard().len(), 1199);

    let answers = client
        .publish_stream(stream::iter((2000..2600).map(task)))
        .await
        .unwrap();
    let ids: Vec<_> = answers.map(|answer| answer.unwrap().id).collect().await;
    assert_eq!(
        ids,
        (2000..2600)
            .map(|number| format!("e{number}"))
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_publish_is_tried_again_until_a_node_is_there() {
    let door = Door::anywhere().await;
    let address = door.address;
    door.shutdown.request();
    door.shutdown.wait().await;
    drop(door);
    let client = Client::new(&format!("http://{address}")).unwrap();
    let late = async {
        // Long enough for a first try to fail.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Door::open(address).await
    };
    let (published, mut door) = tokio::join!(client.publish(task(1)), late);
    assert_eq!(published.unwrap().id, "e1");
    assert_eq!(door.heard(), ["e1"]);
}

#[tokio::test]
async fn what_cannot_get_better_is_said_at_once() {
    let door = Door::anywhere().await;
    let Err(Error::Call(status)) = door.client().publish(Event::new("task created")).await else {
        panic!("a type has no white space");
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    for url in ["", "localhost:9000", "ws://localhost", "/"] {
        assert!(matches!(Client::new(url), Err(Error::Url { .. })), "{url}");
    }
    assert!(matches!(door.client().with_key("a\nb"), Err(Error::Key)));
}

#[tokio::test]
async fn a_door_with_tls_is_reached_with_its_authority_and_a_certificate_in_place_of_a_key() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let own = ours.sign("door", "localhost");
    let door = Door::open_as(Config {
        listen: ([127, 0, 0, 1], 0).into(),
        key: vec![keys::Config {
            name: "tasks".to_owned(),
            certificate: Some("tasks.internal".to_owned()),
            ..keys::Config::default()
        }],
        tls: Some(tls::Config {
            certificate_file: own.certificate_file,
            key_file: own.key_file,
            client_ca_file: Some(clients.file()),
        }),
        ..Config::default()
    });
    let mut door = door.await;
    let url = format!("https://localhost:{}", door.address.port());
    let shown = clients.sign("tasks", "tasks.internal");
    let client = Client::new(&url)
        .and_then(|client| client.with_authority(&ours.pem))
        .and_then(|client| client.with_certificate(&shown.certificate, &shown.key))
        .unwrap();
    assert_eq!(client.publish(task(1)).await.unwrap().id, "e1");
    assert_eq!(door.heard(), ["e1"]);

    let brief = Duration::from_millis(200);
    let stranger = Client::new(&url).unwrap().with_deadline(brief);
    assert!(
        stranger.publish(task(2)).await.is_err(),
        "the system does not know the authority"
    );
    let silent = Client::new(&url)
        .and_then(|client| client.with_authority(&ours.pem))
        .unwrap();
    assert!(silent.with_deadline(brief).publish(task(3)).await.is_err());
    assert_eq!(door.heard(), Vec::<String>::new());

    let clear = Client::new("http://localhost:1").unwrap();
    assert!(matches!(
        clear.with_authority(&ours.pem),
        Err(Error::Clear { .. })
    ));
    let garbage = Client::new(&url).unwrap().with_certificate("no", "PEM");
    assert!(matches!(garbage, Err(Error::Tls(_))));
}
