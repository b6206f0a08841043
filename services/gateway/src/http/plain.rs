//! The plain protocol: a channel in the path, and its bare data by WebSocket or in server-sent events.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use tidings_core::Channel;
use tidings_protocol::plain::{self, sse};

use super::{
    Door, Peer, Refused,
    request::{Parameters, bearer},
    streaming::Asked,
    websocket::Agreed,
};
use crate::{
    adopt::Addressed,
    wire::{Language, Wire},
};

#[derive(Deserialize)]
pub(super) struct SocketQuery {
    token: Option<String>,
}

/// By WebSocket, in both directions.
pub(super) async fn socket(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Path(channel): Path<String>,
    Parameters(query): Parameters<SocketQuery>,
    request: Request,
) -> Result<Response, Refused> {
    check(&channel)?;
    let token = bearer(request.headers()).or(query.token).unwrap_or_default();
    let agreed = Agreed {
        opening: plain::opening(channel.clone(), token).into(),
        wire: Wire::plain(Language::WebSocketPlain, channel),
        transport: "websocket",
        addressed: Addressed::No,
        subprotocol: None,
    };
    door.upgrade(peer.0, request, agreed)
}

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    token: Option<String>,
    /// For the first request of an `EventSource`, which cannot set the header.
    last_event_id: Option<String>,
}

/// In server-sent events.
pub(super) async fn events(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    Path(channel): Path<String>,
    Parameters(query): Parameters<EventsQuery>,
    request: Request,
) -> Result<Response, Refused> {
    check(&channel)?;
    let (parts, _) = request.into_parts();
    let place = door.admit_listener(peer.0, &parts)?;
    let token = bearer(&parts.headers).or(query.token).unwrap_or_default();
    let last = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    // The header is the newer: a browser sets it when it comes back, with the same URL as before.
    let since = last.or(query.last_event_id.as_deref());
    let opening = plain::resuming(channel.clone(), token, since.and_then(sse::last_event_id));
    let asked = Asked {
        wire: Wire::plain(Language::SsePlain, channel),
        transport: "sse",
        first: Bytes::new(),
        opening: opening.into(),
        addressed: Addressed::No,
    };
    door.judged(peer.0, &parts, place, asked).await
}

fn check(channel: &str) -> Result<(), Refused> {
    match Channel::parse(channel) {
        Ok(_) => Ok(()),
        Err(error) => Err(Refused::new(StatusCode::BAD_REQUEST, error.to_string())),
    }
}
