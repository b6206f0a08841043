//! The metrics of a process: one registry, to which every component adds its own families.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::text,
    metrics::{exemplar::HistogramWithExemplars, histogram::exponential_buckets},
    registry::{Registry, Unit},
};
use tracing::Span;

use crate::{spans, trace};

/// The registry of a process. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry in which every name begins with `tidings_`; what becomes of spans is in it already.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tidings");
        registry.register(
            "spans",
            "Spans of traces, by what became of them on their way to the collector",
            spans::counts(),
        );
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Lets a component add its families: `metrics.register(gateway::Metrics::register)`. Use
    /// [`Registry::sub_registry_with_prefix`] for names of its own: `gateway` makes `tidings_gateway_…`.
    pub fn register<T>(&self, families: impl FnOnce(&mut Registry) -> T) -> T {
        families(&mut self.0.lock())
    }

    /// Everything as it stands, as OpenMetrics text (`application/openmetrics-text; version=1.0.0`).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = text::encode(&mut text, &self.0.lock()) {
            // Only a component's own encoding can fail: writing to a string does not.
            tracing::error!(%error, "a metric cannot be written");
        }
        text
    }
}

/// A histogram of seconds, 0.25 ms to 8 s, whose buckets each remember a trace that fell into them: an exemplar, by which
/// a dashboard leads from a slow bucket to what was slow. Clones are the same histogram.
#[derive(Debug, Clone)]
pub struct Latency(HistogramWithExemplars<[(&'static str, String); 1]>);

impl Latency {
    /// A histogram known to `registry` as `<name>_seconds`.
    #[must_use]
    pub fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let histogram = HistogramWithExemplars::new(exponential_buckets(0.000_25, 2.0, 16));
        registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        Self(histogram)
    }

    /// Counts something that took so long, and remembers the trace of `span` if it is one that is exported.
    pub fn observe(&self, seconds: f64, span: &Span) {
        let exemplar = trace::id(span).map(|id| [("trace_id", id)]);
        let at = exemplar.is_some().then(std::time::SystemTime::now);
        self.0.observe(seconds, exemplar, at);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_a_component_registers_is_written_as_openmetrics_under_our_prefix() {
        let metrics = Metrics::new();
        let joins = metrics.register(|registry| {
            let joins = Counter::<u64>::default();
            registry
                .sub_registry_with_prefix("presence")
                .register("joins", "Members written", joins.clone());
            joins
        });
        joins.inc();
        let text = metrics.encode();
        assert!(
            text.ends_with(
                "# HELP tidings_presence_joins Members written.\n\
                 # TYPE tidings_presence_joins counter\n\
                 tidings_presence_joins_total 1\n\
                 # EOF\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("tidings_spans_total{result=\"dropped\"} "),
            "{text}"
        );
    }
}
