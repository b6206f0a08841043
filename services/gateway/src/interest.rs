//! Which cores, and so which bus channels, want what.
//!
//! The first core that wants a channel makes the node subscribe on the bus; the others find it subscribed. When the
//! last has gone the bus is told so only after a while: a page that is reloaded comes back.

use std::{
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::BuildHasher,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use tidings_broker::Subscriber;
use tidings_core::Channel;
use tidings_protocol::Error;
use tidings_runtime::Shutdown;
use tokio::time::Instant;

use crate::{
    inbox::{Inbox, Letter},
    shrink::Shrink,
};

/// The most cores that a node can have: one bit each.
pub(crate) const MOST_CORES: usize = 64;

/// How long the bus keeps a channel that nobody wants.
const LINGER: Duration = Duration::from_secs(2);

/// How many locks the table is spread over, so that no publication waits for another channel's subscribe.
const SHARDS: usize = 64;

/// The table: channel to cores. Read once per publication and node, written when a core's interest begins or ends.
pub(crate) struct Table {
    shards: Vec<RwLock<HashMap<Channel, Entry>>>,
    hasher: std::collections::hash_map::RandomState,
}

struct Entry {
    cores: Cores,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A task is telling the bus; it tells the cores when the bus has answered.
    Settling,
    /// The bus has confirmed. Without cores: since when nobody wants it.
    Held { unwanted_since: Option<Instant> },
}

/// A set of cores.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores(u64);

impl Cores {
    fn insert(&mut self, core: usize) {
        self.0 |= 1 << core;
    }

    fn remove(&mut self, core: usize) {
        self.0 &= !(1 << core);
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let core = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(core)
        })
    }
}

impl Table {
    pub(crate) fn new() -> Self {
        let shards = std::iter::repeat_with(RwLock::default).take(SHARDS).collect();
        Self {
            shards,
            hasher: std::collections::hash_map::RandomState::new(),
        }
    }

    /// The cores that want a channel.
    pub(crate) fn cores(&self, channel: &Channel) -> Cores {
        self.shard(channel)
            .read()
            .get(channel)
            .map(|entry| entry.cores)
            .unwrap_or_default()
    }

    /// How many channels are wanted.
    pub(crate) fn wanted(&self) -> usize {
        let count = |shard: &RwLock<HashMap<_, Entry>>| {
            let shard = shard.read();
            shard.values().filter(|entry| !entry.cores.is_empty()).count()
        };
        self.shards.iter().map(count).sum()
    }

    /// The first `limit` of the wanted channels that are `asked` for, by name, and whether there are others. Takes time for
    /// every channel that there is, and holds up changes of a few of them meanwhile.
    pub(crate) fn first(&self, limit: usize, asked: impl Fn(&Channel) -> bool) -> (Arc<[Channel]>, bool) {
        // The last of them is on top.
        let (mut first, mut more) = (BinaryHeap::new(), false);
        for shard in &self.shards {
            for (channel, entry) in &*shard.read() {
                let late = first.len() == limit && first.peek().is_some_and(|last| last < channel);
                if entry.cores.is_empty() || (late && more) || !asked(channel) {
                    continue;
                }
                if late {
                    more = true;
                    continue;
                }
                first.push(channel.clone());
                if first.len() > limit {
                    more = true;
                    first.pop();
                }
            }
        }
        (first.into_sorted_vec().into(), more)
    }

    fn shard(&self, channel: &Channel) -> &RwLock<HashMap<Channel, Entry>> {
        let hash = self.hasher.hash_one(channel);
        let shards = self.shards.len() as u64;
        &self.shards[usize::try_from(hash % shards).unwrap_or_default()]
    }
}

/// Keeps the bus in step with the table. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Interest(Arc<Inner>);

struct Inner {
    table: Arc<Table>,
    subscriber: Subscriber,
    inboxes: Vec<Arc<Inbox>>,
    runtime: tokio::runtime::Handle,
    shutdown: Shutdown,
    unwanted: parking_lot::Mutex<VecDeque<(Instant, Channel)>>,
}

/// When a core may tell its clients that they are subscribed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Now: the bus has confirmed the channel before.
    Held,
    /// When [`Letter::Interest`] comes.
    Asked,
}

impl Interest {
    /// Must be called inside the multi-thread runtime, where the bus is told.
    pub(crate) fn new(
        table: Arc<Table>,
        subscriber: Subscriber,
        inboxes: Vec<Arc<Inbox>>,
        shutdown: &Shutdown,
    ) -> Self {
        let interest = Self(Arc::new(Inner {
            table,
            subscriber,
            inboxes,
            runtime: tokio::runtime::Handle::current(),
            shutdown: shutdown.clone(),
            unwanted: parking_lot::Mutex::default(),
        }));
        let (sweeper, stop) = (interest.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let mut tick = tokio::time::interval(LINGER / 4);
            loop {
                tokio::select! {
                    () = stop.requested() => return,
                    _ = tick.tick() => sweeper.let_go(Instant::now()),
                }
            }
        });
        interest
    }

    /// A core wants a channel.
    pub(crate) fn want(&self, core: usize, channel: &Channel) -> Wanted {
        let mut shard = self.0.table.shard(channel).write();
        if let Some(entry) = shard.get_mut(channel) {
            entry.cores.insert(core);
            return match entry.state {
                State::Settling => Wanted::Asked,
                State::Held { .. } => {
                    entry.state = State::Held { unwanted_since: None };
                    Wanted::Held
                }
            };
        }
        let mut cores = Cores::default();
        cores.insert(core);
        shard.insert(
            channel.clone(),
            Entry {
                cores,
                state: State::Settling,
            },
        );
        drop(shard);
        self.spawn_settle(channel.clone());
        Wanted::Asked
    }

    /// A core wants a channel no more.
    pub(crate) fn release(&self, core: usize, channel: &Channel) {
        let mut shard = self.0.table.shard(channel).write();
        let Some(entry) = shard.get_mut(channel) else {
            return;
        };
        entry.cores.remove(core);
        if entry.cores.is_empty()
            && let State::Held {
                unwanted_since: since @ None,
            } = &mut entry.state
        {
            let now = Instant::now();
            *since = Some(now);
            drop(shard);
            self.0.unwanted.lock().push_back((now, channel.clone()));
        }
    }

    /// Tells the bus about channels that nobody has wanted for a while.
    fn let_go(&self, now: Instant) {
        loop {
            let channel = {
                let mut unwanted = self.0.unwanted.lock();
                match unwanted.front() {
                    Some((since, _)) if *since + LINGER <= now => {
                        let channel = unwanted.pop_front();
                        unwanted.shrink();
                        channel
                    }
                    _ => return,
                }
            };
            let Some((since, channel)) = channel else { return };
            let mut shard = self.0.table.shard(&channel).write();
            // Wanted again since, or even let go and wanted anew: then another line in the queue stands for it.
            let Some(entry) = shard.get_mut(&channel) else {
                continue;
            };
            if entry.state
                != (State::Held {
                    unwanted_since: Some(since),
                })
            {
                continue;
            }
            entry.state = State::Settling;
            drop(shard);
            self.spawn_settle(channel);
        }
    }

    fn spawn_settle(&self, channel: Channel) {
        let (interest, _guard) = (self.clone(), self.0.runtime.enter());
        self.0
            .shutdown
            .spawn(async move { interest.settle(channel).await });
    }

    /// Brings the bus in step with what the cores want, until both agree. One task per channel at a time, so that
    /// subscribing and unsubscribing never overtake each other.
    async fn settle(&self, channel: Channel) {
        loop {
            if self.0.table.cores(&channel).is_empty() {
                // A failure leaves the bus with a channel too many, which costs it something and breaks nothing.
                let _ = self.0.subscriber.unsubscribe(&channel).await;
                let mut shard = self.0.table.shard(&channel).write();
                if shard.get(&channel).is_none_or(|entry| entry.cores.is_empty()) {
                    shard.remove(&channel);
                    shard.shrink();
                    return;
                }
            } else {
                let result = self.subscribe(&channel).await;
                let mut shard = self.0.table.shard(&channel).write();
                let Some(entry) = shard.get_mut(&channel) else {
                    return;
                };
                if entry.cores.is_empty() {
                    continue;
                }
                let cores = entry.cores;
                match &result {
                    Ok(()) => entry.state = State::Held { unwanted_since: None },
                    Err(_) => drop(shard.remove(&channel)),
                }
                // Under the lock: a publication that comes after it finds the letter before it in the inbox.
                for core in cores.iter() {
                    self.0.inboxes[core].put(Letter::Interest(channel.clone(), result.clone()));
                }
                return;
            }
        }
    }

    /// While the bus is away the node's own clients are still served: the broker remembers the interest and takes
    /// it up when the bus is back.
    async fn subscribe(&self, channel: &Channel) -> Result<(), Error> {
        match self.0.subscriber.subscribe(channel).await {
            Ok(()) | Err(tidings_broker::Error::Away { .. }) => Ok(()),
            Err(error) => {
                tracing::warn!(channel.name = %channel, %error, "the bus will not have a channel");
                Err(Error::INTERNAL)
            }
        }
    }
}

#[cfg(test)]
mod tests;
