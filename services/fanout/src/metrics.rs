//! What fanout counts and times.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tidings_broker::Published;
use tidings_core::Channel;
use tidings_telemetry::Latency;

use crate::routing::Origin;

/// Namespaces beyond this many are counted together as [`OTHER`]: channel names come from outside, and a series
/// for each would never end.
const MAX_NAMESPACES: usize = 100;
const OTHER: &str = "(other)";

#[derive(Clone)]
pub(crate) struct Metrics {
    events: Family<EventLabels, Counter>,
    pub(crate) unrouted: Counter,
    publications: Family<PublicationLabels, Counter>,
    pub(crate) publish_duration: Latency,
    routes: Family<RouteLabels, Counter>,
    orders: Family<OrderLabels, Counter>,
    pub(crate) keys_refused: Counter,
    namespaces: Arc<Mutex<HashSet<String>>>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EventResult {
    /// All its channels have it.
    Published,
    /// All of them had it already, from the same source and by the same id.
    Duplicate,
    /// Some of them do.
    Partly,
    /// It was malformed, or a route could not be applied to it, or a channel's namespace is not configured.
    Invalid,
    /// It is outside the key's scopes.
    Denied,
    /// It is beyond the key's rate.
    Limited,
    /// The bus did not take it.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublicationLabels {
    namespace: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OrderLabels {
    method: &'static str,
    result: &'static str,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Family::default(),
            unrouted: Counter::default(),
            publications: Family::default(),
            publish_duration: Latency::register(
                registry,
                "publish_duration",
                "From an event's arrival until the bus had it in all its channels",
            ),
            routes: Family::default(),
            orders: Family::default(),
            keys_refused: Counter::default(),
            namespaces: Arc::default(),
        };
        registry.register(
            "events",
            "Events that backends sent, by what became of them",
            metrics.events.clone(),
        );
        registry.register(
            "events_unrouted",
            "Events that named no channel and matched no route",
            metrics.unrouted.clone(),
        );
        registry.register(
            "publications",
            "Publications handed to the bus, by the channel's namespace",
            metrics.publications.clone(),
        );
        registry.register(
            "route_matches",
            "Events that a route found channels for, by the route's place and pattern",
            metrics.routes.clone(),
        );
        registry.register(
            "orders",
            "Calls that all gateways or nodes are asked to answer, by method, and whether all did",
            metrics.orders.clone(),
        );
        registry.register(
            "api_keys_refused",
            "Calls at the backends' door without a valid API key",
            metrics.keys_refused.clone(),
        );
        // There from the start, so that the first of each is seen as an increase.
        for result in ["published", "failed"] {
            drop(metrics.events.get_or_create(&EventLabels { result }));
        }
        metrics
    }

    pub(crate) fn event(&self, result: EventResult) {
        let result = match result {
            EventResult::Published => "published",
            EventResult::Duplicate => "duplicate",
            EventResult::Partly => "partly",
            EventResult::Invalid => "invalid",
            EventResult::Denied => "denied",
            EventResult::Limited => "limited",
            EventResult::Failed => "failed",
        };
        self.events.get_or_create(&EventLabels { result }).inc();
    }

    /// A route has found channels for an event. There are as many as the configuration has.
    pub(crate) fn routed(&self, route: &Origin) {
        let route = route.to_string();
        self.routes.get_or_create(&RouteLabels { route }).inc();
    }

    /// Counts what became of something that gateways or nodes were asked: whether all have answered.
    pub(crate) fn order<E>(&self, method: &'static str, complete: &Result<bool, E>) {
        let method = method.rsplit('/').next().unwrap_or(method);
        let result = match complete {
            Ok(true) => "complete",
            Ok(false) => "incomplete",
            Err(_) => "failed",
        };
        self.orders.get_or_create(&OrderLabels { method, result }).inc();
    }

    /// Counts what became of one channel's publication.
    pub(crate) fn publication<E>(&self, channel: &Channel, result: &Result<Published, E>) {
        let result = match result {
            Ok(Published { duplicate: false, .. }) => "published",
            Ok(Published { duplicate: true, .. }) => "duplicate",
            Err(_) => "failed",
        };
        let namespace = self.label(channel.namespace().unwrap_or_default()).to_owned();
        self.publications
            .get_or_create(&PublicationLabels { namespace, result })
            .inc();
    }

    fn label<'n>(&self, namespace: &'n str) -> &'n str {
        let mut known = self.namespaces.lock();
        if known.contains(namespace) {
            return namespace;
        }
        if known.len() >= MAX_NAMESPACES {
            return OTHER;
        }
        known.insert(namespace.to_owned());
        namespace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_beyond_the_bound_are_counted_together() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let published = Published {
            position: None,
            duplicate: false,
        };
        for number in 0..2 * MAX_NAMESPACES {
            let channel = Channel::parse(&format!("n{number}:1")).unwrap();
            metrics.publication(&channel, &Ok::<_, ()>(published.clone()));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"publications_total{namespace="n0",result="published"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"publications_total{namespace="(other)",result="published"} 100"#),
            "{text}"
        );
    }
}
