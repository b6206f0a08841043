//! What several handlers read of a request.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequestParts, Query},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Refused;
use crate::wire::without_values;

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
pub(super) fn malformed(why: &(dyn std::error::Error + 'static)) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, without_values(why))
}

/// The query of a URL.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Refused::new(StatusCode::BAD_REQUEST, rejection.body_text())),
        }
    }
}

/// A header with all its lines: one list (RFC 9110 section 5.3), of which a cookie's crumbs are joined in their own way
/// (RFC 9113 section 8.2.3). Lines that are not text are left out.
pub(super) fn whole_header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    let between = if *name == header::COOKIE { "; " } else { ", " };
    (!lines.is_empty()).then(|| lines.join(between))
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_header_is_all_its_lines_and_a_cookies_are_joined_as_cookies_are() {
        let lines = [
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-for", "203.0.113.1"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-empty", ""),
        ];
        let headers: HeaderMap = lines
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let mut headers = headers;
        let bytes = HeaderValue::from_bytes(b"\xff").expect("legal");
        headers.append("x-forwarded-for", bytes.clone());
        headers.append("x-bytes", bytes);
        let whole = |name| whole_header(&headers, &HeaderName::from_static(name));
        assert_eq!(whole("x-forwarded-for").as_deref(), Some("9.9.9.9, 203.0.113.1"));
        assert_eq!(whole("cookie").as_deref(), Some("a=1; b=2"));
        assert_eq!(whole("x-empty").as_deref(), Some(""));
        assert_eq!((whole("x-bytes"), whole("absent")), (None, None));
    }
}
