//! WebSocket handshakes. After one the plain socket is taken back from the HTTP server and given to a core.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade};
use serde::Deserialize;
use tidings_protocol::Command;
use tidings_websocket::handshake;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Door, Peer, Refused,
    request::{Parameters, malformed},
};
use crate::{
    admission::Place,
    adopt::{About, Addressed, Adoption, Sink},
    wire::{Language, Wire, greeting},
};

/// How long a handshake may take after we have agreed to it.
const UPGRADE: Duration = Duration::from_secs(10);

/// The subprotocols of Centrifuge clients that ask for one.
const JSON: &str = "centrifuge-json";
const PROTOBUF: &str = "centrifuge-protobuf";

#[derive(Deserialize)]
pub(super) struct CentrifugeQuery {
    format: Option<String>,
    cf_protocol: Option<String>,
    cf_ws_frame_ping_pong: Option<String>,
}

/// The Centrifuge protocol, in Protobuf where the URL or the subprotocol asks for it.
pub(super) async fn centrifuge(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Parameters(query): Parameters<CentrifugeQuery>,
    request: Request,
) -> Result<Response, Refused> {
    let asked = [query.format, query.cf_protocol]
        .iter()
        .flatten()
        .any(|format| format == "protobuf");
    let subprotocol = handshake::protocol(request.headers(), &[JSON, PROTOBUF]);
    let wire = if asked || subprotocol == Some(PROTOBUF) {
        Wire::new(Language::WebSocketProtobuf)
    } else {
        Wire::new(Language::WebSocketJson)
    };
    let wire = match query.cf_ws_frame_ping_pong.as_deref() {
        Some("true") => wire.with_control_pings(),
        _ => wire,
    };
    let agreed = Agreed {
        wire,
        opening: Vec::new(),
        transport: "websocket",
        addressed: Addressed::No,
        subprotocol,
    };
    door.upgrade(peer.0, request, agreed)
}

#[derive(Deserialize)]
pub(super) struct UniQuery {
    cf_connect: Option<String>,
}

/// The unidirectional protocol. The client says who it is in the URL or in its first message.
pub(super) async fn uni(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Parameters(query): Parameters<UniQuery>,
    request: Request,
) -> Result<Response, Refused> {
    let (wire, opening) = match query.cf_connect {
        Some(text) => (
            Wire::new(Language::WebSocketUni),
            vec![greeting(text.as_bytes()).map_err(|error| malformed(&error))?],
        ),
        None => (Wire::awaiting_greeting(), Vec::new()),
    };
    let agreed = Agreed {
        wire,
        opening,
        transport: "uni_websocket",
        addressed: Addressed::Named,
        subprotocol: None,
    };
    door.upgrade(peer.0, request, agreed)
}

/// What a handshake is about.
pub(super) struct Agreed {
    pub(super) wire: Wire,
    /// What the URL says already.
    pub(super) opening: Vec<Command>,
    pub(super) transport: &'static str,
    pub(super) addressed: Addressed,
    pub(super) subprotocol: Option<&'static str>,
}

impl Door {
    /// Answers a handshake; when the client has heard, its socket goes to a core.
    pub(super) fn upgrade(
        self: &Arc<Self>,
        peer: SocketAddr,
        mut request: Request,
        agreed: Agreed,
    ) -> Result<Response, Refused> {
        let accept = match handshake::check(request.method(), request.headers()) {
            Ok(accept) => accept,
            Err(error) => return Ok(refuse(error)),
        };
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "a WebSocket needs HTTP/1.1",
            ));
        };
        let place = self.admit(peer, request.headers())?;
        let about = self.about(agreed.transport, peer, request.headers());
        let response = switch(&accept, agreed.subprotocol);
        let door = self.clone();
        self.shutdown.spawn(async move {
            match timeout(UPGRADE, upgrade).await {
                Ok(Ok(upgraded)) => door.adopt(upgraded, agreed, about, place),
                Ok(Err(error)) => {
                    tracing::debug!(peer.address = %peer, %error, "a handshake was not completed");
                }
                Err(_) => tracing::debug!(peer.address = %peer, "a handshake took too long"),
            }
        });
        Ok(response)
    }

    fn adopt(&self, upgraded: Upgraded, agreed: Agreed, about: Arc<About>, place: Place) {
        // Everything is served over plain TCP by our own accept loop, so this is what it must be.
        let Ok(parts) = upgrade::downcast::<TokioIo<TcpStream>>(upgraded) else {
            tracing::error!("an upgraded connection is not a TCP stream");
            return;
        };
        match parts.io.into_inner().into_std() {
            Ok(stream) => self.cores.adopt(Adoption {
                sink: Sink::Socket(stream, place),
                received: parts.read_buf,
                wire: agreed.wire,
                opening: agreed.opening,
                addressed: agreed.addressed,
                about,
            }),
            Err(error) => tracing::warn!(%error, "a client's socket could not be handed over"),
        }
    }
}

/// 101, RFC 6455 section 4.2.2.
fn switch(accept: &str, subprotocol: Option<&'static str>) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(subprotocol) = subprotocol {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(subprotocol),
        );
    }
    response
}

/// What RFC 9110 asks for beside the status: which protocol to upgrade to, or which method to use.
fn refuse(error: handshake::Error) -> Response {
    let mut response = Refused::new(error.status(), error.to_string()).into_response();
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
