//! A Redis Cluster: each of its primaries is used as a Redis alone would be, and what is asked goes to whoever has the slot.
//!
//! What a node sends elsewhere (MOVED, ASK) follows at once, and what is on its way (TRYAGAIN) is tried again, all within
//! the command timeout. What is wrong with one node is felt by its own slots only.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    commands::{Ask, Failure, Redirect},
    metrics::Kind,
    node::{Node, Nodes},
    peer::Peer,
    place::Place,
    script::Call,
    slots::{Address, Slots, slot},
    topology::Topology,
};
use crate::Error;

/// How often one command goes elsewhere. While its keys are on their way it is tried again until its deadline.
const REDIRECTS: usize = 16;

/// How long keys that are on their way are left alone.
const PAUSE: Duration = Duration::from_millis(10);

/// All nodes that are used.
pub(super) struct Cluster {
    pub(super) topology: Arc<Topology>,
    place: Place,
    peer: Peer,
    nodes: Nodes,
    used: Mutex<HashMap<Address, Arc<Node>>>,
}

/// Where a command goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    to: Address,
    asking: bool,
}

impl Cluster {
    /// Connects to nothing yet.
    pub(super) fn new(nodes: Nodes, place: Place, seeds: Vec<Address>, peer: Peer) -> Self {
        let topology = Topology::new(place.clone(), seeds, peer.clone(), nodes.health.clone());
        Self {
            topology: Arc::new(topology),
            place,
            peer,
            nodes,
            used: Mutex::default(),
        }
    }

    /// What it is called, as a whole.
    pub(super) fn name(&self) -> &str {
        self.peer.name()
    }

    /// Whether who has a slot is known to be away, or not to be there.
    pub(super) fn is_away(&self, slot: u16) -> bool {
        let slots = self.topology.slots();
        match slots.owner(slot) {
            Some(owner) => self.used.lock().get(owner).is_some_and(|node| node.is_away()),
            None => self.nodes.health.known_away(self.name()).is_some(),
        }
    }

    /// The node that has the slot of a key refused a write, for what it refuses all for.
    pub(super) fn refuses_writes(&self, error: &Error, probe: String) {
        let slots = self.topology.slots();
        let owner = slots.owner(slot(probe.as_bytes()));
        if let Some(node) = owner.and_then(|owner| self.used.lock().get(owner).cloned()) {
            node.writes.refused(error, probe);
        }
    }

    /// That nobody has a slot, as far as is known.
    pub(super) fn nobody(&self) -> Error {
        self.peer.away("nobody is known to have the slot")
    }

    /// The node at an address.
    pub(super) fn node(&self, address: &Address) -> Result<Arc<Node>, Error> {
        let mut used = self.used.lock();
        if let Some(node) = used.get(address) {
            return Ok(node.clone());
        }
        let node = Arc::new(
            self.nodes
                .start(self.place.at(address), self.peer.of_node(address))?,
        );
        used.insert(address.clone(), node.clone());
        Ok(node)
    }

    /// Uses all primaries, and no longer those that are none any more, whenever that changes. Runs forever.
    pub(super) async fn keep_up(self: Arc<Self>, mut slots: watch::Receiver<Arc<Slots>>) {
        loop {
            let now = slots.borrow_and_update().clone();
            let primaries = now.primaries();
            self.used.lock().retain(|address, _| primaries.contains(address));
            for address in primaries {
                if let Err(error) = self.node(address) {
                    tracing::warn!(%error, "a node of the Redis Cluster cannot be used");
                }
            }
            // A redirect that was out of date may have led to a node that is none of them any more: each look ends that.
            tokio::select! {
                changed = slots.changed() => if changed.is_err() { return },
                () = self.topology.looked() => {}
            }
        }
    }

    /// Asks everyone concerned, at once. `slot`: which slot a command is about.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        slot: impl Fn(usize) -> u16,
        command: impl Fn(usize, Call<'_>) -> Cmd,
    ) -> Vec<Result<Value, Failure>> {
        let latest = Instant::now() + self.nodes.config.command_timeout;
        let deadline = ask.deadline.map_or(latest, |deadline| deadline.min(latest));
        let ask = Ask {
            deadline: Some(deadline),
            ..ask
        };
        let slots = self.topology.known(deadline).await;
        let mut answers: Vec<Result<Value, Failure>> = Vec::new();
        let mut open: Vec<(usize, Option<Way>)> = Vec::with_capacity(ask.count);
        for index in 0..ask.count {
            let to = slots.owner(slot(index)).cloned();
            open.push((index, to.map(|to| Way { to, asking: false })));
            answers.push(Err(Failure::undone(self.nobody())));
        }
        let mut redirects = 0;
        while redirects < REDIRECTS && Instant::now() < deadline {
            let mut by_way: BTreeMap<Way, Vec<usize>> = BTreeMap::new();
            for (index, way) in open.drain(..) {
                match way {
                    Some(way) => by_way.entry(way).or_default().push(index),
                    None => self.topology.doubt(),
                }
            }
            let asked = by_way
                .iter()
                .map(|(way, part)| self.ask_at(way, part, ask, &command));
            let found = join_all(asked).await;
            let (mut later, mut elsewhere) = (false, false);
            for ((way, part), found) in by_way.iter().zip(found) {
                for (&index, answer) in part.iter().zip(found) {
                    if let Err(failure) = &answer
                        && let Some(redirect) = &failure.redirect
                    {
                        open.push((index, self.follow(redirect, way)));
                        match redirect {
                            Redirect::Later => later = true,
                            Redirect::Moved(_) | Redirect::Ask(_) => elsewhere = true,
                        }
                    }
                    answers[index] = answer;
                }
            }
            if open.is_empty() {
                break;
            }
            redirects += usize::from(elsewhere);
            if later {
                sleep(PAUSE).await;
            }
        }
        answers
    }

    /// Asks all primaries the same. The last answer, or the first failure.
    pub(super) async fn ask_all(&self, kind: Kind, command: &Cmd) -> Result<Value, Failure> {
        let slots = self
            .topology
            .known(Instant::now() + self.nodes.config.command_timeout)
            .await;
        let ask = Ask::one(kind, 0);
        let asked = slots.primaries().into_iter().map(async |to| match self.node(to) {
            Ok(node) => node.commands.ask(ask, |_, _| command.clone()).await.remove(0),
            Err(error) => Err(Failure::undone(error)),
        });
        let mut last = Err(Failure::undone(self.nobody()));
        for answer in join_all(asked).await {
            last = Ok(answer?);
        }
        last
    }

    async fn ask_at(
        &self,
        way: &Way,
        part: &[usize],
        ask: Ask,
        command: &impl Fn(usize, Call<'_>) -> Cmd,
    ) -> Vec<Result<Value, Failure>> {
        let ask = Ask {
            count: part.len(),
            asking: way.asking,
            ..ask
        };
        match self.node(&way.to) {
            Ok(node) => node.commands.ask(ask, |at, call| command(part[at], call)).await,
            Err(error) => vec![Err(Failure::undone(error)); part.len()],
        }
    }

    /// Where to go after a node has said that.
    fn follow(&self, redirect: &Redirect, way: &Way) -> Option<Way> {
        match redirect {
            Redirect::Moved(to) => {
                self.topology.doubt();
                Some(Way {
                    to: to.clone()?,
                    asking: false,
                })
            }
            Redirect::Ask(to) => Some(Way {
                to: to.clone()?,
                asking: true,
            }),
            Redirect::Later => Some(way.clone()),
        }
    }
}
