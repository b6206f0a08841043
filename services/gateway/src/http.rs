//! The clients' door in HTTP: handshakes, and who may make one. After the handshake a socket is a core's.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade};
use serde::Deserialize;
use tidings_core::Channel;
use tidings_protocol::{Command, plain};
use tidings_runtime::Shutdown;
use tidings_websocket::handshake;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    admission::{Admission, Place},
    adopt::{About, Adoption},
    cores::Cores,
    wire::{Language, Wire},
};

/// How long a handshake may take after we have agreed to it.
const UPGRADE: Duration = Duration::from_secs(10);

/// The subprotocols of Centrifuge clients that ask for one.
const JSON: &str = "centrifuge-json";
const PROTOBUF: &str = "centrifuge-protobuf";

/// What the handlers need.
pub(crate) struct Door {
    pub(crate) cores: Cores,
    pub(crate) admission: Admission,
    pub(crate) shutdown: Shutdown,
    /// Headers that are kept for the user's backend.
    pub(crate) kept_headers: Arc<[HeaderName]>,
}

type Peer = Extension<ConnectInfo<SocketAddr>>;

/// The clients' routes.
pub(crate) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/connection/websocket", get(centrifuge))
        .route("/ws/{*channel}", get(bare))
        .route(
            "/health",
            get(async || Json(serde_json::json!({ "status": "ok" }))),
        )
        .fallback(async || {
            refuse(
                StatusCode::NOT_FOUND,
                "no such path; clients connect to /connection/websocket or /ws/{channel}",
            )
        })
        .with_state(door)
}

#[derive(Deserialize)]
struct CentrifugeQuery {
    format: Option<String>,
    cf_protocol: Option<String>,
}

/// The Centrifuge protocol, in Protobuf where the URL or the subprotocol asks for it.
async fn centrifuge(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Query(query): Query<CentrifugeQuery>,
    request: Request,
) -> Response {
    let asked = [query.format, query.cf_protocol]
        .iter()
        .flatten()
        .any(|format| format == "protobuf");
    let chosen = handshake::protocol(request.headers(), &[JSON, PROTOBUF]);
    let wire = if asked || chosen == Some(PROTOBUF) {
        Wire::new(Language::WebSocketProtobuf)
    } else {
        Wire::new(Language::WebSocketJson)
    };
    door.upgrade(peer.0, request, wire, Vec::new(), chosen)
}

#[derive(Deserialize)]
struct BareQuery {
    token: Option<String>,
}

/// The plain protocol.
async fn bare(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Path(channel): Path<String>,
    Query(query): Query<BareQuery>,
    request: Request,
) -> Response {
    if let Err(error) = Channel::parse(&channel) {
        return refuse(StatusCode::BAD_REQUEST, &error.to_string());
    }
    let token = bearer(request.headers()).or(query.token).unwrap_or_default();
    let opening = plain::opening(channel.clone(), token);
    let wire = Wire::plain(Language::WebSocketPlain, channel);
    door.upgrade(peer.0, request, wire, opening.into(), None)
}

/// `Authorization: Bearer`, for clients that can set it.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}

impl Door {
    /// Takes a place for a client, or says to it why it has none.
    fn admit(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Place, Response> {
        let place = self.admission.admit(peer, headers);
        place.map_err(|refused| refuse(refused.status(), &refused.to_string()))
    }

    /// Answers a handshake; when the client has heard, its socket goes to a core.
    fn upgrade(
        self: &Arc<Self>,
        peer: SocketAddr,
        mut request: Request,
        wire: Wire,
        opening: Vec<Command>,
        protocol: Option<&'static str>,
    ) -> Response {
        let place = match self.admit(peer, request.headers()) {
            Ok(place) => place,
            Err(refused) => return refused,
        };
        let accept = match handshake::check(request.method(), request.headers()) {
            Ok(accept) => accept,
            Err(error) => return refuse_handshake(error),
        };
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return refuse(StatusCode::BAD_REQUEST, "a WebSocket needs HTTP/1.1");
        };
        let about = Arc::new(About {
            transport: "websocket",
            headers: Vec::new(),
            remote: peer,
        });
        let door = self.clone();
        self.shutdown.spawn(async move {
            match timeout(UPGRADE, upgrade).await {
                Ok(Ok(upgraded)) => door.adopt(upgraded, wire, opening, about, place),
                Ok(Err(error)) => {
                    tracing::debug!(peer.address = %peer, %error, "a handshake was not completed");
                }
                Err(_) => tracing::debug!(peer.address = %peer, "a handshake took too long"),
            }
        });
        switch(&accept, protocol)
    }

    fn adopt(&self, upgraded: Upgraded, wire: Wire, opening: Vec<Command>, about: Arc<About>, place: Place) {
        // Everything is served over plain TCP by our own accept loop, so this is what it must be.
        let Ok(parts) = upgrade::downcast::<TokioIo<TcpStream>>(upgraded) else {
            tracing::error!("an upgraded connection is not a TCP stream");
            return;
        };
        match parts.io.into_inner().into_std() {
            Ok(stream) => self.cores.adopt(Adoption {
                stream,
                received: parts.read_buf,
                wire,
                opening,
                about,
                place,
            }),
            Err(error) => tracing::warn!(%error, "a client's socket could not be handed over"),
        }
    }
}

/// 101, RFC 6455 section 4.2.2.
fn switch(accept: &str, protocol: Option<&'static str>) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}

/// What RFC 9110 asks for beside the status: which protocol to upgrade to, or which method to use.
fn refuse_handshake(error: handshake::Error) -> Response {
    let mut response = refuse(error.status(), &error.to_string());
    let headers = response.headers_mut();
    match error.status() {
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static(handshake::VERSION),
            );
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        _ => {}
    }
    response
}
