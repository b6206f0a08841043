//! The gateway: holds the clients' connections and gives each of them what it subscribed to.
//!
//! A publication comes from the bus to [`deliver`], which gives it to the cores that want its channel; a [`core`]
//! queues one shared frame for each of its subscribers and then writes to every socket once. A client's
//! handshake is [`http`]; from then on its socket belongs to a core and its rules to `tidings-session`.
//!
//! In reading order: [`http`], [`core`], [`deliver`], [`interest`], [`node`], [`presence`].

mod addresses;
mod admission;
mod adopt;
mod backend;
mod body;
mod config;
mod control;
mod core;
mod cores;
mod deliver;
mod delivery;
mod emulation;
mod evidence;
mod http;
mod identity;
mod inbox;
mod interest;
mod metrics;
mod node;
mod notice;
mod origin;
mod pace;
mod position;
pub mod presence;
mod quiet;
mod quota;
mod reads;
mod reconnect;
mod shrink;
mod unreadable;
mod wire;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use prometheus_client::registry::Registry;
use tidings_auth::token::Verifier;
use tidings_broker::Broker;
use tidings_core::Namespaces;
use tidings_runtime::{
    Shutdown,
    health::Component,
    serve::{self, BindError},
};
use tidings_session::Rules;
use tokio::{net::TcpListener, sync::Semaphore};

pub use backend::{Config as Proxies, ProxyConfig};
pub use config::{Config, Error as ConfigError, Limits};

use crate::{
    admission::Admission,
    backend::Backend,
    control::Control,
    cores::Cores,
    deliver::Deliver,
    evidence::Evidence,
    http::Door,
    identity::Identities,
    inbox::{Census, Inbox},
    interest::{Interest, MOST_CORES, Table},
    metrics::Metrics,
    node::Node,
    presence::Members,
    quiet::Found,
    quota::Quota,
    reads::Reads,
    unreadable::Unreadable,
};

/// How long an expired token is still good while the client fetches another.
const EXPIRED_GRACE: Duration = Duration::from_secs(25);

/// The most publications that one answer to a client has.
const HISTORY: u32 = 300;

/// Connections of the clients' door that may be shaking hands. Those that have become clients are counted apart, but keep
/// their place among the door's while they are served over HTTP.
const HANDSHAKES: usize = 1024;

/// How large the headers of a client's request may be, in bytes: an `EventSource` has nothing but its URL to say what it
/// subscribes to, and shows a token for each.
const HEADER_SIZE: u32 = 80 * 1024;

/// What a gateway needs from the rest of the process.
pub struct Deps {
    /// The node's name, unique among all nodes.
    pub node: String,
    /// The bus.
    pub broker: Broker,
    /// What each channel offers.
    pub namespaces: Namespaces,
    /// How connection tokens are checked. `None` only where the configuration is insecure.
    pub verifier: Option<Verifier>,
    /// How subscription tokens are checked, most often by the same keys. `None` only where the configuration is insecure.
    pub subscription_verifier: Option<Verifier>,
    /// Where members are reported, and asked for.
    pub members: Members,
    /// The component of the process' health that says whether streams can be read.
    pub streams: Component,
    /// Over how long clients are closed when the process ends.
    pub drain_over: Duration,
    /// Ends it.
    pub shutdown: Shutdown,
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its configuration cannot be meant.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its door cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system has no threads for its cores.
    #[error("cannot start the threads that hold connections: {0}")]
    Threads(#[from] io::Error),
}

/// A gateway whose door is open, though nobody answers yet.
pub struct Gateway {
    listener: TcpListener,
    door: Arc<Door>,
    connections: usize,
    members: Members,
    drain_over: Duration,
    shutdown: Shutdown,
}

impl Gateway {
    /// Opens the clients' door and starts the cores. Must be called inside the multi-thread runtime.
    ///
    /// # Errors
    /// When the configuration cannot be meant, the address cannot be had, or no thread.
    pub fn bind(config: &Config, deps: Deps, registry: &mut Registry) -> Result<Self, Error> {
        let admission = Admission::new(config)?;
        // Half of what may wait for a client: it gets what the backend answers.
        let backend = Backend::new(&config.proxy, bytes(config.limits.outbox) / 2, registry)?;
        let listener = serve::bind("clients", config.listen)?;
        let Deps {
            node: name,
            broker,
            namespaces,
            verifier,
            subscription_verifier,
            members,
            streams,
            drain_over,
            shutdown,
        } = deps;
        for verifier in [&verifier, &subscription_verifier].into_iter().flatten() {
            shutdown.spawn(fetch_keys(verifier.clone()));
        }
        let inboxes: Vec<_> = std::iter::repeat_with(|| Arc::new(Inbox::default()))
            .take(core_count(config))
            .collect();
        let table = Arc::new(Table::new());
        let metrics = Arc::new(Metrics::register(registry));
        members.register(registry);
        let name: Arc<str> = name.into();
        let control = Arc::new(Control::new(
            name.clone(),
            broker.publisher(),
            inboxes.clone(),
            table.clone(),
            metrics.clone(),
            shutdown.clone(),
        ));
        let evidence = Arc::new(Evidence::new());
        let deliver = Arc::new(Deliver {
            table: table.clone(),
            evidence: evidence.clone(),
            inboxes: inboxes.clone(),
            control: control.clone(),
            members: members.clone(),
            metrics: metrics.clone(),
            system: if broker.prefix().is_some() {
                "redis"
            } else {
                "memory"
            },
        });
        let subscriber = broker.subscriber(deliver.clone());
        if deliver.is_shared() {
            let (members, told) = (members.clone(), deliver.clone());
            let stop = shutdown.clone();
            shutdown.spawn(async move {
                let tell = |channel, info, event| told.notice(channel, info, event);
                tokio::select! {
                    () = members.compare(tell) => {}
                    () = stop.requested() => {}
                }
            });
        }
        let (listening, told) = (control.clone(), subscriber.clone());
        shutdown.spawn(async move { listening.listen(told).await });
        let node = Arc::new(Node {
            name,
            control,
            rules: Arc::new(rules(config, namespaces, &backend)),
            outbox: bytes(config.limits.outbox),
            message: bytes(config.limits.message_size),
            identities: Identities::new(verifier, subscription_verifier, config.insecure),
            backend,
            users: Quota::new(config.limits.connections_per_user),
            interest: Interest::new(table, subscriber, inboxes.clone(), &shutdown),
            members,
            publisher: broker.publisher(),
            streams: broker.streams(),
            reads: Reads::new(broker.streams(), evidence.clone()),
            evidence,
            unreadable: Unreadable::new(streams),
            quiet: Found::default(),
            deliver,
            metrics,
            publishes: Semaphore::new(node::PUBLISHES),
            shutdown: shutdown.clone(),
            runtime: tokio::runtime::Handle::current(),
        });
        let members = node.members.clone();
        let cores = Cores::start(&node, &inboxes)?;
        Ok(Self {
            listener,
            connections: config.limits.connections,
            door: Arc::new(Door {
                cores,
                node,
                admission,
                shutdown: shutdown.clone(),
                kept_headers: config.proxy.kept_headers().into(),
            }),
            members,
            drain_over,
            shutdown,
        })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A way to ask how many clients there are, while it runs.
    #[must_use]
    pub fn counter(&self) -> Counter {
        Counter {
            cores: self.door.cores.clone(),
            table: self.door.node.deliver.table.clone(),
            metrics: self.door.node.metrics.clone(),
        }
    }

    /// Serves clients until shutdown is requested; then closes them a few at a time, and tells presence when the
    /// last has gone. Returns after that.
    pub async fn run(self) {
        let Self {
            listener,
            door,
            connections,
            members,
            drain_over,
            shutdown,
        } = self;
        let limits = serve::Limits {
            max_connections: connections.saturating_add(HANDSHAKES),
            idle_timeout: serve::Limits::DEFAULT.header_timeout,
            header_size: HEADER_SIZE,
            ..serve::Limits::DEFAULT
        };
        serve::serve(listener, http::router(door.clone()), limits, shutdown).await;
        door.cores.drain(drain_over).await;
        members.goodbye().await;
    }
}

/// How many there are on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub connections: usize,
    /// Different users behind them; anonymous clients count as one.
    pub users: usize,
    /// Channels that they are subscribed to, or about to be.
    pub channels: usize,
    /// Subscriptions.
    pub subscriptions: usize,
}

/// Asks a running gateway how many clients it has.
#[derive(Clone)]
pub struct Counter {
    cores: Cores,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
}

impl Counter {
    /// How many there are now.
    pub async fn count(&self) -> Counts {
        let Census { connections, users } = self.cores.census().await;
        Counts {
            connections,
            users: users.len(),
            channels: self.table.wanted(),
            subscriptions: self.metrics.subscriptions(),
        }
    }
}

/// Keys that are published elsewhere are asked for before the first client needs one.
async fn fetch_keys(verifier: Verifier) {
    if let Err(error) = verifier.fetch(SystemTime::now()).await {
        tracing::warn!(%error, "the keys to check tokens with could not be fetched; they are asked for again when a client comes");
    }
}

fn core_count(config: &Config) -> usize {
    let processors = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config
        .cores
        .map_or_else(processors, std::num::NonZero::get)
        .min(MOST_CORES)
}

fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

fn rules(config: &Config, namespaces: Namespaces, backend: &Backend) -> Rules {
    let limits = &config.limits;
    Rules {
        version: concat!("tidings ", env!("CARGO_PKG_VERSION")),
        ping_interval: limits.ping_interval,
        pong_timeout: limits.pong_timeout,
        connect_timeout: limits.connect_timeout,
        expired_grace: EXPIRED_GRACE,
        channels: limits.channels,
        history: HISTORY,
        commands_per_second: limits.commands_per_second,
        allow_anonymous: config.allow_anonymous,
        insecure: config.insecure,
        backend: backend.offers(),
        personal_namespace: config.personal_namespace.clone(),
        namespaces,
    }
}
