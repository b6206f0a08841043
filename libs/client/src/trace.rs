//! The current trace, as the W3C headers that travel with a publish.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    propagation::{Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Hands the context of the current span to `carrier`, if it has one.
fn inject(carrier: &mut dyn Injector) {
    let context = Span::current().context();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, carrier);
    }
}

/// Puts it into a request's headers.
pub(crate) fn into_headers(headers: &mut HeaderMap) {
    inject(&mut Headers(headers));
}

/// Puts it among an event's attributes, unless it has a trace already (CloudEvents, "Distributed Tracing").
pub(crate) fn into_attributes(attributes: &mut std::collections::HashMap<String, String>) {
    if !attributes.contains_key("traceparent") {
        inject(&mut Attributes(attributes));
    }
}

struct Headers<'h>(&'h mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

struct Attributes<'a>(&'a mut std::collections::HashMap<String, String>);

impl Injector for Attributes<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}
