//! One Redis process, as the bus uses it: whether it is the only one, or one of a Cluster.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Config, commands::Commands, health::Health, link::Connector, monitor, peer::Peer, place::Place,
    suspected::Suspected, thread::Spawner, writes::Writes,
};
use crate::Error;

/// What is needed to use any node.
pub(super) struct Nodes {
    pub(super) config: Config,
    pub(super) health: Arc<Health>,
    /// Raised when Redis may have lost something.
    pub(super) suspected: Arc<Suspected>,
    /// Notified of each new connection of a monitor.
    pub(super) connected: Arc<Notify>,
    pub(super) spawner: Spawner,
}

/// Commands for it, and what is needed to listen to it. It is watched until this is dropped.
pub(super) struct Node {
    pub(super) commands: Commands,
    pub(super) connector: Connector,
    pub(super) writes: Writes,
    _monitor: AbortOnDropHandle<()>,
}

impl Node {
    /// Whether it is known that nothing can be published here now.
    pub(super) fn is_away(&self) -> bool {
        self.commands.is_away() || self.writes.is_refused()
    }
}

impl Nodes {
    /// Begins to use the node at `place`, which is called `peer`. Waits for nothing.
    pub(super) fn start(&self, place: Place, peer: Peer) -> Result<Node, Error> {
        let Self {
            health,
            suspected,
            connected,
            ..
        } = self;
        let commands = Commands::new(
            &self.config,
            &place,
            peer.clone(),
            health.clone(),
            suspected.clone(),
        )?;
        let part = health.part(peer.name());
        let writes = Writes::new(commands.pool(), peer.clone(), self.spawner.clone());
        let connector = Connector::new(place, peer)?;
        let monitor = monitor::run(connector.clone(), part, suspected.clone(), connected.clone());
        Ok(Node {
            commands,
            connector,
            writes,
            _monitor: self.spawner.spawn(monitor),
        })
    }
}
