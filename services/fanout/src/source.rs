//! Sources: events that fanout takes from elsewhere, each configured by a `[[source]]`, off unless there is one.
//!
//! A source is a backend that does not call: its events go through [`Intake`], which is the way of every event (validation,
//! routes, scopes, idempotency by source and id), under a name and a scope of its own. It is told of each event whether it
//! is done with ([`outcome`]), and only then lets go of it where it came from. [`config`] is what an operator says,
//! [`metrics`] and `signs` what they see; [`redis`] takes entries of a Redis stream, [`postgres`] rows of an outbox.

pub mod config;
mod metrics;
mod outcome;
pub mod postgres;
pub mod redis;
mod signs;

use std::{fmt, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use prometheus_client::registry::Registry;
use tidings_auth::Key;
use tidings_broker::redis::Pool;
use tidings_proto::fanout as proto;
use tidings_runtime::{Shutdown, health::Component};
use tidings_telemetry::trace;
use tracing::Instrument as _;

pub use self::config::{Config, Origin, check};
use self::{metrics::Metrics, outcome::Outcome, postgres::relay::Relay, redis::consumer::Consumer};
use crate::grpc;

/// Where sources put their events. Cheap to clone.
#[derive(Clone)]
pub struct Intake(pub(crate) Arc<grpc::Fanout>);

/// What sources use of the process that they are part of.
pub struct Deps {
    /// Where events go.
    pub intake: Intake,
    /// What the node is called: unique to this run of this process.
    pub node: String,
    /// The node's own Redis, for sources that name none.
    pub redis: Option<Pool>,
}

/// One source, ready to run.
pub struct Source(Reader);

/// Who takes its events.
enum Reader {
    Redis(Box<Consumer>),
    Postgres(Box<Relay>),
}

/// A source as the path of its events knows it.
struct Mouth {
    name: String,
    /// What it takes from, as traces call it.
    system: &'static str,
    key: Arc<Key>,
    intake: Intake,
    metrics: Metrics,
}

/// Makes the sources that are configured; `health` gives each a reporter.
///
/// # Errors
/// What [`check`] finds.
pub fn all(
    configs: &[Config],
    deps: &Deps,
    mut health: impl FnMut() -> Component,
    registry: &mut Registry,
) -> Result<Vec<Source>, config::Error> {
    check(configs, deps.redis.is_some())?;
    let metrics = Metrics::register(registry);
    let sources = configs.iter().map(|config| {
        let mouth = |system| {
            metrics.begin(&config.name);
            let key = Arc::new(config.key()?);
            Ok(Mouth {
                name: config.name.clone(),
                system,
                key,
                intake: deps.intake.clone(),
                metrics: metrics.clone(),
            })
        };
        Ok(Source(match config.origin()? {
            Origin::Redis(redis) => {
                let place = redis::place::Place::new(redis, deps.redis.as_ref());
                let place = place.map_err(|error| config.wrong("redis.url", error))?;
                let consumer =
                    Consumer::new(mouth("redis")?, redis.clone(), place, deps.node.clone(), health());
                Reader::Redis(Box::new(consumer))
            }
            Origin::Postgres(postgres) => {
                let relay = Relay::new(mouth("postgresql")?, postgres.clone(), health());
                let relay = relay.map_err(|(key, why)| config.wrong(key, why))?;
                Reader::Postgres(Box::new(relay))
            }
        }))
    });
    sources.collect()
}

impl Source {
    /// Takes events until `shutdown` is requested, and finishes those that it has.
    pub async fn run(self, shutdown: Shutdown) {
        match self.0 {
            Reader::Redis(consumer) => consumer.run(shutdown).await,
            Reader::Postgres(relay) => relay.run(shutdown).await,
        }
    }
}

/// From 200 ms to 10 s between tries of one event, and to reach a server, with jitter, for ever.
fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5)) // jitter adds up to as much again
        .without_max_times()
        .with_jitter()
        .build()
}

impl Mouth {
    /// Publishes an event as any backend's; counted.
    async fn publish(&self, event: proto::Event) -> Outcome {
        let trace = grpc::own_trace(&event);
        let span = trace::take(self.system, &self.name, &event.id, trace.as_ref());
        let request = proto::PublishRequest { event: Some(event) };
        let Intake(fanout) = &self.intake;
        let work = fanout.take(request, Some(self.key.clone()), trace, &span);
        let outcome = Outcome::of(work.instrument(span.clone()).await);
        if outcome != Outcome::Done {
            span.record("otel.status_code", "ERROR");
        }
        outcome
    }

    /// Counts what is no event.
    fn malformed(&self) {
        let Intake(fanout) = &self.intake;
        fanout.publish.malformed();
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Intake")
    }
}
