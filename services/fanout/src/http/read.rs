//! What every request brings: an API key, a trace, and a body that ends.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use tidings_auth::Key;

use crate::grpc::guard::{Guard, presented};

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// No key, or none that is configured, and no certificate in its place.
#[derive(Debug)]
pub(super) struct Stranger;

/// Whose request it is; `None` where no key is asked for. `query` is looked into when the headers show no key that is
/// good, and never repeated anywhere.
pub(super) fn caller(
    guard: &Guard,
    parts: &Parts,
    query: Option<&str>,
) -> Result<Option<Arc<Key>>, Stranger> {
    let by_query = query.and_then(in_query);
    let shown = presented(&parts.headers).into_iter().chain(by_query.as_deref());
    guard.authenticate(shown, &parts.extensions).map_err(|_| Stranger)
}

/// The first `api_key` of a query.
fn in_query(query: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, key) = pairs.find(|(name, _)| *name == "api_key")?;
    let key = percent_decode_str(key).decode_utf8().ok()?;
    Some(key.into_owned())
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("the body is encoded (content-encoding); send it as it is")]
    Encoded,
    #[error("the body is larger than {limit} bytes, which backends.message_size allows")]
    TooLarge { limit: usize },
    #[error("the body did not come within {} seconds", PATIENCE.as_secs())]
    Late,
    #[error("the body ended before its end")]
    Broken,
}

impl Unread {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// The whole of a body that has at most `limit` bytes.
pub(super) async fn body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Unread> {
    let coding = headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Unread::Encoded);
    }
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(PATIENCE, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge { limit }),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_query_is_its_first_and_decoded_once() {
        let check =
            |query, expected: Option<&str>| assert_eq!(in_query(query).as_deref(), expected, "{query}");
        check("api_key=k", Some("k"));
        check("a=b&api_key=k%2Bk%2525&api_key=other", Some("k+k%25"));
        check("api_key=", Some(""));
        check("", None);
        check("api_key", None);
        check("my_api_key=k", None);
        check("api_key=%ff", None);
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_as_it_is() {
        let none = HeaderMap::new();
        let read = async |text: &'static str| body(&none, Body::from(text), 4).await;
        assert_eq!(read("1234").await.unwrap(), "1234");
        assert!(matches!(read("12345").await, Err(Unread::TooLarge { limit: 4 })));
        let gzip = HeaderMap::from_iter([(header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
        assert!(matches!(
            body(&gzip, Body::empty(), 4).await,
            Err(Unread::Encoded)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let read = body(&HeaderMap::new(), never, 4).await;
        assert!(matches!(read, Err(Unread::Late)));
    }
}
