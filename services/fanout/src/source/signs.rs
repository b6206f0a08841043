//! What a source shows of itself: its health, whether it is up, and one line in the log for each change.

use std::mem;

use tidings_runtime::health::{Component, State};

use super::metrics::Metrics;

pub(super) struct Signs {
    /// The source's name.
    source: String,
    /// What it takes from, to be shown.
    from: String,
    metrics: Metrics,
    health: Component,
    /// Whether the server could be used, as health and the log say; `None`: nothing is known yet.
    up: Option<bool>,
    /// Whether the log says that events wait for the bus.
    waits: bool,
}

impl Signs {
    pub(super) fn new(source: &str, from: String, metrics: Metrics, health: Component) -> Self {
        Self {
            source: source.to_owned(),
            from,
            metrics,
            health,
            up: None,
            waits: false,
        }
    }

    /// Whether the server can be used, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.up == Some(true)
    }

    /// A round went well.
    pub(super) fn up(&mut self) {
        if self.up.replace(true) != Some(true) {
            self.health.set(State::Up);
            self.metrics.up(&self.source, true);
            tracing::info!(source = self.source, from = self.from, "the source is read");
        }
    }

    /// The server cannot be used.
    pub(super) fn away(&mut self, why: &str) {
        self.metrics.up(&self.source, false);
        if self.up.replace(false) != Some(false) {
            tracing::warn!(
                source = self.source,
                reason = why,
                "the source is away; trying again"
            );
        }
        self.health.set(State::Away(format!("{}: {why}", self.source)));
    }

    /// An event could not be published now.
    pub(super) fn waits(&mut self, why: &str) {
        if !mem::replace(&mut self.waits, true) {
            tracing::warn!(source = self.source, reason = why, "events wait to be published");
        }
    }

    /// None waits to be tried again.
    pub(super) fn goes_on(&mut self) {
        if mem::take(&mut self.waits) {
            tracing::info!(source = self.source, "no event waits any more");
        }
    }
}
