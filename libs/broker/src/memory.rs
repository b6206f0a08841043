//! The bus of a single process: a publication is handed to every sink that wants it before publishing returns.
//!
//! One lock guards who wants what, and is held while sinks are called. That makes both promises plain: all sinks see
//! one order, and unsubscribing waits for deliveries under way. It cannot deadlock, because a sink only hands
//! on and never calls the broker (see [`Sink`]).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tidings_core::Channel;
use tokio::sync::watch;

use crate::{Incoming, Sink, Status};

/// Who in this process wants what.
pub(crate) struct Bus {
    members: Mutex<HashMap<Channel, Vec<Member>>>,
    next_id: AtomicU64,
    status: watch::Sender<Status>,
}

struct Member {
    id: u64,
    sink: Arc<dyn Sink>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            members: Mutex::default(),
            next_id: AtomicU64::default(),
            status: watch::Sender::new(Status::Up),
        }
    }
}

impl Bus {
    /// Hands `incoming` to all that want `channel`.
    pub(crate) fn send(&self, channel: &Channel, incoming: Incoming) {
        let channels = self.members.lock();
        let Some((last, others)) = channels.get(channel).and_then(|members| members.split_last()) else {
            return;
        };
        for member in others {
            member.sink.incoming(incoming.clone());
        }
        last.sink.incoming(incoming);
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
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

    pub(crate) fn subscribe(&self, channel: &Channel) {
        let mut channels = self.bus.members.lock();
        let members = channels.entry(channel.clone()).or_default();
        if members.iter().all(|member| member.id != self.id) {
            members.push(Member {
                id: self.id,
                sink: self.sink.clone(),
            });
        }
    }

    pub(crate) fn unsubscribe(&self, channel: &Channel) {
        let mut channels = self.bus.members.lock();
        if let Some(members) = channels.get_mut(channel) {
            members.retain(|member| member.id != self.id);
            if members.is_empty() {
                channels.remove(channel);
            }
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        // `self.sink` outlives the lock, so no sink is dropped, and nothing that it owns, while the lock is held.
        self.bus.members.lock().retain(|_, members| {
            members.retain(|member| member.id != self.id);
            !members.is_empty()
        });
    }
}
