//! Clients that hear by the response to one request, and speak, if at all, by others.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use tidings_protocol::{CloseReason, Command};

use super::{
    Door, Peer, Refused,
    request::{Parameters, is_protobuf, malformed, whole},
};
use crate::{
    admission::Place,
    adopt::{Addressed, Adoption, Sink},
    body,
    reconnect::{comes_back, retry},
    wire::{Language, Wire, greeting},
};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Nobody may keep what is said, nor hold it back.
const NOT_KEPT: HeaderValue =
    HeaderValue::from_static("private, no-cache, no-store, must-revalidate, max-age=0");

/// What an event stream begins with, so that whoever stands between sees it begin at once.
const BEGINNING: Bytes = Bytes::from_static(b"\r\n");

/// A client that asks for a stream.
pub(super) struct Asked {
    pub(super) wire: Wire,
    pub(super) transport: &'static str,
    /// What it says in the words of its language.
    pub(super) first: Bytes,
    /// What it says otherwise.
    pub(super) opening: Vec<Command>,
    pub(super) addressed: Addressed,
}

#[derive(Deserialize)]
pub(super) struct ConnectQuery {
    cf_connect: Option<String>,
}

/// The Centrifuge protocol in lines of JSON, or in Protobuf.
pub(super) async fn http_stream(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let place = door.admit(peer.0, &parts.headers)?;
    let language = if is_protobuf(&parts.headers) {
        Language::LinesProtobuf
    } else {
        Language::LinesJson
    };
    let asked = Asked {
        wire: Wire::new(language),
        transport: "http_stream",
        first: whole(body, door.node.message).await?,
        opening: Vec::new(),
        addressed: Addressed::Emulated,
    };
    Ok(door.stream(peer.0, &parts, place, asked))
}

/// The Centrifuge protocol in server-sent events.
pub(super) async fn sse(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Parameters(query): Parameters<ConnectQuery>,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let place = door.admit(peer.0, &parts.headers)?;
    let first = match (&parts.method, query.cf_connect) {
        (&Method::POST, _) => whole(body, door.node.message).await?,
        (_, Some(commands)) => commands.into(),
        (_, None) => {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "`cf_connect` is missing: the client's first commands, in JSON",
            ));
        }
    };
    let asked = Asked {
        wire: Wire::new(Language::SseJson),
        transport: "sse",
        first,
        opening: Vec::new(),
        addressed: Addressed::Emulated,
    };
    Ok(door.stream(peer.0, &parts, place, asked))
}

/// The unidirectional protocol in server-sent events.
pub(super) async fn uni_sse(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Parameters(query): Parameters<ConnectQuery>,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let place = door.admit_listener(peer.0, &parts)?;
    let connect = match &parts.method {
        &Method::POST => whole(body, door.node.message).await?,
        _ => query.cf_connect.unwrap_or_default().into(),
    };
    let asked = Asked::uni(Language::SseUni, "uni_sse", &connect)?;
    door.judged(peer.0, &parts, place, asked).await
}

/// The unidirectional protocol in lines of JSON.
pub(super) async fn uni_http_stream(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let place = door.admit(peer.0, &parts.headers)?;
    let connect = whole(body, door.node.message).await?;
    let asked = Asked::uni(Language::LinesUni, "uni_http_stream", &connect)?;
    door.judged(peer.0, &parts, place, asked).await
}

impl Asked {
    fn uni(language: Language, transport: &'static str, connect: &[u8]) -> Result<Self, Refused> {
        Ok(Self {
            wire: Wire::new(language),
            transport,
            first: Bytes::new(),
            opening: vec![greeting(connect).map_err(|error| malformed(&error))?],
            addressed: Addressed::Named,
        })
    }
}

impl Door {
    /// Gives a client to a core, and begins the response at once.
    fn stream(&self, peer: SocketAddr, parts: &Parts, place: Place, asked: Asked) -> Response {
        let language = asked.wire.language();
        let (writer, body) = open(parts, place, language);
        self.adopt_stream(peer, &parts.headers, writer, asked);
        respond(body, language)
    }

    /// Gives a client to a core, and begins the response when the session has begun: a client that is not let in is told
    /// by the status.
    pub(super) async fn judged(
        &self,
        peer: SocketAddr,
        parts: &Parts,
        place: Place,
        asked: Asked,
    ) -> Result<Response, Refused> {
        let language = asked.wire.language();
        let (mut writer, body) = open(parts, place, language);
        let verdict = writer.verdict();
        self.adopt_stream(peer, &parts.headers, writer, asked);
        match verdict.await.unwrap_or(Err(CloseReason::Shutdown)) {
            Ok(()) => Ok(respond(body, language)),
            // An EventSource that gets any other status than 200 never comes back. Where coming back as it is helps, the
            // stream just ends.
            Err(reason) if language.is_sse() && passes(&reason) => Ok(respond(body, language)),
            Err(reason) => Err(Refused::new(status(&reason), reason.text().to_owned())),
        }
    }

    /// Lets a client in that may be an `EventSource`, which shall come back if this is just not the moment.
    pub(super) fn admit_listener(&self, peer: SocketAddr, parts: &Parts) -> Result<Place, Refused> {
        let place = self.admission.admit(peer, &parts.headers);
        place.map_err(|refused| Refused {
            again: refused.passes() && parts.method == Method::GET,
            ..refused.into()
        })
    }

    fn adopt_stream(&self, peer: SocketAddr, headers: &HeaderMap, writer: body::Writer, asked: Asked) {
        self.cores.adopt(Adoption {
            sink: Sink::Body(writer),
            received: asked.first,
            wire: asked.wire,
            opening: asked.opening,
            addressed: asked.addressed,
            about: self.about(asked.transport, peer, headers),
        });
    }
}

fn open(parts: &Parts, place: Place, language: Language) -> (body::Writer, body::Body<Place>) {
    let (mut writer, body) = body::pair(place, parts.extensions.get().cloned());
    if language.is_sse() {
        let _ = writer.push(BEGINNING, usize::MAX); // never full
    }
    (writer, body)
}

fn respond(body: body::Body<Place>, language: Language) -> Response {
    match language {
        _ if language.is_sse() => event_stream(Body::new(body)),
        Language::LinesProtobuf => stream(BYTES, Body::new(body)),
        _ => stream(LINES, Body::new(body)),
    }
}

/// A stream that ends as it begins.
pub(super) fn again() -> Response {
    event_stream(Body::from(retry()))
}

fn event_stream(body: Body) -> Response {
    stream(EVENT_STREAM, body)
}

fn stream(kind: HeaderValue, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, NOT_KEPT),
        // nginx and those who copied it from there
        (
            header::HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, body).into_response()
}

/// The nearest that HTTP has to the reason why a session ended before it began.
fn status(reason: &CloseReason) -> StatusCode {
    match reason {
        CloseReason::InvalidToken | CloseReason::Expired | CloseReason::SubscriptionExpired => {
            StatusCode::UNAUTHORIZED
        }
        CloseReason::PermissionDenied | CloseReason::ForceDisconnect => StatusCode::FORBIDDEN,
        CloseReason::NotAvailable => StatusCode::NOT_FOUND,
        CloseReason::TooManyRequests | CloseReason::ConnectionLimit | CloseReason::ChannelLimit => {
            StatusCode::TOO_MANY_REQUESTS
        }
        _ if comes_back(reason) => StatusCode::SERVICE_UNAVAILABLE,
        CloseReason::Application { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Whether a client may be let in that says the same again later. One whose token is past would have to get another.
fn passes(reason: &CloseReason) -> bool {
    comes_back(reason) && !matches!(reason, CloseReason::Expired | CloseReason::SubscriptionExpired)
}
