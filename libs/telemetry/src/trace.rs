//! One trace from a backend's publish to every gateway: its spans, and its context as text.
//!
//! The context travels as the two W3C headers (`traceparent`, `tracestate`; Trace Context, sections 3.2 and
//! 3.3): between backends and fanout in gRPC metadata, between nodes inside the bus's envelope. A node that
//! exports nothing hands on what it was given, so that the trace goes on behind it.
//!
//! ```text
//! the backend's span -> tidings.fanout.v1.Fanout/Publish -> publish CHANNEL -> deliver CHANNEL, per gateway
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// As global as the subscriber that [`crate::init`] sets.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// A place in a trace, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The `traceparent` header: version, trace, span and flags.
    pub traceparent: String,
    /// The `tracestate` header; may be empty.
    pub tracestate: String,
}

/// Whether spans are exported: one relaxed atomic load. What is made only for spans can be left out when not.
#[must_use]
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

pub(crate) fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// The context in a request's headers (gRPC metadata: `request.metadata().as_ref()`), if there is one.
///
/// It is as the caller sent it, and may be nonsense: [`continue_from`] starts a new trace then.
#[must_use]
pub fn of_headers(headers: &HeaderMap) -> Option<Context> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Some(Context {
        traceparent: text(TRACEPARENT)?.to_owned(),
        tracestate: text(TRACESTATE).unwrap_or_default().to_owned(),
    })
}

/// The context of `span`, for those who continue it. `None` when spans are not exported.
#[must_use]
pub fn of(span: &Span) -> Option<Context> {
    if !enabled() {
        return None;
    }
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut text = Context {
        traceparent: String::new(),
        tracestate: String::new(),
    };
    TraceContextPropagator::new().inject_context(&context, &mut text);
    Some(text)
}

/// The id of the trace that `span` is in, as 32 hexadecimal digits. `None` when the span is not exported, so that nobody
/// is sent to look for a trace that is not there.
#[must_use]
pub fn id(span: &Span) -> Option<String> {
    if !enabled() || span.is_disabled() {
        return None;
    }
    let context = span.context();
    let at = context.span().span_context().clone();
    (at.is_valid() && at.is_sampled()).then(|| at.trace_id().to_string())
}

/// What to send onward from `span`: its context, or the `incoming` one unchanged when spans are not exported.
#[must_use]
pub fn onward(span: &Span, incoming: Option<Context>) -> Option<Context> {
    of(span).or(incoming)
}

/// Puts what to send onward from `span` into a request's headers; see [`onward`].
pub fn inject_headers(span: &Span, incoming: Option<Context>, headers: &mut HeaderMap) {
    let Some(context) = onward(span, incoming) else {
        return;
    };
    if let Ok(traceparent) = context.traceparent.parse() {
        headers.insert(TRACEPARENT, traceparent);
    }
    if !context.tracestate.is_empty()
        && let Ok(tracestate) = context.tracestate.parse()
    {
        headers.insert(TRACESTATE, tracestate);
    }
}

/// Makes `span` a child of the span that `context` names, somewhere else. It must be done before the span is
/// entered or has children. A context that is no valid `traceparent` leaves it the root of a new trace.
pub fn continue_from(span: &Span, context: &Context) {
    if !enabled() || span.is_disabled() {
        return;
    }
    let parent = TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), context);
    if !parent.span().span_context().is_valid() {
        return;
    }
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(%error, "a span could not continue its caller's trace");
    }
}

/// The server's span of a gRPC call to `method` (`tidings.fanout.v1.Fanout/Publish`), continuing the caller's.
/// Record `rpc.response.status_code`, and `otel.status_code` = `"ERROR"` when the fault is ours.
#[must_use]
pub fn server(method: &'static str, incoming: Option<&Context>) -> Span {
    if !enabled() {
        return Span::none();
    }
    let span = info_span!(
        parent: None,
        "server",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
    );
    if let Some(context) = incoming {
        continue_from(&span, context);
    }
    span
}

/// The server's span of an HTTP request to `route` (`POST /v1/events`: the verb and the path's pattern, never the
/// query), continuing the caller's. [`answered`] ends it.
#[must_use]
pub fn http(route: &'static str, incoming: Option<&Context>) -> Span {
    if !enabled() {
        return Span::none();
    }
    let (verb, path) = route.split_once(' ').unwrap_or(("", route));
    let span = info_span!(
        parent: None,
        "server",
        otel.name = route,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = verb,
        http.route = path,
        http.response.status_code = Empty,
    );
    if let Some(context) = incoming {
        continue_from(&span, context);
    }
    span
}

/// Records what an HTTP request was answered with. A fault of ours is an error of the span.
pub fn answered(span: &Span, status: http::StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// The consumer's span of one event that a source took from `system` (`redis`), continuing the trace that the event
/// names: `take SOURCE`. Record `otel.status_code` = `"ERROR"` when it was not published.
#[must_use]
pub fn take(system: &'static str, source: &str, id: &str, incoming: Option<&Context>) -> Span {
    if !enabled() {
        return Span::none();
    }
    let span = info_span!(
        parent: None,
        "take",
        otel.name = format!("take {source}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.system = system,
        messaging.operation.name = "take",
        messaging.operation.type = "process",
        messaging.destination.name = source,
        messaging.message.id = id,
    );
    if let Some(context) = incoming {
        continue_from(&span, context);
    }
    span
}

/// The producer's span of one publication to `channel`, a child of `parent`: `publish CHANNEL`. `system` is the
/// bus: `redis` or `memory`.
#[must_use]
pub fn publish(system: &'static str, channel: &str, id: &str, bytes: usize, parent: &Span) -> Span {
    if !enabled() {
        return Span::none();
    }
    info_span!(
        parent: parent,
        "publish",
        otel.name = format!("publish {channel}"),
        otel.kind = "producer",
        otel.status_code = Empty,
        messaging.system = system,
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = channel,
        messaging.message.id = id,
        messaging.message.body.size = bytes,
    )
}

/// The client's span of one question to the user's backend at `host`, continuing the trace that the client of ours
/// came with, if any: `proxy connect`. Record `otel.status_code` = `"ERROR"` and `tidings.proxy.failure` when there is no
/// answer.
#[must_use]
pub fn proxy(question: &'static str, host: &str, incoming: Option<&Context>) -> Span {
    if !enabled() {
        return Span::none();
    }
    let span = info_span!(
        parent: None,
        "proxy",
        otel.name = format!("proxy {question}"),
        otel.kind = "client",
        otel.status_code = Empty,
        server.address = host,
        tidings.proxy.failure = Empty,
    );
    if let Some(context) = incoming {
        continue_from(&span, context);
    }
    span
}

/// The consumer's span of one gateway's delivery of one publication, continuing the publisher's: `deliver
/// CHANNEL`. Record `tidings.subscribers`, `tidings.delivered_bytes` and `tidings.slow_clients` when they are known.
#[must_use]
pub fn deliver(system: &'static str, channel: &str, id: &str, bytes: usize, from: Option<&Context>) -> Span {
    if !enabled() {
        return Span::none();
    }
    let span = info_span!(
        parent: None,
        "deliver",
        otel.name = format!("deliver {channel}"),
        otel.kind = "consumer",
        messaging.system = system,
        messaging.operation.name = "deliver",
        messaging.operation.type = "process",
        messaging.destination.name = channel,
        messaging.message.id = id,
        messaging.message.body.size = bytes,
        tidings.subscribers = Empty,
        tidings.delivered_bytes = Empty,
        tidings.slow_clients = Empty,
    );
    if let Some(context) = from {
        continue_from(&span, context);
    }
    span
}

impl Injector for Context {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.traceparent = value,
            TRACESTATE => self.tracestate = value,
            _ => {}
        }
    }
}

impl Extractor for Context {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(&self.traceparent),
            TRACESTATE => Some(&self.tracestate),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

/// A gRPC status code by its name, as `rpc.response.status_code` and people want it: `INVALID_ARGUMENT`.
#[must_use]
pub fn status_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Context {
        Context {
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            tracestate: "vendor=1".to_owned(),
        }
    }

    #[test]
    fn a_node_that_exports_nothing_hands_on_what_it_was_given() {
        assert!(!enabled());
        let span = server("test.Service/Call", Some(&caller()));
        assert!(span.is_disabled());
        assert_eq!(onward(&span, Some(caller())), Some(caller()));
        assert_eq!(onward(&span, None), None);
        let mut headers = HeaderMap::new();
        inject_headers(&span, Some(caller()), &mut headers);
        assert_eq!(of_headers(&headers), Some(caller()));
    }

    #[test]
    fn headers_without_a_traceparent_have_no_context() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_headers(&headers), None);
        headers.insert("tracestate", "vendor=1".parse().unwrap());
        assert_eq!(of_headers(&headers), None);
    }

    #[test]
    fn a_context_that_cannot_be_a_header_is_left_out() {
        let mut headers = HeaderMap::new();
        let broken = Context {
            traceparent: "00\r\nx: y".to_owned(),
            tracestate: "\n".to_owned(),
        };
        inject_headers(&Span::none(), Some(broken), &mut headers);
        assert!(headers.is_empty());
    }
}
