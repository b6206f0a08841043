//! The backends' door over HTTP: CloudEvents at `/v1/events`, and the server API of the Centrifugo ecosystem at `/api`.
//!
//! It is a second way of speaking to the same service. What comes is put into the messages of `fanout.proto`, and goes the
//! way that they go; what is refused is told from the status that gRPC would have given. [`read`] takes a request apart
//! (whose is it, what is its body), [`cloudevents`] makes events of it, [`events`] answers for them, and [`api`] is the
//! other half.

mod api;
pub(crate) mod cloudevents;
mod events;
mod read;

use std::sync::Arc;

use axum::{
    Router,
    routing::{any, post},
};
use tidings_broker::Streams;
use tidings_core::Namespaces;

use crate::grpc::{self, guard::Guard, presence::Reads};

/// What requests are answered with.
pub(crate) struct Backends {
    pub(crate) guard: Arc<Guard>,
    pub(crate) fanout: Arc<grpc::Fanout>,
    pub(crate) presence: Reads,
    pub(crate) streams: Streams,
    pub(crate) namespaces: Namespaces,
}

/// All paths that are HTTP's own.
pub(crate) fn routes(backends: Backends) -> Router {
    Router::new()
        .route("/v1/events", post(events::take))
        // They answer 405 themselves: who has no key is told nothing else.
        .route("/api", any(api::by_name_in_body))
        .route("/api/{method}", any(api::by_path))
        .with_state(Arc::new(backends))
}
