//! How a node's components are put together, one after the other.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use tidings_broker::Broker;
use tidings_fanout::{self as fanout, Fanout, source};
use tidings_gateway::{self as gateway, Counter, Gateway, presence::Members};
use tidings_presence::{self as presence, Presence, Store};
use tidings_runtime::{
    Health,
    operators::{Answers, Operators},
};
use tidings_telemetry::Metrics;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::{Addresses, Node, Plan, Service, reload, reports, roll, stages::Stages};
use crate::{config::Config, failure::Failure, grpc};

/// How often a connection to presence is tried, and how long the answer may take, at least and at most.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// A node in the making.
pub(super) struct Wiring {
    plan: Plan,
    broker: Broker,
    health: Health,
    metrics: Metrics,
    stages: Stages,
    services: Vec<Service>,
    counter: Option<Counter>,
    addresses: Addresses,
}

impl Wiring {
    /// What every node has: signals, health, metrics and the bus.
    pub(super) fn begin(plan: Plan) -> Result<Self, Failure> {
        let config = &plan.config;
        let stages = Stages::on_signals(config.drain.over).map_err(anyhow::Error::new)?;
        let health = Health::new();
        let broker = broker(config)?;
        let metrics = Metrics::new();
        metrics.register(|registry| broker.register(registry));
        if config.redis.is_some() {
            let component = health.component("redis");
            let report = reports::redis(broker.clone(), component, stages.services.clone());
            drop(stages.services.spawn(report));
        }
        Ok(Self {
            plan,
            broker,
            health,
            metrics,
            stages,
            services: Vec::new(),
            counter: None,
            addresses: Addresses::default(),
        })
    }

    /// Presence runs here: behind its own door when it runs alone, and in memory for the others. Gives the way to it.
    pub(super) fn presence(&mut self) -> Result<Channel, Failure> {
        let stage = self.stages.services.clone();
        let options = self.plan.config.presence.options();
        let presence = self
            .metrics
            .register(|registry| Presence::new(Store::with(&self.broker, options), registry));
        let channel = presence.connect_in_process(&stage);
        let run: Pin<Box<dyn Future<Output = ()> + Send>> = if self.plan.roles.all() {
            Box::pin(presence.run_sweeper(stage.clone()))
        } else {
            let server = presence::Server::bind(&self.plan.config.presence, presence).map_err(unopened)?;
            self.addresses.presence = Some(server.local_addr());
            Box::pin(server.run(stage.clone()))
        };
        self.services.push(Service {
            name: "presence",
            stage,
            run,
        });
        Ok(channel)
    }

    /// The way to presence that runs elsewhere and need not be there yet; `None` when it is not known where.
    pub(super) fn remote_presence(&self) -> Result<Option<Channel>, Failure> {
        let url = self.plan.config.presence.url.as_deref();
        let endpoint = url.map(grpc::endpoint).transpose();
        let endpoint = endpoint.map_err(|error| Failure::usage(format!("`presence.url`: {error}")))?;
        // A replica that stands still keeps its connections: they are given up while there is time to go to another.
        let patience = (self.plan.config.presence.lease / 4).clamp(KEEP_ALIVE.0, KEEP_ALIVE.1);
        Ok(endpoint.map(|endpoint| {
            endpoint
                .http2_keep_alive_interval(patience)
                .keep_alive_timeout(patience)
                .keep_alive_while_idle(true)
                .connect_lazy()
        }))
    }

    /// The gateway, which reports its members to `presence`.
    pub(super) fn gateway(&mut self, presence: Option<Channel>) -> Result<(), Failure> {
        let Plan {
            config,
            namespaces,
            id,
            ..
        } = &self.plan;
        let presence = presence.ok_or_else(|| Failure::usage("it is not known where presence is"))?;
        let lease = config.presence.lease;
        let health = self.health.component("presence");
        // In the stage after the clients', so that the gateway can say goodbye for them.
        let name = config.presence.gateway.clone().unwrap_or_else(|| id.to_string());
        let members = Members::start(name, presence, lease, &self.stages.services, health);
        let verifier = config.verifier()?;
        let deps = gateway::Deps {
            node: id.to_string(),
            broker: self.broker.clone(),
            namespaces: namespaces.clone(),
            verifier: verifier.clone(),
            subscription_verifier: config.subscription_verifier()?.or(verifier),
            members,
            streams: self.health.component("streams"),
            drain_over: config.drain.over,
            shutdown: self.stages.clients.clone(),
        };
        let bound = self
            .metrics
            .register(|registry| Gateway::bind(&config.clients, deps, registry));
        let gateway = bound.map_err(unopened)?;
        self.addresses.clients = Some(gateway.local_addr().map_err(anyhow::Error::new)?);
        self.counter = Some(gateway.counter());
        self.services.push(Service {
            name: "gateway",
            stage: self.stages.clients.clone(),
            run: Box::pin(gateway.run()),
        });
        Ok(())
    }

    /// Fanout, which passes questions about who is there on to `presence`.
    pub(super) fn fanout(&mut self, presence: Option<Channel>) -> Result<(), Failure> {
        let Config { backends, route, .. } = &self.plan.config;
        let deps = fanout::Deps {
            node: self.plan.id.to_string(),
            broker: self.broker.clone(),
            namespaces: self.plan.namespaces.clone(),
            presence,
        };
        let bound = self
            .metrics
            .register(|registry| Fanout::bind(backends, route, deps, registry));
        let fanout = bound.map_err(unopened)?;
        self.addresses.backends = Some(fanout.local_addr());
        let deps = source::Deps {
            intake: fanout.intake(),
            node: self.plan.id.to_string(),
            redis: self.broker.redis_pool(),
        };
        let health = || self.health.component("source");
        let configs = &self.plan.config.source;
        let sources = self
            .metrics
            .register(|registry| source::all(configs, &deps, health, registry));
        let stage = self.stages.services.clone();
        for source in sources.map_err(Failure::usage)? {
            drop(stage.spawn(source.run(stage.clone())));
        }
        let reload = reload::run(
            self.plan.origin.clone(),
            fanout.routes(),
            fanout.tls(),
            stage.clone(),
        );
        drop(stage.spawn(reload));
        drop(stage.spawn(fanout.refer_elsewhere_after(self.health.draining())));
        self.services.push(Service {
            name: "fanout",
            stage: stage.clone(),
            run: Box::pin(fanout.run(stage)),
        });
        Ok(())
    }

    /// The operators' door, which every node has, and the node is complete.
    pub(super) fn operators(self) -> Result<Node, Failure> {
        let Self {
            plan,
            broker,
            health,
            metrics,
            stages,
            services,
            counter,
            mut addresses,
        } = self;
        let entry = roll::Entry {
            id: plan.id,
            roles: plan.roles,
            counter: counter.clone(),
            started: Instant::now(),
        };
        let stage = &stages.services;
        drop(stage.spawn(roll::answer(broker, entry, stage.clone())));
        let answers = Answers {
            health: health.clone(),
            metrics: Arc::new(move || metrics.encode()),
            stats: reports::stats(plan.id, counter, plan.config.redis.is_some()),
        };
        let operators = Operators::bind(&plan.config.operators, answers).map_err(unopened)?;
        addresses.operators = Some(operators.local_addr());
        Ok(Node {
            addresses,
            operators,
            services,
            health,
            stages,
        })
    }
}

/// The bus, and the one line that says which.
fn broker(config: &Config) -> Result<Broker, Failure> {
    match &config.redis {
        // Only `tidings dev` lets everyone in.
        None if config.clients.insecure => {
            tracing::info!("Redis is not used by `tidings dev`: standalone, embedded broker");
            Ok(Broker::memory())
        }
        None => {
            tracing::info!("no Redis configured: standalone, embedded broker");
            Ok(Broker::memory())
        }
        Some(redis) => {
            tracing::info!(redis.url = %redis.place(), "Redis configured: cluster");
            Ok(Broker::redis(redis).map_err(anyhow::Error::new)?)
        }
    }
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
