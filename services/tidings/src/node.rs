//! One process's components, wired: any set of roles, with Redis or without, by the same code.
//!
//! [`Node::open`] opens every door or none ([`wiring`]); [`Node::run`] answers at them until the process is told to
//! stop, or one of them ends by itself, and leaves in [`stages`]. Roles in one process talk gRPC over an in-memory pipe, as over a network.

pub(crate) mod reload;
mod reports;
mod roll;
mod stages;
mod wiring;

use std::{future::Future, net::SocketAddr, pin::Pin};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidings_core::Namespaces;
use tidings_runtime::{Health, Shutdown, operators::Operators};
use tokio::task::JoinHandle;
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
    /// Where the configuration is from, to be read again.
    pub(crate) origin: reload::Origin,
}

/// A node whose doors are open, though nobody answers yet.
pub(crate) struct Node {
    pub(crate) addresses: Addresses,
    operators: Operators,
    services: Vec<Service>,
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

/// A component that is bound and waits to be run.
struct Service {
    name: &'static str,
    /// The stage that ends it.
    stage: Shutdown,
    run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A component's name, once its task has ended, and whether it panicked.
async fn ended(name: &'static str, task: JoinHandle<Option<()>>) -> (&'static str, bool) {
    (name, task.await.is_err())
}

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
    ///
    /// Fails when a component ended by itself: the node leaves as if it had been told to, for somebody to start anew.
    pub(crate) async fn run(self, ready: impl FnOnce()) -> Result<(), Failure> {
        let Self {
            addresses,
            operators,
            services,
            health,
            stages,
        } = self;
        addresses.log();
        let door = stages.operators.spawn(operators.run(stages.operators.clone()));
        let mut running = FuturesUnordered::from_iter([ended("operators", door)]);
        for Service { name, stage, run } in services {
            running.push(ended(name, stage.spawn(run)));
        }
        health.ready();
        ready();

        let early = tokio::select! {
            biased;
            () = stages.stopping() => None,
            early = running.next() => early,
        };
        if let Some((component, panicked)) = early {
            tracing::error!(component, panicked, "a component ended by itself; shutting down");
        }
        health.drain();
        stages.clients_leave().await;
        stages.doors_close().await;
        early.map_or(Ok(()), |(component, _)| {
            Err(Failure::runtime(format!(
                "{component} ended before the node was told to stop"
            )))
        })
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

#[cfg(test)]
mod tests {
    use tidings_runtime::config::Source;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_component_that_ends_by_itself_ends_the_node() {
        let source = Source {
            environment: [("PORT", "0")].into_iter().collect(),
            ..Source::default()
        };
        let config = Config::load_for_dev(&source).unwrap();
        let namespaces = config.namespaces().unwrap();
        let mut node = Node::open(Plan {
            config,
            roles: Roles::ALL,
            namespaces,
            id: Uuid::nil(),
            origin: reload::Origin {
                source,
                load: Config::load_for_dev,
            },
        })
        .unwrap();
        node.services.push(Service {
            name: "brief",
            stage: node.stages.services.clone(),
            run: Box::pin(async {}),
        });
        let Err(Failure::Runtime(error)) = node.run(|| {}).await else {
            panic!("a component has ended");
        };
        assert_eq!(error.to_string(), "brief ended before the node was told to stop");
    }
}
