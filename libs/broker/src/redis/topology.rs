//! Keeps up with a Redis Cluster: who has which slots, asked at the start, whenever a command was sent elsewhere, four times a
//! second while a node is unavailable, and once in a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::RedisError;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::info;

use super::{
    health::{Health, Part},
    peer::Peer,
    place::Place,
    slots::{Address, Slots},
};
use crate::Status;

/// How often nodes are asked while nothing speaks for a change.
const QUIET: Duration = Duration::from_secs(10);

/// How often while something does: a node is away, or a slot has no owner.
const UNQUIET: Duration = Duration::from_millis(250);

/// The least time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);

/// Who has which slots, as far as is known.
pub(super) struct Topology {
    /// How any node is reached, but for its address.
    place: Place,
    seeds: Vec<Address>,
    peer: Peer,
    health: Arc<Health>,
    slots: watch::Sender<Arc<Slots>>,
    doubt: Notify,
    looked: Notify,
    /// The highest `cluster_current_epoch` of a view that was believed.
    epoch: AtomicU64,
}

impl Topology {
    /// Nothing is known yet.
    pub(super) fn new(place: Place, seeds: Vec<Address>, peer: Peer, health: Arc<Health>) -> Self {
        Self {
            place,
            seeds,
            peer,
            health,
            slots: watch::Sender::default(),
            doubt: Notify::new(),
            looked: Notify::new(),
            epoch: AtomicU64::default(),
        }
    }

    /// Who has which slots, now.
    pub(super) fn slots(&self) -> Arc<Slots> {
        self.slots.borrow().clone()
    }

    /// The same, once it is known for the first time, unless nobody can be asked or it takes too long.
    pub(super) async fn known(&self, deadline: Instant) -> Arc<Slots> {
        if self.slots().primaries().is_empty() && self.health.known_away(self.peer.name()).is_none() {
            let mut slots = self.watch();
            let first = slots.wait_for(|slots| !slots.primaries().is_empty());
            let _ = timeout_at(deadline, first).await;
        }
        self.slots()
    }

    /// The same, and whenever that changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Slots>> {
        self.slots.subscribe()
    }

    /// Says that what is known may not be true any more.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Runs forever.
    pub(super) async fn run(self: Arc<Self>) {
        let part = self.health.part(self.peer.name());
        loop {
            let well = match timeout(LOOK, self.look()).await {
                Ok(Ok(slots)) => self.learnt(slots, &part),
                Ok(Err(why)) => {
                    part.away(self.peer.away(&why).to_string());
                    false
                }
                Err(_) => {
                    part.away(
                        self.peer
                            .away("no node says who has which slots in time")
                            .to_string(),
                    );
                    false
                }
            };
            self.looked.notify_waiters();
            sleep(PAUSE).await;
            tokio::select! {
                () = self.doubt.notified() => {}
                () = self.due(well) => {}
            }
        }
    }

    /// Returns when it is time to look again: soon while something is unavailable, and at once when that begins.
    async fn due(&self, well: bool) {
        let mut status = self.health.status();
        if !well || *status.borrow_and_update() != Status::Up {
            return sleep(UNQUIET).await;
        }
        let outage = async { status.wait_for(|status| *status != Status::Up).await.is_err() };
        // The sender lives as long as the topology.
        let _ = timeout(QUIET, outage).await;
    }

    /// Returns after the next look, whatever it found.
    pub(super) async fn looked(&self) {
        self.looked.notified().await;
    }

    /// Takes in what a node has said. Whether every slot has an owner.
    fn learnt(&self, slots: Slots, part: &Part) -> bool {
        let missing = slots.missing();
        if missing == 0 {
            part.up();
        } else {
            let why = format!("{missing} of its slots have no owner; look at CLUSTER SHARDS");
            part.away(self.peer.away(why).to_string());
        }
        self.slots.send_if_modified(|known| {
            let changed = **known != slots;
            if changed {
                let primaries: Vec<_> = slots.primaries().into_iter().map(ToString::to_string).collect();
                info!(
                    redis.primaries = primaries.join(", "),
                    "the slots of the Redis Cluster are known"
                );
                *known = Arc::new(slots);
            }
            changed
        });
        missing == 0
    }

    /// Asks all that may know at once. The first view is believed that is well and not older than one that was believed before:
    /// a primary that was replaced while it hung takes itself for one until it hears of the others. Without such a view, the
    /// newest of all.
    pub(super) async fn look(&self) -> Result<Slots, RedisError> {
        let known = self.slots();
        let mut nodes = known.primaries();
        nodes.extend(&self.seeds);
        let mut asked: FuturesUnordered<_> = nodes.into_iter().map(|node| self.ask(node)).collect();
        let mut best: Option<View> = None;
        let mut failure = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(view) if view.well && view.epoch >= self.epoch.load(Relaxed) => {
                    self.epoch.store(view.epoch, Relaxed);
                    return Ok(view.slots);
                }
                Ok(view) if best.as_ref().is_none_or(|best| best.rank() < view.rank()) => best = Some(view),
                Ok(_) => {}
                Err(why) => failure = Some(why),
            }
        }
        match (best, failure) {
            (Some(view), _) => {
                // A cluster that was made anew begins with low epochs.
                self.epoch.store(view.epoch, Relaxed);
                Ok(view.slots)
            }
            (None, Some(why)) => Err(why),
            (None, None) => Ok(Slots::default()),
        }
    }

    /// The cluster as one node sees it.
    async fn ask(&self, node: &Address) -> Result<View, RedisError> {
        let client = redis::Client::open(self.place.at(node).info())?;
        let config = self.place.connection();
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut questions = redis::pipe();
        questions.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
        let (info, slots): (String, redis::Value) = questions.query_async(&mut connection).await?;
        let epoch = info
            .lines()
            .find_map(|line| line.trim().strip_prefix("cluster_current_epoch:")?.parse().ok());
        Ok(View {
            slots: Slots::read(slots, node)?,
            well: info.contains("cluster_state:ok"),
            epoch: epoch.unwrap_or_default(),
        })
    }
}

/// The cluster as one node sees it.
struct View {
    slots: Slots,
    /// It sees a majority, and every slot that it needs.
    well: bool,
    /// Grows with each failover that it knows of.
    epoch: u64,
}

impl View {
    fn rank(&self) -> (bool, u64) {
        (self.well, self.epoch)
    }
}
