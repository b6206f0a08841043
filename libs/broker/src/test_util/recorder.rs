//! A subscriber that remembers what the bus brought, for tests of those who say something on it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_core::{Channel, ClientId, ClientInfo};
use tokio::sync::Notify;

use crate::{Broker, Incoming, Subscriber};

/// Everything of some channels, in the order of the bus.
pub struct Recorder {
    broker: Broker,
    tape: Arc<Tape>,
    _subscriber: Subscriber,
}

#[derive(Default)]
struct Tape {
    incoming: Mutex<Vec<Incoming>>,
    more: Notify,
}

/// The channel whose members tell the recorder how far it is.
const MARKS: &str = "recorder:marks";

impl Recorder {
    /// Listens to `channels` from now on.
    ///
    /// # Panics
    /// When the bus is away, or one of them is no channel.
    pub async fn new(broker: &Broker, channels: &[&str]) -> Self {
        let tape = Arc::new(Tape::default());
        let sink = tape.clone();
        let subscriber = broker.subscriber(Arc::new(move |incoming| {
            sink.incoming.lock().push(incoming);
            sink.more.notify_one();
        }));
        for name in channels.iter().chain([&MARKS]) {
            let subscribed = subscriber.subscribe(&channel(name)).await;
            subscribed.expect("the bus can be used");
        }
        Self {
            broker: broker.clone(),
            tape,
            _subscriber: subscriber,
        }
    }

    /// Waits until there are at least `count` messages that [`heard`](Self::heard) has not given yet.
    pub async fn until(&self, count: usize) {
        while self.tape.incoming.lock().len() < count {
            self.tape.more.notified().await;
        }
    }

    /// Everything that was said until now and was not given yet. The bus keeps the order, so it is all here when a word
    /// said now is.
    ///
    /// # Panics
    /// When the bus is away.
    pub async fn heard(&self) -> Vec<Incoming> {
        let (marks, info) = (channel(MARKS), someone());
        let said = self.broker.publisher().joined(&marks, &info).await;
        said.expect("the bus can be used");
        let mark = Incoming::Join(marks, info);
        loop {
            {
                let mut incoming = self.tape.incoming.lock();
                if let Some(at) = incoming.iter().position(|one| *one == mark) {
                    let rest = incoming.split_off(at + 1);
                    let mut heard = std::mem::replace(&mut *incoming, rest);
                    heard.pop();
                    return heard;
                }
            }
            self.tape.more.notified().await;
        }
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("a test names channels")
}

fn someone() -> ClientInfo {
    ClientInfo {
        user: "".into(),
        client: ClientId::random(),
        conn_info: Bytes::new(),
        chan_info: Bytes::new(),
    }
}
