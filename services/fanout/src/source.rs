//! Sources: events that fanout takes from elsewhere, each configured by a `[[source]]`, off unless there is one.
//!
//! A source is a backend that does not call: its events go through [`Intake`], which is the way of every event (validation,
//! routes, scopes, idempotency by source and id), under a name and a scope of its own. It is told of each event whether it
//! is done with ([`outcome`]), and only then lets go of it where it came from; `outage` is the bus while it is unavailable.
//! [`config`] is what an operator says, [`metrics`] and `signs` what they see; [`redis`] takes entries of a Redis stream, [`postgres`] rows of an outbox.

pub mod config;
mod metrics;
mod outage;
mod outcome;
pub mod postgres;
pub mod redis;
mod signs;

use std::{fmt, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use prometheus_client::registry::Registry;
use tidings_auth::Key;
use tidings_broker::{self as broker, OrderedPublisher, redis::Pool};
use tidings_core::Channel;
use tidings_proto::fanout as proto;
use tidings_runtime::{Shutdown, health::Component};
use tidings_telemetry::trace;
use tracing::Instrument as _;

pub use self::config::{Config, Origin, check};
use self::{metrics::Metrics, outcome::Outcome, postgres::relay::Relay, redis::consumer::Consumer};
use crate::{
    grpc,
    publish::{Plan, Publish, Ready, Results},
};

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
    /// How long a repeat of an event is known.
    window: Duration,
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
                window: config.idempotency_window,
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

/// From 200 ms to 10 s between tries to reach a server, with jitter, for ever.
fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5)) // jitter adds up to as much again
        .without_max_times()
        .with_jitter()
        .build()
}

/// How long an event waits that was refused so often: from 200 ms to 10 s, with jitter.
fn pause(refused: u32) -> Duration {
    let pause = Duration::from_millis(100) * 2_u32.pow(refused.saturating_sub(1).min(6));
    let pause = pause.min(Duration::from_secs(5));
    pause + pause.mul_f64(rand::random())
}

/// One try to publish an event.
struct Attempt {
    outcome: Outcome,
    /// The channels where it failed.
    failed: Vec<Channel>,
    /// The channels where an earlier event failed, so that it was not sent.
    behind: Vec<Channel>,
    /// Whether some channels have the event.
    is_partly_published: bool,
}

impl Attempt {
    fn of(results: Results) -> Self {
        let mut attempt = Self {
            outcome: Outcome::of(&results),
            failed: Vec::new(),
            behind: Vec::new(),
            is_partly_published: false,
        };
        for (channel, result) in results {
            match result {
                Ok(_) => attempt.is_partly_published = true,
                Err(broker::Error::Aborted { .. }) => attempt.behind.push(channel),
                Err(_) => attempt.failed.push(channel),
            }
        }
        attempt
    }
}

impl Mouth {
    fn publish(&self) -> &Arc<Publish> {
        let Intake(fanout) = &self.intake;
        &fanout.publish
    }

    /// Decides about an event as about any backend's.
    fn plan(&self, event: proto::Event) -> Result<Box<Plan>, Outcome> {
        let trace = grpc::own_trace(&event);
        let request = proto::PublishRequest { event: Some(event) };
        let key = Some(self.key.clone());
        match grpc::plan(self.publish(), request, key, trace, self.window) {
            Ok((_, plan)) => Ok(plan),
            Err(status) => Err(Outcome::refused(&status)),
        }
    }

    /// Publishes an event, which takes its place in `order` before this returns; counted.
    fn start(
        &self,
        ready: Ready,
        order: Option<&OrderedPublisher>,
    ) -> impl Future<Output = Attempt> + Send + use<> {
        let span = trace::take(self.system, &self.name, ready.event_id(), ready.trace());
        let started = span.in_scope(|| self.publish().start(ready, order, &span));
        let traced = span.clone();
        let work = async move {
            let attempt = Attempt::of(started.await);
            if attempt.outcome != Outcome::Done {
                traced.record("otel.status_code", "ERROR");
            }
            attempt
        };
        work.instrument(span)
    }

    /// Counts what is no event.
    fn malformed(&self) {
        self.publish().malformed();
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Intake")
    }
}
