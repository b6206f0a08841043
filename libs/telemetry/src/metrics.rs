//! The metrics of a process: one registry, to which every component adds its own families.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::{encoding::text, registry::Registry};

/// The registry of a process. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry, in which every name begins with `tidings_`.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("tidings"))))
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
        assert_eq!(
            metrics.encode(),
            "# HELP tidings_presence_joins Members written.\n\
             # TYPE tidings_presence_joins counter\n\
             tidings_presence_joins_total 1\n\
             # EOF\n"
        );
    }
}
