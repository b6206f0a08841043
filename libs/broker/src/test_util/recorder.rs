//! A subscriber that remembers what the bus brought, for tests of those who say something on it.

use std::{collections::HashSet, mem, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_core::{Channel, ClientId, ClientInfo};
use tokio::sync::Notify;

use crate::{Broker, Incoming, Subscriber};

/// Everything of some channels, in the order of the bus.
pub struct Recorder {
    broker: Broker,
    channels: Vec<Channel>,
    tape: Arc<Tape>,
    _subscriber: Subscriber,
}

#[derive(Default)]
struct Tape {
    incoming: Mutex<Vec<Incoming>>,
    more: Notify,
}

/// The user whose joins tell recorders how far they are. Nobody is told of them.
const MARK: &str = "recorder:mark";

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
        let channels: Vec<_> = channels.iter().map(|name| channel(name)).collect();
        for channel in &channels {
            let subscribed = subscriber.subscribe(channel).await;
            subscribed.expect("the bus can be used");
        }
        Self {
            broker: broker.clone(),
            channels,
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

    /// Everything that was said until now and was not given yet. The bus keeps the order of each channel, so what was said
    /// in one is all here when a word said there now is.
    ///
    /// # Panics
    /// When the bus is away.
    pub async fn heard(&self) -> Vec<Incoming> {
        let info = mark();
        let mut marks = Vec::new();
        for channel in &self.channels {
            let said = self.broker.publisher().joined(channel, &info).await;
            said.expect("the bus can be used");
            marks.push(Incoming::Join(channel.clone(), info.clone()));
        }
        loop {
            {
                let mut incoming = self.tape.incoming.lock();
                if marks.iter().all(|mark| incoming.contains(mark)) {
                    return split(&mut incoming, &marks);
                }
            }
            self.tape.more.notified().await;
        }
    }
}

/// Takes out what was said in each channel before its mark.
fn split(incoming: &mut Vec<Incoming>, marks: &[Incoming]) -> Vec<Incoming> {
    let (mut heard, mut rest, mut passed) = (Vec::new(), Vec::new(), HashSet::new());
    for one in mem::take(incoming) {
        if marks.contains(&one) {
            passed.extend(place(&one).cloned());
        } else if place(&one).is_some_and(|channel| passed.contains(channel)) {
            rest.push(one);
        } else {
            heard.push(one);
        }
    }
    *incoming = rest;
    let is_mark = |one: &Incoming| matches!(one, Incoming::Join(_, info) if &*info.user == MARK);
    heard.retain(|one| !is_mark(one));
    heard
}

/// The channel in which something was said.
fn place(incoming: &Incoming) -> Option<&Channel> {
    match incoming {
        Incoming::Publication(channel, _) | Incoming::Join(channel, _) | Incoming::Leave(channel, _) => {
            Some(channel)
        }
        Incoming::Control(_) | Incoming::Gap => None,
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("a test names channels")
}

fn mark() -> ClientInfo {
    ClientInfo {
        user: MARK.into(),
        client: ClientId::random(),
        conn_info: Bytes::new(),
        chan_info: Bytes::new(),
    }
}
