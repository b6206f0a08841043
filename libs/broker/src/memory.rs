//! The bus of a single process: a publication is handed to every sink that wants it before publishing returns.
//!
//! One lock guards who wants what and what is kept, and is held while sinks are called. That makes the promises plain:
//! all sinks see one order, which is that of the offsets, and unsubscribing waits for deliveries under way. It cannot
//! deadlock, because a sink only hands on and never calls the broker (see [`Sink`]).

mod expiring;
mod store;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_core::{Channel, Position, Publication, Retention};
use tokio::{sync::watch, time::Instant};

use self::store::Store;
use crate::{History, Incoming, Published, Query, Sink, Status, Target, To, topic::Topic};

/// Who in this process wants what, and what is kept for who comes late.
pub(crate) struct Bus {
    state: Mutex<State>,
    next_id: AtomicU64,
    status: watch::Sender<Status>,
}

#[derive(Default)]
struct State {
    members: HashMap<Topic, Vec<Member>>,
    store: Store,
}

struct Member {
    id: u64,
    sink: Arc<dyn Sink>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            next_id: AtomicU64::default(),
            status: watch::Sender::new(Status::Up),
        }
    }
}

impl Bus {
    pub(crate) fn publish(&self, target: &Target, publication: &Publication) -> Published {
        let mut state = self.state.lock();
        let published = state.store.publish(target, publication, Instant::now());
        if !published.duplicate {
            let publication = Publication {
                position: published.position.clone(),
                ..publication.clone()
            };
            let channel = target.channel.clone();
            state.send(
                &(&target.channel).into(),
                Incoming::Publication(channel, publication),
            );
        }
        published
    }

    /// Hands `incoming` to all that want `channel`.
    pub(crate) fn send(&self, channel: &Channel, incoming: Incoming) {
        self.state.lock().send(&channel.into(), incoming);
    }

    /// Tells who listens; how many that are.
    pub(crate) fn tell(&self, to: To<'_>, message: Bytes) -> u64 {
        self.state.lock().send(&to.into(), Incoming::Control(message))
    }

    pub(crate) fn read(&self, channel: &Channel, retention: Retention, query: Query) -> History {
        let mut state = self.state.lock();
        state.store.read(channel, retention, query, Instant::now())
    }

    pub(crate) fn position(&self, channel: &Channel) -> Position {
        self.state.lock().store.position(channel, Instant::now())
    }

    pub(crate) fn remove(&self, channel: &Channel) {
        self.state.lock().store.remove(channel, Instant::now());
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl State {
    /// How many it was handed to.
    fn send(&self, topic: &Topic, incoming: Incoming) -> u64 {
        let members = self.members.get(topic);
        let Some((last, others)) = members.and_then(|members| members.split_last()) else {
            return 0;
        };
        for member in others {
            member.sink.incoming(incoming.clone());
        }
        last.sink.incoming(incoming);
        others.len() as u64 + 1
    }
}

/// What one subscriber wants; dropping it ends that.
pub(crate) struct Interest {
    bus: Arc<Bus>,
    id: u64,
    sink: Arc<dyn Sink>,
}

impl Interest {
    pub(crate) fn new(bus: Arc<Bus>, sink: Arc<dyn Sink>) -> Self {
        let id = bus.next_id.fetch_add(1, Ordering::Relaxed);
        Self { bus, id, sink }
    }

    pub(crate) fn want(&self, topic: Topic) {
        let mut state = self.bus.state.lock();
        let members = state.members.entry(topic).or_default();
        if members.iter().all(|member| member.id != self.id) {
            members.push(Member {
                id: self.id,
                sink: self.sink.clone(),
            });
        }
    }

    pub(crate) fn release(&self, topic: &Topic) {
        let mut state = self.bus.state.lock();
        if let Some(members) = state.members.get_mut(topic) {
            members.retain(|member| member.id != self.id);
            if members.is_empty() {
                state.members.remove(topic);
            }
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        // `self.sink` outlives the lock, so no sink is dropped, and nothing that it owns, while the lock is held.
        self.bus.state.lock().members.retain(|_, members| {
            members.retain(|member| member.id != self.id);
            !members.is_empty()
        });
    }
}
