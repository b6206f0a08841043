//! What sources count. There are as many label values as the configuration has sources.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone)]
pub(super) struct Metrics {
    events: Family<ResultLabels, Counter>,
    claimed: Family<SourceLabels, Counter>,
    up: Family<SourceLabels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    source: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

/// What became of one try to publish an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// The bus has it.
    Published,
    /// It is tried again.
    Retried,
    /// It can never be published, and was set aside.
    SetAside,
}

impl Tried {
    fn label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Retried => "retried",
            Self::SetAside => "set_aside",
        }
    }
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Family::default(),
            claimed: Family::default(),
            up: Family::default(),
        };
        registry.register(
            "source_events",
            "Events that sources took, by what became of each try to publish them",
            metrics.events.clone(),
        );
        registry.register(
            "source_claimed",
            "Events that a source took over from a node that did not finish them",
            metrics.claimed.clone(),
        );
        registry.register(
            "source_up",
            "Whether a source reaches its server: 1 or 0",
            metrics.up.clone(),
        );
        metrics
    }

    /// There from the start, so that the first of each is seen as an increase.
    pub(super) fn begin(&self, source: &str) {
        for tried in [Tried::Published, Tried::Retried, Tried::SetAside] {
            self.count(source, tried, 0);
        }
        self.claimed(source, 0);
        self.up(source, false);
    }

    pub(super) fn count(&self, source: &str, tried: Tried, count: u64) {
        let labels = ResultLabels {
            source: source.to_owned(),
            result: tried.label(),
        };
        self.events.get_or_create(&labels).inc_by(count);
    }

    pub(super) fn claimed(&self, source: &str, count: u64) {
        self.claimed.get_or_create(&labels(source)).inc_by(count);
    }

    pub(super) fn up(&self, source: &str, up: bool) {
        self.up.get_or_create(&labels(source)).set(i64::from(up));
    }
}

fn labels(source: &str) -> SourceLabels {
    SourceLabels {
        source: source.to_owned(),
    }
}
