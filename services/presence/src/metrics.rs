//! What presence counts.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// One replica's metrics. Clones are the same metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Gateways attached to this replica.
    pub attached: Gauge,
    /// Members that this replica wrote and that were not there before.
    pub joins: Counter,
    /// Members that this replica removed because their gateway said so.
    pub leaves: Counter,
    /// Members that this replica removed because their gateway's lease had ended.
    pub swept: Counter,
}

impl Metrics {
    /// New metrics, all zero, known to `registry` as `tidings_presence_…`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("presence");
        registry.register(
            "attached_gateways",
            "Gateways attached to this replica",
            metrics.attached.clone(),
        );
        registry.register(
            "joins",
            "Members written that were not there before",
            metrics.joins.clone(),
        );
        registry.register(
            "leaves",
            "Members removed on their gateway's word",
            metrics.leaves.clone(),
        );
        registry.register(
            "swept",
            "Members removed after their gateway's lease ended",
            metrics.swept.clone(),
        );
        metrics
    }
}
