//! The clients' door in HTTP: who comes in, and by which of its ways. After that a client is a core's.

mod cors;
mod emulation;
mod plain;
mod request;
mod streaming;
mod websocket;

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use axum::{
    Extension, Json, Router,
    extract::ConnectInfo,
    http::{HeaderMap, HeaderName, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tidings_runtime::Shutdown;

use crate::{
    admission::{self, Admission, Place},
    adopt::About,
    cores::Cores,
    node::Node,
};

/// What the handlers need.
pub(crate) struct Door {
    pub(crate) cores: Cores,
    pub(crate) node: Arc<Node>,
    pub(crate) admission: Admission,
    pub(crate) shutdown: Shutdown,
    /// Headers that are kept for the user's backend.
    pub(crate) kept_headers: Arc<[HeaderName]>,
}

type Peer = Extension<ConnectInfo<SocketAddr>>;

/// The clients' routes.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let requests = Router::new()
        .route("/connection/http_stream", post(streaming::http_stream))
        .route("/connection/sse", get(streaming::sse).post(streaming::sse))
        .route(
            "/connection/uni_sse",
            get(streaming::uni_sse).post(streaming::uni_sse),
        )
        .route("/connection/uni_http_stream", post(streaming::uni_http_stream))
        .route("/emulation", post(emulation::emulate))
        .route("/sse/{*channel}", get(plain::events))
        .route("/connection/init", get(async || Json(json!({}))))
        // Before the layer, which answers OPTIONS.
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(door.clone(), cors::allow));
    Router::new()
        .route("/connection/websocket", get(websocket::centrifuge))
        .route("/connection/uni_websocket", get(websocket::uni))
        .route("/ws/{*channel}", get(plain::socket))
        .route("/health", get(async || Json(json!({ "status": "ok" }))))
        .merge(requests)
        .method_not_allowed_fallback(wrong_method)
        .fallback(async || {
            Refused::new(
                StatusCode::NOT_FOUND,
                "no such path; clients connect to /connection/websocket, /ws/{channel} or /sse/{channel}",
            )
        })
        .with_state(door)
}

async fn wrong_method() -> Refused {
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "not by this method; see Allow")
}

/// A request that is not granted: in JSON, for people.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    why: Cow<'static, str>,
    /// The client is an `EventSource` that shall come back: after any other status than 200 it never does.
    again: bool,
}

impl Refused {
    fn new(status: StatusCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            why: why.into(),
            again: false,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        if self.again {
            return streaming::again();
        }
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}

impl From<admission::Refused> for Refused {
    fn from(refused: admission::Refused) -> Self {
        Self::new(refused.status(), refused.to_string())
    }
}

impl Door {
    /// Lets a client in, by whichever way it comes, or says why not.
    fn admit(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Place, Refused> {
        Ok(self.admission.admit(peer, headers)?)
    }

    /// What is kept of how a client came.
    fn about(&self, transport: &'static str, remote: SocketAddr, headers: &HeaderMap) -> Arc<About> {
        let kept = |name| request::whole_header(headers, name).map(|value| (name.to_string(), value));
        Arc::new(About {
            transport,
            headers: self.kept_headers.iter().filter_map(kept).collect(),
            remote,
        })
    }
}
