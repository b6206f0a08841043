//! What the tests of the broker share: a subscriber that remembers what it heard.

use std::{sync::Arc, time::Duration, time::SystemTime};

use bytes::Bytes;
use tidings_broker::{Broker, Incoming, Publisher, Subscriber};
use tidings_core::{Channel, Format, Position, Publication};
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::timeout,
};

/// Long enough for anything that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A subscriber and all that its sink got.
pub(crate) struct Listener {
    pub(crate) subscriber: Subscriber,
    heard: mpsc::Receiver<Incoming>,
}

impl Listener {
    pub(crate) fn new(broker: &Broker) -> Self {
        let (sink, heard) = mpsc::channel(100_000);
        let sink = move |incoming| sink.try_send(incoming).expect("more was heard than a test sends");
        Self {
            subscriber: broker.subscriber(Arc::new(sink)),
            heard,
        }
    }

    pub(crate) async fn subscribe(&self, name: &str) {
        self.subscriber.subscribe(&channel(name)).await.unwrap();
    }

    pub(crate) async fn unsubscribe(&self, name: &str) {
        self.subscriber.unsubscribe(&channel(name)).await.unwrap();
    }

    /// The next message, whatever it is.
    pub(crate) async fn next(&mut self) -> Incoming {
        let incoming = timeout(PATIENCE, self.heard.recv()).await;
        incoming.expect("nothing was heard").expect("the sink is gone")
    }

    /// The next message, which has to be a publication: its channel and its data as text.
    pub(crate) async fn hear(&mut self) -> (String, String) {
        match self.next().await {
            Incoming::Publication(channel, publication) => (
                channel.to_string(),
                String::from_utf8(publication.data.to_vec()).unwrap(),
            ),
            other => panic!("heard {other:?} instead of a publication"),
        }
    }

    /// The next message, which has to be a publication that is kept: its channel and its position.
    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) async fn hear_position(&mut self) -> (String, Position) {
        match self.next().await {
            Incoming::Publication(
                channel,
                Publication {
                    position: Some(position),
                    ..
                },
            ) => (channel.to_string(), position),
            other => panic!("heard {other:?} instead of a publication with a position"),
        }
    }

    /// What was heard already.
    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) fn drain(&mut self) -> Vec<Incoming> {
        let mut drained = Vec::new();
        loop {
            match self.heard.try_recv() {
                Ok(incoming) => drained.push(incoming),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return drained,
            }
        }
    }

    /// Asserts that nothing is under way to this listener. One publisher's publications arrive in the order in which
    /// they were sent, so what is heard first after a last one tells.
    pub(crate) async fn assert_silent(&mut self, publisher: &Publisher) {
        self.subscribe("the:end").await;
        publish(publisher, "the:end", "end").await;
        assert_eq!(self.hear().await, ("the:end".to_owned(), "end".to_owned()));
        self.unsubscribe("the:end").await;
    }
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

pub(crate) fn publication(data: &str) -> Publication {
    Publication::new(
        Bytes::copy_from_slice(data.as_bytes()),
        Format::Json,
        SystemTime::UNIX_EPOCH,
    )
}

/// Publishes and expects that it worked.
pub(crate) async fn publish(publisher: &Publisher, name: &str, data: &str) {
    let results = publisher
        .publish(&[channel(name).into()], &publication(data))
        .await;
    assert_eq!(results.len(), 1);
    results[0].as_ref().unwrap();
}

/// Waits until `condition` is true.
pub(crate) async fn eventually(condition: impl AsyncFn() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, poll)
        .await
        .expect("the condition never came true");
}
