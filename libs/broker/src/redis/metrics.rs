//! What the bus asks of Redis, counted: how much, how long it takes, what fails, and how often Redis is away.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
/// One process' metrics of its Redis. Clones are the same metrics.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    commands: Family<Labels, Counter>,
    duration: Histogram,
    up: Gauge,
    outages: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    result: &'static str,
}

/// What commands are for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Publications, and messages to nodes.
    Publish,
    /// Positions of streams.
    Read,
    /// Parts of streams, whose answers can be large.
    History,
    /// What others keep, in a Cluster; elsewhere they have connections of their own.
    Keep,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            commands: Family::default(),
            // 0.25 ms to 8 s.
            duration: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            up: Gauge::default(),
            outages: Counter::default(),
        };
        // There from the start, so that the first that fails is seen as an increase.
        for kind in [Kind::Publish, Kind::Read, Kind::Keep] {
            for result in ["ok", "error"] {
                metrics.count(kind, result, 0);
            }
        }
        metrics
    }
}

impl Metrics {
    /// Makes them known to `registry` as `tidings_redis_…`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("redis");
        registry.register(
            "commands",
            "Commands that the bus sent to Redis, by what for and by whether it answered well",
            self.commands.clone(),
        );
        registry.register_with_unit(
            "command_duration",
            "From wanting to send commands that go together until Redis had answered them all",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("up", "1 while Redis answers, 0 while it is away", self.up.clone());
        registry.register("outages", "Times Redis was away", self.outages.clone());
    }

    /// Commands that went together have been answered.
    pub(super) fn answered<T, E>(&self, kind: Kind, answers: &[Result<T, E>], took: Duration) {
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        self.count(kind, "ok", answers.len() - failed);
        self.count(kind, "error", failed);
        self.duration.observe(took.as_secs_f64());
    }

    /// Redis has come, or gone.
    pub(super) fn reachable(&self, up: bool) {
        self.up.set(up.into());
        if !up {
            self.outages.inc();
        }
    }

    fn count(&self, kind: Kind, result: &'static str, commands: usize) {
        let kind = match kind {
            Kind::Publish => "publish",
            Kind::Read | Kind::History => "read",
            Kind::Keep => "keep",
        };
        let labels = Labels { kind, result };
        self.commands.get_or_create(&labels).inc_by(commands as u64);
    }
}
