//! Pages of other origins that use the ways of HTTP: the browser asks first, and then wants to hear that they may.
//! (A WebSocket is not subject to this; its origin is checked all the same.)

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Door, Peer, Refused};

/// The methods of the ways of HTTP.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");

/// How long a browser may remember that it may, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("300");

/// Answers a browser that asks first, and marks every other answer as good for the page that asked.
pub(super) async fn allow(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if let Err(refused) = door.admission.page(peer.0, headers) {
        return Refused::from(refused).into_response();
    }
    let origin = headers.get(header::ORIGIN).cloned();
    let wants = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        let asked = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
        ];
        (StatusCode::NO_CONTENT, asked).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    if let Some(wants) = wants {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wants);
    }
    response
}
