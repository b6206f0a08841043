//! The backends' door: gRPC and HTTP on one port.
//!
//! Everything that can be wrong with the configuration is said by [`Fanout::bind`], before anything listens; from
//! then on the port is taken, and [`Fanout::run`] answers on it.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware,
    response::{IntoResponse as _, Response},
};
use prometheus_client::registry::Registry;
use tidings_broker::Broker;
use tidings_core::Namespaces;
use tidings_proto::{
    FILE_DESCRIPTOR_SET, fanout::fanout_server::FanoutServer, presence::presence_server::PresenceServer,
};
use tidings_runtime::{
    Shutdown,
    serve::{self, BindError, Limits, tls::Tls},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{Status, body::Body, codec::CompressionEncoding, service::Routes as Services, transport};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::Builder as Reflection;

use crate::{
    config::{self, Config, Route},
    control::Control,
    grpc::{
        self,
        guard::{self, Guard},
        presence::Reads,
    },
    http::{self, Backends},
    metrics::Metrics,
    publish::Publish,
    refusals::Refusals,
    routing::{self, live::Live},
    source::Intake,
};

/// What `grpc.health.v1` is asked about; the empty name is the server as a whole.
const SERVICES: [&str; 2] = ["", tidings_proto::fanout::fanout_server::SERVICE_NAME];

/// This too, where it is known where presence runs.
const PRESENCE: &str = tidings_proto::presence::presence_server::SERVICE_NAME;

/// The fanout service, its port already taken.
#[derive(Debug)]
pub struct Fanout {
    listener: TcpListener,
    tls: Option<Tls>,
    address: SocketAddr,
    router: Router,
    health: HealthReporter,
    /// What the health service knows.
    services: Vec<&'static str>,
    routes: Live,
    intake: Intake,
    /// Tells streams to go elsewhere.
    leave: watch::Sender<bool>,
}

/// What fanout uses of the process that it is part of.
#[derive(Debug, Clone)]
pub struct Deps {
    /// What the node is called: unique to this run of this process.
    pub node: String,
    /// Where publications go.
    pub broker: Broker,
    /// What channels offer, the same as at the gateways. Nothing is published to a channel whose namespace is not
    /// among them.
    pub namespaces: Namespaces,
    /// Where `List` and `Stats` are passed on to; `None` when it is not known where presence runs.
    pub presence: Option<transport::Channel>,
}

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `[backends]` is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A `[[route]]` is wrong.
    #[error(transparent)]
    Routes(#[from] routing::ConfigError),
    /// The port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system does not say which port it gave.
    #[error("cannot tell the address of the backends' door: {0}")]
    Address(#[source] io::Error),
}

impl Fanout {
    /// Checks the configuration and takes the port.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`Error`]; nothing listens then.
    pub fn bind(
        config: &Config,
        routes: &[Route],
        deps: Deps,
        registry: &mut Registry,
    ) -> Result<Self, Error> {
        let Deps {
            node,
            broker,
            namespaces,
            presence,
        } = deps;
        let has_presence = presence.is_some();
        let keys = config.check()?;
        let tls = config.tls()?;
        let routes = Live::new(routes, namespaces.clone(), registry)?;
        let listener = serve::bind("backends", config.listen)?;
        let address = listener.local_addr().map_err(Error::Address)?;

        let metrics = Metrics::register(registry);
        let message_size = usize::try_from(config.message_size.as_u64()).unwrap_or(usize::MAX);
        let refusals = Arc::<Refusals>::default();
        let (leave, leaving) = watch::channel(false);
        let publish = Publish::new(
            &broker,
            routes.clone(),
            namespaces.clone(),
            keys.as_ref(),
            refusals.clone(),
            metrics.clone(),
        );
        let fanout = Arc::new(grpc::Fanout {
            publish: Arc::new(publish),
            leaving,
            // Not the name of the gateway that may be in the same process.
            control: Control::new(&broker, format!("fanout-{node}").into()),
            metrics: metrics.clone(),
        });
        let guard = Arc::new(Guard {
            keys,
            message_size,
            refusals,
            metrics,
        });
        let backends = Backends {
            guard: guard.clone(),
            fanout: fanout.clone(),
            presence: Reads {
                presence: presence.clone(),
                namespaces: namespaces.clone(),
            },
            streams: broker.streams(),
            namespaces: namespaces.clone(),
        };
        let intake = Intake(fanout.clone());
        let reads = Reads { presence, namespaces };
        let guarded = Services::from(Router::new())
            .add_service(
                FanoutServer::from_arc(fanout)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(message_size),
            )
            .add_service(
                PresenceServer::new(reads)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(message_size),
            )
            .into_axum_router()
            .layer(middleware::from_fn_with_state(guard, guard::guard));
        let health = HealthReporter::new();
        let services = SERVICES.into_iter().chain(has_presence.then_some(PRESENCE));
        let router = guarded
            .merge(http::routes(backends))
            .merge(open(health.clone()))
            .fallback(no_such_path);
        Ok(Self {
            listener,
            tls,
            address,
            router,
            health,
            services: services.collect(),
            routes,
            intake,
            leave,
        })
    }

    /// Where it listens; the port is the real one when port 0 was configured.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The routes in force, to be replaced by whoever reads the configuration.
    #[must_use]
    pub fn routes(&self) -> Live {
        self.routes.clone()
    }

    /// TLS as the door speaks it, to be renewed by whoever watches the files.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// Where sources put the events that they take from elsewhere.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Says `NOT_SERVING` to those who ask `grpc.health.v1`, once `draining` completes; calls are answered as long as it runs.
    pub fn refer_elsewhere_after<F: Future<Output = ()>>(
        &self,
        draining: F,
    ) -> impl Future<Output = ()> + use<F> {
        let (health, services) = (self.health.clone(), self.services.clone());
        async move {
            draining.await;
            for name in services {
                health.set_service_status(name, ServingStatus::NotServing).await;
            }
        }
    }

    /// Answers until `shutdown` is requested. Requests in flight are then finished by tasks of `shutdown`.
    pub async fn run(self, shutdown: Shutdown) {
        let Self {
            listener: tcp,
            tls,
            router,
            mut health,
            services,
            leave,
            ..
        } = self;
        for &name in &services {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        serve::serve(serve::Listener { tcp, tls }, router, Limits::default(), shutdown).await;
        leave.send_replace(true);
        for name in services {
            health.set_service_status(name, ServingStatus::NotServing).await;
            // Ends the streams of those who watch: they would keep the shutdown waiting.
            health.clear_service_status(name).await;
        }
    }
}

/// What anyone may ask without a key: is it up, and what does it speak.
fn open(health: HealthReporter) -> Router {
    let reflection = || Reflection::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
    let valid = "the descriptors were made by this build";
    Services::from(Router::new())
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)))
        .add_service(reflection().build_v1().expect(valid))
        .add_service(reflection().build_v1alpha().expect(valid))
        .into_axum_router()
}

/// The answer to a path that is not served: a status for gRPC, JSON for everyone else.
async fn no_such_path(request: Request) -> Response {
    let path = request.uri().path();
    if guard::is_grpc(request.headers()) {
        let status = Status::unimplemented(format!("there is no method {path} here"));
        return status.into_http::<Body>().map(axum::body::Body::new);
    }
    let why = format!(
        "{path} is not here: this is the backends' door, which speaks gRPC (tidings.fanout.v1.Fanout) and HTTP \
        (/v1/events, /api)"
    );
    (StatusCode::NOT_FOUND, guard::error_json(&why)).into_response()
}
