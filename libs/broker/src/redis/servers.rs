//! All of a Redis: one process, or a Cluster of them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use redis::{Cmd, Value};
use tokio::sync::mpsc;

use super::{
    Config,
    cluster::Cluster,
    commands::{Ask, Failure},
    connection::Pool,
    health::Health,
    keys::Keys,
    node::{Node, Nodes},
    peer::Peer,
    place::Place,
    reader::{Reader, Request},
    script::Call,
    slots::{Address, slot},
    spread::Spread,
    streams::Publish,
    thread::Thread,
};
use crate::{Error, Sink};

/// What answers commands and carries the bus.
pub(super) enum Servers {
    One(Box<Node>),
    Cluster(Arc<Cluster>),
}

impl Servers {
    /// Begins to use what `config` says. Waits for nothing.
    pub(super) fn start(config: &Config, peer: &Peer, nodes: Nodes, thread: &Thread) -> Result<Self, Error> {
        let place = Place::new(config)?;
        let seeds = Place::seeds(config)?;
        if let Some(sentinels) = place.sentinels() {
            thread.spawn(sentinels.clone().watch());
        }
        if seeds.is_empty() {
            return Ok(Self::One(Box::new(nodes.start(place, peer.clone())?)));
        }
        let cluster = Arc::new(Cluster::new(nodes, place, seeds, peer.clone()));
        thread.spawn(cluster.topology.clone().run());
        thread.spawn(cluster.clone().keep_up(cluster.topology.watch()));
        Ok(Self::Cluster(cluster))
    }

    /// How a message is carried.
    pub(super) fn publish(&self) -> Publish {
        match self {
            Self::One(_) => Publish::Everywhere,
            Self::Cluster(_) => Publish::InShard,
        }
    }

    /// Whether who has a name's slot is known to be unavailable, or to refuse writes.
    pub(super) fn is_away(&self, name: &str) -> bool {
        match self {
            Self::One(node) => node.is_away(),
            Self::Cluster(cluster) => cluster.is_away(slot(name.as_bytes())),
        }
    }

    /// A write of a key was refused, for what its Redis refuses all writes for. `probe`: a key in the same slot.
    pub(super) fn refuses_writes(&self, error: &Error, probe: String) {
        match self {
            Self::One(node) => node.writes.refused(error, probe),
            Self::Cluster(cluster) => cluster.refuses_writes(error, probe),
        }
    }

    /// Which node of a Cluster has a name's slot, as far as is known.
    pub(super) fn owner(&self, name: &str) -> Option<Address> {
        match self {
            Self::One(_) => None,
            Self::Cluster(cluster) => {
                let slots = cluster.topology.slots();
                slots.owner(slot(name.as_bytes())).cloned()
            }
        }
    }

    /// For whoever else keeps something here.
    pub(super) fn pool(&self, health: Arc<Health>) -> Pool {
        match self {
            Self::One(node) => Pool::one(node.commands.pool(), health),
            Self::Cluster(cluster) => Pool::cluster(cluster.clone(), health),
        }
    }

    /// Whether what goes wrong need not concern everything.
    pub(super) fn is_many(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Asks for the answer to each command, in order. `name`: a name, or the part of it that counts, in the slot that a
    /// command is about.
    ///
    /// What it does is on the heap: a round trip costs more than that, and all callers would carry it along.
    pub(super) async fn ask<'a>(
        &self,
        ask: Ask,
        name: impl Fn(usize) -> &'a str + Send + Sync,
        command: impl Fn(usize, Call<'_>) -> Cmd + Send + Sync,
    ) -> Vec<Result<Value, Failure>> {
        match self {
            Self::One(node) => node.commands.ask(ask, command).boxed().await,
            Self::Cluster(cluster) => {
                let slot = |index| slot(name(index).as_bytes());
                cluster.ask(ask, slot, command).boxed().await
            }
        }
    }

    /// The same for one command.
    pub(super) async fn ask_one(
        &self,
        ask: Ask,
        name: &str,
        command: impl Fn(Call<'_>) -> Cmd + Send + Sync,
    ) -> Result<Value, Error> {
        let command = |_, call: Call<'_>| command(call);
        let mut answers = self.ask(ask, |_| name, command).await;
        Ok(answers.pop().expect("there is an answer to each command")?)
    }

    /// Reads the bus for one subscriber, until `requests` has no sender any more.
    pub(super) fn read(
        &self,
        keys: Keys,
        sink: Arc<dyn Sink>,
        health: &Arc<Health>,
        requests: mpsc::Receiver<Request>,
        thread: &Thread,
    ) {
        match self {
            Self::One(node) => {
                let part = health.part(node.connector.peer().name());
                thread.spawn(Reader::new(node.connector.clone(), keys, sink, part, requests).run());
            }
            Self::Cluster(cluster) => {
                thread.spawn(
                    Spread::new(cluster.clone(), keys, sink, health.clone(), thread.spawner()).run(requests),
                );
            }
        }
    }
}
