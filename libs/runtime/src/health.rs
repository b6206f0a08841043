//! What a process says about itself: alive, ready to be used, and how the things it depends on are.
//!
//! Components report their state into a shared [`Health`]; the doors answer from it. A component that is away
//! makes the process *degraded*, never unready: an outage of Redis must not take every pod out of the load
//! balancer at once. Only starting and draining are reasons to send nobody.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The state of a process. Clones are the same health.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    phase: Phase,
    draining: CancellationToken,
    /// By name, then by reporter: several parts of a process may each depend on the same thing.
    components: BTreeMap<&'static str, BTreeMap<u64, State>>,
    next_reporter: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Ready,
    Draining,
}

/// How something that a process depends on is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Up,
    /// It does not, for this reason, which operators read. Keep secrets out of it.
    Away(String),
}

/// Whether to send anybody here: the body of `/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Readiness {
    /// Yes, and everything is there.
    Ready,
    /// Yes, though something is away.
    Degraded {
        /// Why, by component.
        reasons: BTreeMap<&'static str, String>,
    },
    /// Not yet.
    Starting,
    /// No longer.
    Draining,
}

impl Readiness {
    /// Whether a load balancer should send clients here.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded { .. })
    }
}

/// How one component is: the body of `/health/redis`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Check {
    /// It answers.
    Up,
    /// It does not.
    Away {
        /// Why.
        reason: String,
    },
    /// This process does not depend on it.
    Disabled,
}

impl Health {
    /// The health of a process that is starting and depends on nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a reporter for the component `name`, at first [`State::Away`] as "not connected yet".
    ///
    /// Several reporters may share a name; the component is up when all of them say so. A dropped reporter no
    /// longer counts.
    #[must_use = "a dropped component no longer counts"]
    pub fn component(&self, name: &'static str) -> Component {
        let mut inner = self.0.lock();
        let reporter = inner.next_reporter;
        inner.next_reporter += 1;
        inner
            .components
            .entry(name)
            .or_default()
            .insert(reporter, State::Away("not connected yet".to_owned()));
        Component {
            health: self.clone(),
            name,
            reporter,
        }
    }

    /// Everything that was going to start has started. Does nothing once draining.
    pub fn ready(&self) {
        let mut inner = self.0.lock();
        if inner.phase == Phase::Starting {
            inner.phase = Phase::Ready;
        }
    }

    /// Nobody new should come. There is no way back.
    pub fn drain(&self) {
        let mut inner = self.0.lock();
        inner.phase = Phase::Draining;
        inner.draining.cancel();
    }

    /// Completes once nobody new should come.
    pub fn draining(&self) -> WaitForCancellationFutureOwned {
        self.0.lock().draining.clone().cancelled_owned()
    }

    /// Whether to send anybody here.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let inner = self.0.lock();
        match inner.phase {
            Phase::Starting => Readiness::Starting,
            Phase::Draining => Readiness::Draining,
            Phase::Ready => {
                let reasons: BTreeMap<_, _> = inner
                    .components
                    .keys()
                    .filter_map(|name| Some((*name, inner.reason(name)?)))
                    .collect();
                if reasons.is_empty() {
                    Readiness::Ready
                } else {
                    Readiness::Degraded { reasons }
                }
            }
        }
    }

    /// How the component `name` is.
    #[must_use]
    pub fn check(&self, name: &str) -> Check {
        let inner = self.0.lock();
        match inner.reason(name) {
            Some(reason) => Check::Away { reason },
            None if inner.components.contains_key(name) => Check::Up,
            None => Check::Disabled,
        }
    }
}

impl Inner {
    /// Why the component is away: what its first unhappy reporter says.
    fn reason(&self, name: &str) -> Option<String> {
        self.components.get(name)?.values().find_map(|state| match state {
            State::Up => None,
            State::Away(reason) => Some(reason.clone()),
        })
    }
}

/// Reports one component's state for as long as it is held.
#[derive(Debug)]
pub struct Component {
    health: Health,
    name: &'static str,
    reporter: u64,
}

impl Component {
    /// Says how the component is from now on.
    pub fn set(&self, state: State) {
        if let Some(reporters) = self.health.0.lock().components.get_mut(self.name) {
            reporters.insert(self.reporter, state);
        }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        let mut inner = self.health.0.lock();
        if let Some(reporters) = inner.components.get_mut(self.name) {
            reporters.remove(&self.reporter);
            if reporters.is_empty() {
                inner.components.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn a_process_starts_becomes_ready_and_drains_and_never_goes_back() {
        let health = Health::new();
        assert_eq!(json(&health.readiness()), r#"{"status":"starting"}"#);
        assert!(!health.readiness().is_serving());
        health.ready();
        assert_eq!(json(&health.readiness()), r#"{"status":"ready"}"#);
        assert!(health.readiness().is_serving());
        health.drain();
        health.ready();
        assert_eq!(json(&health.readiness()), r#"{"status":"draining"}"#);
        assert!(!health.readiness().is_serving());
    }

    #[test]
    fn a_component_that_is_away_degrades_but_keeps_serving() {
        let health = Health::new();
        health.ready();
        let redis = health.component("redis");
        redis.set(State::Away("connection refused".to_owned()));
        assert_eq!(
            json(&health.readiness()),
            r#"{"status":"degraded","reasons":{"redis":"connection refused"}}"#
        );
        assert!(health.readiness().is_serving());
        assert_eq!(
            json(&health.check("redis")),
            r#"{"status":"away","reason":"connection refused"}"#
        );
        redis.set(State::Up);
        assert_eq!(json(&health.readiness()), r#"{"status":"ready"}"#);
        assert_eq!(json(&health.check("redis")), r#"{"status":"up"}"#);
    }

    #[test]
    fn a_component_is_up_only_when_all_its_reporters_say_so() {
        let health = Health::new();
        let publisher = health.component("redis");
        let subscriber = health.component("redis");
        publisher.set(State::Up);
        assert_eq!(
            health.check("redis"),
            Check::Away {
                reason: "not connected yet".to_owned()
            }
        );
        subscriber.set(State::Up);
        assert_eq!(health.check("redis"), Check::Up);
        subscriber.set(State::Away("reset".to_owned()));
        drop(subscriber);
        assert_eq!(health.check("redis"), Check::Up);
        drop(publisher);
        assert_eq!(health.check("redis"), Check::Disabled);
    }
}
