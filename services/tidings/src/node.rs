//! One process's components, wired: any set of roles, with Redis or without, by the same code.
//!
//! [`Node::open`] opens every door or none ([`wiring`]); [`Node::run`] answers at them until the process is told to
//! stop, and leaves in [`stages`]. Roles in one process talk gRPC over an in-memory pipe, as over a network.

mod reports;
mod stages;
mod wiring;

use std::{future::Future, net::SocketAddr, pin::Pin};

use tidings_core::Namespaces;
use tidings_runtime::{Health, Shutdown, operators::Operators};
use uuid::Uuid;

use self::{stages::Stages, wiring::Wiring};
use crate::{config::Config, failure::Failure, roles::Roles};

/// What a node is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The whole configuration, checked.
    pub(crate) config: Config,
    /// What runs here.
    pub(crate) roles: Roles,
    /// What channels offer.
    pub(crate) namespaces: Namespaces,
    /// Unique to this run of this process.
    pub(crate) id: Uuid,
}

/// A node whose doors are open, though nobody answers yet.
pub(crate) struct Node {
    pub(crate) addresses: Addresses,
    operators: Operators,
    services: Vec<(Shutdown, Service)>,
    health: Health,
    stages: Stages,
}

/// Where a node's doors are, with their real ports; `None` for those that it does not have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Addresses {
    pub(crate) clients: Option<SocketAddr>,
    pub(crate) backends: Option<SocketAddr>,
    pub(crate) presence: Option<SocketAddr>,
    pub(crate) operators: Option<SocketAddr>,
}

/// A component that is bound and waits to be run, in the stage that ends it.
type Service = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Node {
    /// Opens every door of `plan`. Must be called inside the multi-thread runtime.
    pub(crate) fn open(plan: Plan) -> Result<Self, Failure> {
        let roles = plan.roles;
        let mut wiring = Wiring::begin(plan)?;
        // Presence comes first: the others find it here, or where `presence.url` says.
        let presence = if roles.presence {
            Some(wiring.presence()?)
        } else {
            wiring.remote_presence()?
        };
        if roles.gateway {
            wiring.gateway(presence.clone())?;
        }
        if roles.fanout {
            wiring.fanout(presence)?;
        }
        wiring.operators()
    }

    /// Answers until the process is told to stop, then leaves in stages. `ready` is called once everybody answers.
    pub(crate) async fn run(self, ready: impl FnOnce()) {
        let Self {
            addresses,
            operators,
            services,
            health,
            stages,
        } = self;
        addresses.log();
        drop(stages.operators.spawn(operators.run(stages.operators.clone())));
        for (stage, service) in services {
            drop(stage.spawn(service));
        }
        health.ready();
        ready();

        stages.stopping().await;
        health.drain();
        stages.clients_leave().await;
        stages.doors_close().await;
    }
}

impl Addresses {
    fn log(self) {
        let doors = [
            ("clients", self.clients),
            ("backends", self.backends),
            ("presence", self.presence),
            ("operators", self.operators),
        ];
        for (door, address) in doors {
            if let Some(address) = address {
                tracing::info!(door, %address, "{door}' door is open");
            }
        }
    }
}
