//! The API key, or the client certificate that stands for it, asked for before anything of a request's body is read.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Extensions, HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tidings_auth::{Key, Keys, Method, keys::Refused};
use tidings_proto::{fanout::fanout_server, presence::presence_server};
use tidings_runtime::serve::tls::ClientCertificate;
use tonic::{Code, Status, body::Body};

use super::{Caller, status};
use crate::{metrics::Metrics, refusals::Refusals};

const HOW: &str = "send one as metadata `x-api-key: KEY` or `authorization: Bearer KEY`";

/// How tonic's messages about requests begin that are not Protobuf, or not gzip.
const UNREADABLE: [&str; 2] = ["failed to decode Protobuf message", "Error decompressing"];

/// What stands before the services.
pub(crate) struct Guard {
    /// `None`: no key is asked for.
    pub(crate) keys: Option<Keys>,
    /// The largest request, in bytes.
    pub(crate) message_size: usize,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) metrics: Metrics,
}

/// Lets a request with a key through, with its [`Caller`] among the extensions.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        let path = request.uri().path();
        let why =
            format!("{path} is a gRPC method: call it with a gRPC client (content-type application/grpc)");
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, error_json(&why)).into_response();
    }
    let key = match guard.authenticate(presented(request.headers()), request.extensions()) {
        Ok(key) => key,
        Err(status) => return status.into_http::<Body>().map(axum::body::Body::new),
    };
    if let Err(status) = guard.permit(key.as_deref(), method_of(request.uri().path())) {
        return status.into_http::<Body>().map(axum::body::Body::new);
    }
    request.extensions_mut().insert(Caller(key));
    guard.reword(next.run(request).await)
}

impl Guard {
    /// Whose request it is, by the keys that it shows and the certificate of its connection. The first key that is good
    /// counts; no certificate makes up for wrong ones.
    pub(crate) fn authenticate<'p>(
        &self,
        presented: impl IntoIterator<Item = &'p str>,
        extensions: &Extensions,
    ) -> Result<Option<Arc<Key>>, Status> {
        let Some(keys) = &self.keys else {
            return Ok(None);
        };
        let names = extensions.get().map_or(&[][..], ClientCertificate::names);
        let mut presented = presented.into_iter().peekable();
        let has_key = presented.peek().is_some();
        let found = if has_key {
            let tried = presented.map(|key| keys.authenticate(key, names));
            tried.reduce(Result::or).unwrap_or(Err(Refused::Unknown))
        } else {
            keys.by_certificate(names).ok_or(Refused::Unknown)
        };
        let (key, reason, message) = match found {
            Ok(key) => return Ok(Some(key.clone())),
            Err(Refused::Certificate(key)) => (
                key.name(),
                "CERTIFICATE_INVALID",
                "the API key is good only with the client certificate of its user (backends.key.certificate)"
                    .to_owned(),
            ),
            Err(Refused::Unknown) if has_key => (
                "",
                "API_KEY_INVALID",
                format!("the API key is none of those configured: {HOW}"),
            ),
            Err(Refused::Unknown) if names.is_empty() => {
                ("", "API_KEY_MISSING", format!("an API key is required: {HOW}"))
            }
            Err(Refused::Unknown) => (
                "",
                "API_KEY_MISSING",
                format!(
                    "an API key is required, as no backends.key.certificate is in the client certificate: {HOW}"
                ),
            ),
        };
        self.metrics.keys_refused.inc();
        self.refusals.note(key, reason, &message);
        Err(status::refused(Code::Unauthenticated, reason, message, &[]))
    }

    /// Whether the key may ask for a method; see [`Key::may`].
    pub(crate) fn permit(&self, key: Option<&Key>, method: Option<Method>) -> Result<(), Status> {
        let Some(key) = key.filter(|key| !key.may(method)) else {
            return Ok(());
        };
        let (name, method) = (key.name(), method.map_or("this", Method::name));
        let why =
            format!("the API key {name:?} may not ask for {method:?}; its scope is backends.key.methods");
        self.refusals.note(name, "METHOD_OUT_OF_SCOPE", &why);
        let about = [("key", name), ("method", method)];
        Err(status::refused(
            Code::PermissionDenied,
            "METHOD_OUT_OF_SCOPE",
            why,
            &about,
        ))
    }

    /// What tonic says of a request that it cannot take, as backends should hear it. Of one that is too large it says
    /// OUT_OF_RANGE, where gRPC's other implementations say RESOURCE_EXHAUSTED; nothing else here says OUT_OF_RANGE.
    /// Of one that cannot be decoded it says INTERNAL, which would be our fault.
    fn reword(&self, response: Response) -> Response {
        let Some(status) = Status::from_header_map(response.headers()) else {
            return response;
        };
        let status = match status.code() {
            Code::OutOfRange => {
                let limit = self.message_size.to_string();
                let message =
                    format!("the request is larger than {limit} bytes, which backends.message_size allows");
                let about = [("limit", limit.as_str())];
                status::refused(Code::ResourceExhausted, "REQUEST_TOO_LARGE", message, &about)
            }
            Code::Internal if UNREADABLE.iter().any(|why| status.message().starts_with(why)) => {
                let message = format!("the request cannot be read: {}", status.message());
                status::refused(Code::InvalidArgument, "REQUEST_UNREADABLE", message, &[])
            }
            _ => return response,
        };
        status.into_http::<Body>().map(axum::body::Body::new)
    }
}

/// What a call of gRPC asks for, by its path; `None`: something that no scope has a word for.
fn method_of(path: &str) -> Option<Method> {
    let (service, call) = path.strip_prefix('/')?.split_once('/')?;
    match (service, call) {
        (presence_server::SERVICE_NAME, "List" | "Stats" | "Lookup" | "Watch") => Some(Method::Presence),
        (fanout_server::SERVICE_NAME, call) => Some(match call {
            "Publish" | "PublishBatch" | "PublishStream" => Method::Publish,
            "Disconnect" => Method::Disconnect,
            "Subscribe" => Method::Subscribe,
            "Unsubscribe" => Method::Unsubscribe,
            "Refresh" => Method::Refresh,
            "Send" => Method::Send,
            "Info" => Method::Info,
            "Channels" => Method::Channels,
            _ => return None,
        }),
        _ => None,
    }
}

/// Whether a request is gRPC, by its content type: `application/grpc`, `application/grpc+proto`.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| content_type.starts_with("application/grpc"))
}

/// An error for whoever speaks HTTP to this port.
pub(crate) fn error_json(message: &str) -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "error": message }))
}

/// `x-api-key: K`, `authorization: apikey K` or `authorization: Bearer K`.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    let (scheme, key) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("apikey") || scheme.eq_ignore_ascii_case("bearer");
    known.then_some(key.trim_start())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_that_backends_can_make_has_a_word_for_scopes() {
        let descriptors = FileDescriptorSet::decode(tidings_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut calls = 0;
        for file in &descriptors.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    // Those are for gateways, and not here.
                    let internal = matches!(method.name(), "Attach" | "Announced");
                    assert_eq!(method_of(&path).is_none(), internal, "{path}");
                    calls += 1;
                }
            }
        }
        assert!(calls > 12, "{calls}");
        for path in ["", "/", "/Publish", "/other.Fanout/Publish"] {
            assert_eq!(method_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_key_is_found_in_every_place_where_clients_put_one() {
        let check = |name: &'static str, value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(presented(&headers), expected, "{name}: {value}");
        };
        check("x-api-key", "k", Some("k"));
        check("authorization", "apikey k", Some("k"));
        check("authorization", "Bearer k", Some("k"));
        check("authorization", "bearer  k", Some("k"));
        check("authorization", "Basic k", None);
        check("authorization", "k", None);
        check("other", "k", None);
    }
}
