//! One process's components, wired: any set of roles, with Redis or without, by the same code.
//!
//! [`Node::start`] opens every door or none; [`Node::run`] answers at them until the process is told to stop, and
//! leaves in [`stages`]. Roles in one process talk gRPC over an in-memory pipe, as they do over a network.

mod reports;
mod stages;

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

use tidings_broker::Broker;
use tidings_core::Namespaces;
use tidings_fanout::Fanout;
use tidings_gateway::{self as gateway, Gateway, presence::Members};
use tidings_presence::{self as presence, Presence, Store};
use tidings_runtime::{
    Health, Shutdown,
    operators::{Answers, Operators},
};
use tidings_telemetry::Metrics;
use tonic::transport::Channel;
use uuid::Uuid;

use self::stages::Stages;
use crate::{config::Config, failure::Failure, grpc, roles::Roles};

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
    /// Where the doors are, with their real ports; `None` for those that this node does not have.
    pub(crate) addresses: Addresses,
    operators: Operators,
    services: Vec<(Shutdown, Service)>,
    members: Option<Members>,
    health: Health,
    stages: Stages,
}

/// Where a node's doors are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) clients: Option<SocketAddr>,
    pub(crate) backends: Option<SocketAddr>,
    pub(crate) presence: Option<SocketAddr>,
    pub(crate) operators: SocketAddr,
}

/// A component that is bound and waits to be run, in the stage that ends it.
type Service = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Node {
    /// Opens every door of `plan`. Must be called inside the multi-thread runtime.
    pub(crate) fn start(plan: Plan) -> Result<Self, Failure> {
        let Plan {
            config,
            roles,
            namespaces,
            id,
        } = plan;
        let stages = Stages::on_signals(config.drain.over).map_err(anyhow::Error::new)?;
        let (health, metrics) = (Health::new(), Metrics::new());
        let broker = broker(&config)?;
        if config.redis.is_some() {
            stages.services.spawn(reports::redis(
                broker.status(),
                health.component("redis"),
                stages.services.clone(),
            ));
        }

        let mut services: Vec<(Shutdown, Service)> = Vec::new();
        let (mut clients, mut backends, mut internal) = (None, None, None);

        // Presence comes first: the others find it here, or where `presence.url` says.
        let presence = if roles.presence {
            let presence = metrics.register(|registry| Presence::new(store(&broker), registry));
            let channel = presence.connect_in_process(&stages.services);
            if roles.all() {
                services.push((
                    stages.services.clone(),
                    Box::pin(presence.run_sweeper(stages.services.clone())),
                ));
            } else {
                let server = presence::Server::bind(&config.presence, presence).map_err(unopened)?;
                internal = Some(server.local_addr());
                services.push((
                    stages.services.clone(),
                    Box::pin(server.run(stages.services.clone())),
                ));
            }
            Some(channel)
        } else {
            config.presence.url.as_deref().map(remote).transpose()?
        };

        if roles.fanout {
            let (listed, routes) = (&config.backends, &config.route);
            let fanout = metrics
                .register(|registry| Fanout::bind(listed, routes, &broker, presence.clone(), registry))
                .map_err(unopened)?;
            backends = Some(fanout.local_addr());
            services.push((
                stages.services.clone(),
                Box::pin(fanout.run(stages.services.clone())),
            ));
        }

        let mut members = None;
        let mut counter = None;
        if roles.gateway {
            let channel = presence.ok_or_else(|| Failure::usage("it is not known where presence is"))?;
            let shared = members.insert(Members::start(
                id.to_string(),
                channel,
                config.presence.lease,
                &stages.services,
                health.component("presence"),
            ));
            let deps = gateway::Deps {
                broker,
                namespaces,
                verifier: config.verifier()?,
                members: shared.clone(),
                drain_over: config.drain.over,
                shutdown: stages.clients.clone(),
            };
            let gateway = metrics
                .register(|registry| Gateway::bind(&config.clients, deps, registry))
                .map_err(unopened)?;
            clients = Some(gateway.local_addr().map_err(anyhow::Error::new)?);
            counter = Some(gateway.counter());
            services.push((stages.clients.clone(), Box::pin(gateway.run())));
        }

        let answers = Answers {
            health: health.clone(),
            metrics: Arc::new(move || metrics.encode()),
            stats: reports::stats(id, counter, config.redis.is_some()),
        };
        let operators = Operators::bind(&config.operators, answers).map_err(unopened)?;
        let addresses = Addresses {
            clients,
            backends,
            presence: internal,
            operators: operators.local_addr(),
        };
        Ok(Self {
            addresses,
            operators,
            services,
            members,
            health,
            stages,
        })
    }

    /// Answers until the process is told to stop, then leaves in stages. `ready` is called once everybody answers.
    pub(crate) async fn run(self, ready: impl FnOnce()) {
        let Self {
            addresses,
            operators,
            services,
            members,
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
        if let Some(members) = members {
            members.goodbye().await;
        }
        stages.doors_close().await;
    }
}

impl Addresses {
    fn log(self) {
        let doors = [
            ("clients", self.clients),
            ("backends", self.backends),
            ("presence", self.presence),
            ("operators", Some(self.operators)),
        ];
        for (door, address) in doors {
            if let Some(address) = address {
                tracing::info!(door, %address, "{door}' door is open");
            }
        }
    }
}

/// The bus, and the one line that says which.
fn broker(config: &Config) -> Result<Broker, Failure> {
    match &config.redis {
        None => {
            tracing::info!("no Redis configured: standalone, embedded broker");
            Ok(Broker::memory())
        }
        Some(redis) => {
            tracing::info!(redis.url = %redis.url, "Redis configured: cluster");
            Ok(Broker::redis(redis).map_err(anyhow::Error::new)?)
        }
    }
}

/// Where members are kept: where the bus is.
fn store(broker: &Broker) -> Store {
    match (broker.redis_pool(), broker.prefix()) {
        (Some(pool), Some(prefix)) => Store::redis(pool, prefix),
        _ => Store::memory(),
    }
}

/// The presence service at `url`, which need not be there yet.
fn remote(url: &str) -> Result<Channel, Failure> {
    let endpoint = grpc::endpoint(url).map_err(|error| Failure::usage(format!("`presence.url`: {error}")))?;
    Ok(endpoint.connect_lazy())
}

/// A component that could not be bound, most often for want of its port.
fn unopened<E: std::error::Error + Send + Sync + 'static>(error: E) -> Failure {
    let error = anyhow::Error::new(error);
    let taken = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    if error.chain().any(taken) {
        Failure::runtime(format!(
            "{error}; or move every door that is not set with PORT=4000 in the environment"
        ))
    } else {
        Failure::Runtime(error)
    }
}
