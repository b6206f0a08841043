//! What several handlers read of a request.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use super::Refused;

/// How long a request's body may take.
const BODY: Duration = Duration::from_secs(10);

/// A request's body, of at most `limit` bytes.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Refused> {
    let body = timeout(BODY, Limited::new(body, limit).collect())
        .await
        .map_err(|_| Refused::new(StatusCode::REQUEST_TIMEOUT, "the body took more than 10 seconds"))?;
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Refused::new(StatusCode::BAD_REQUEST, "the body broke off")),
    }
}

/// A body, or what is in it, is larger than a message may be.
pub(super) fn too_large() -> Refused {
    Refused::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "larger than clients.limits.message_size",
    )
}

/// What was read is not what it should be.
pub(super) fn malformed(why: &dyn std::error::Error) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, why.to_string())
}

/// Whether a body is Protobuf, and the answer shall be: everything else is JSON.
pub(super) fn is_protobuf(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|it| it.as_bytes().starts_with(b"application/octet-stream"))
}

/// `Authorization: Bearer`, for clients that can set it.
pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}
