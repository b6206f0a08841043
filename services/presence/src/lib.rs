//! The presence service: knows who is there.
//!
//! A gateway attaches with one stream, holds a lease, and says who joined and left; the members live in a
//! [`Store`] under that lease. No heartbeat ever touches a member: upkeep costs as much as there are gateways,
//! not clients. When a lease ends, readers stop seeing its members at once, and the sweeper removes them.
//!
//! In reading order: [`member`] is the vocabulary, [`store`] keeps it (in memory or in Redis), `attach` is the
//! protocol's order, `watch` follows the log, `grpc` is the only part that knows tonic, `sweeper` cleans up after dead gateways, and
//! [`server`] is the internal door. Any number of replicas share one store; none of them remembers anything.

pub mod config;
pub mod member;
pub mod metrics;
pub mod server;
pub mod store;

mod attach;
mod grpc;
mod sweeper;
mod unconfirmed;
mod watch;

use prometheus_client::registry::Registry;
use tidings_proto::presence::presence_server::PresenceServer;
use tidings_runtime::Shutdown;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use grpc::Service;
pub use server::Server;
pub use store::{Options, Per, Store};

use grpc::Door;
use metrics::Metrics;
use unconfirmed::Unconfirmed;
use watch::Watchers;

/// One replica of the presence service. Clones are the same replica.
#[derive(Debug, Clone)]
pub struct Presence {
    store: Store,
    metrics: Metrics,
    /// Cancelled when this replica stops: attached gateways are told to attach elsewhere.
    closing: CancellationToken,
    watchers: Watchers,
    unconfirmed: Unconfirmed,
}

impl Presence {
    /// A replica on `store`, whose metrics are registered in `registry`.
    #[must_use]
    pub fn new(store: Store, registry: &mut Registry) -> Self {
        Self {
            store,
            metrics: Metrics::register(registry),
            closing: CancellationToken::new(),
            watchers: Watchers::default(),
            unconfirmed: Unconfirmed::default(),
        }
    }

    /// The gRPC service for gateways, with `Attach`. Fits any tonic or axum router.
    #[must_use]
    pub fn internal(&self) -> PresenceServer<Service> {
        Service::new(self.clone(), Door::Internal).into_server()
    }

    /// The gRPC service for backends: reads only. `Attach` answers `PERMISSION_DENIED` and names the right door.
    #[must_use]
    pub fn reads(&self) -> PresenceServer<Service> {
        Service::new(self.clone(), Door::Backends).into_server()
    }

    /// A channel to [`internal`](Self::internal) over in-memory pipes: how a gateway in the same process
    /// attaches. It lives until its last clone is dropped, or `shutdown` is forced; a request to shut down does
    /// not end it, so that a gateway which is still draining can say goodbye.
    ///
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn connect_in_process(&self, shutdown: &Shutdown) -> tonic::transport::Channel {
        grpc::in_process::connect(self.internal(), shutdown.clone())
    }

    /// Removes the members of gateways whose lease has ended, announces leaves that are due, and notices when Redis may have lost
    /// something, until shutdown is requested. Every replica runs it, in every mode; together they report each leave once.
    pub async fn run_sweeper(self, shutdown: Shutdown) {
        sweeper::run(&self, &shutdown).await;
    }
}
