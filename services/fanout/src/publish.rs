//! An event to the bus: is it allowed, who hears of it, what do they keep, and one publication for each of them.

use std::{sync::Arc, time::SystemTime};

use futures_util::future;
use tidings_auth::Key;
use tidings_broker::{self as broker, Broker, Once, Published};
use tidings_core::{Channel, Event, Namespaces, Publication, TraceContext};
use tidings_telemetry::trace;
use tokio::time::Instant;
use tracing::Span;

use crate::{
    metrics::{EventResult, Metrics},
    payload::Payload,
    routing::{self, Origin, Routes, Target},
};

/// Up to this many channels a traced event has a span for each; beyond, one for all of them.
const MAX_SPANS: usize = 16;

pub(crate) struct Publish {
    publisher: broker::Publisher,
    /// The bus, as traces call it.
    system: &'static str,
    routes: Routes,
    namespaces: Namespaces,
    metrics: Metrics,
}

/// An accepted event and what it came with.
pub(crate) struct Request {
    pub(crate) event: Event,
    /// Explicit targets; empty: the routes decide.
    pub(crate) channels: Vec<Channel>,
    /// By what a repeat is known; `None`: it cannot be repeated.
    pub(crate) once: Option<Once>,
    pub(crate) accepted: SystemTime,
    /// Whose it is; `None` where no key is asked for.
    pub(crate) key: Option<Arc<Key>>,
    /// The caller's trace.
    pub(crate) trace: Option<trace::Context>,
}

/// What became of it, channel by channel, in order.
pub(crate) type Results = Vec<(Channel, Result<Published, broker::Error>)>;

/// Why nothing of an event was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API key {key:?} may not publish events of type {kind:?}")]
    Event { key: String, kind: String },
    #[error("the API key {key:?} may not publish to channel {channel}")]
    Channel { key: String, channel: Channel },
    /// Nobody said what the channel offers, so nobody could hear of it.
    #[error("{}no namespace {:?} is configured", cause(.channel, .route.as_ref()), .channel.namespace().unwrap_or_default())]
    Namespace {
        channel: Channel,
        /// The route that gave the channel; `None`: the event named it.
        route: Option<Origin>,
    },
    #[error(transparent)]
    Routing(#[from] routing::Error),
    #[error("published to none of the channels: {0}")]
    Bus(broker::Error),
}

impl Publish {
    pub(crate) fn new(broker: &Broker, routes: Routes, namespaces: Namespaces, metrics: Metrics) -> Self {
        Self {
            publisher: broker.publisher(),
            system: if broker.prefix().is_some() {
                "redis"
            } else {
                "memory"
            },
            routes,
            namespaces,
            metrics,
        }
    }

    /// Publishes an event to all its channels that do not have it yet: a repeat gets the first answer of those that
    /// do. No results: no route matched.
    ///
    /// Some results can be errors; when all would be, that is the error. `span` is the request's.
    pub(crate) async fn publish(&self, request: Request, span: &Span) -> Result<Results, Error> {
        let begin = Instant::now();
        let outcome = self.attempt(request, span).await;
        if outcome.is_ok() {
            self.metrics
                .publish_duration
                .observe(begin.elapsed().as_secs_f64());
        }
        self.metrics.event(match &outcome {
            Ok(results) if is_duplicate(results) => EventResult::Duplicate,
            Ok(results) if results.iter().all(|(_, result)| result.is_ok()) => EventResult::Published,
            Ok(_) => EventResult::Partly,
            Err(Error::Event { .. } | Error::Channel { .. }) => EventResult::Denied,
            Err(Error::Routing(_) | Error::Namespace { .. }) => EventResult::Invalid,
            Err(Error::Bus(_)) => EventResult::Failed,
        });
        outcome
    }

    async fn attempt(&self, request: Request, span: &Span) -> Result<Results, Error> {
        let Request {
            event,
            channels,
            once,
            accepted,
            key,
            trace,
        } = request;
        let key = key.as_deref();
        if let Some(key) = key.filter(|key| !key.may_publish_event(&event.kind)) {
            return Err(Error::Event {
                key: key.name().to_owned(),
                kind: event.kind,
            });
        }
        let targets = self.targets(&event, channels)?;
        if let Some(key) = key
            && let Some(target) = targets.iter().find(|target| !key.may_publish_to(&target.channel))
        {
            return Err(Error::Channel {
                key: key.name().to_owned(),
                channel: target.channel.clone(),
            });
        }

        let broker_targets = targets
            .iter()
            .map(|target| self.broker_target(target, once.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;

        // Neighbours of one form are sent together; nearly always that is all of them.
        let mut rest = broker_targets.as_slice();
        let runs = targets.chunk_by(|one, next| one.payload == next.payload);
        let sent = future::join_all(runs.map(|run| {
            let (run_targets, others) = rest.split_at(run.len());
            rest = others;
            let publication = stamp(&event, run[0].payload, accepted);
            self.send(run_targets, publication, trace.clone(), span)
        }));
        let sent = sent.await.into_iter().flatten();
        let channels = targets.into_iter().map(|target| target.channel);
        let results: Results = channels.zip(sent).collect();

        for (channel, result) in &results {
            self.metrics.publication(channel, result);
        }
        // Said once per event. That the bus is away the broker says itself, once.
        let refused =
            |result: &&(Channel, Result<_, _>)| matches!(result.1, Err(ref error) if !is_away(error));
        if let Some((channel, Err(error))) = results.iter().find(refused) {
            tracing::error!(event.id, channel.name = %channel, %error, "the bus refused a publication");
        }
        match results.iter().find_map(|(_, result)| result.as_ref().err()) {
            Some(error) if results.iter().all(|(_, result)| result.is_err()) => {
                Err(Error::Bus(error.clone()))
            }
            _ => Ok(results),
        }
    }

    /// Explicit channels get the whole event, as a route that does not say otherwise would give it.
    fn targets(&self, event: &Event, channels: Vec<Channel>) -> Result<Vec<Target>, Error> {
        if !channels.is_empty() {
            let targets = channels.into_iter().map(|channel| Target {
                channel,
                payload: Payload::default(),
                route: None,
            });
            return Ok(targets.collect());
        }
        let targets = self.routes.targets(event)?;
        if targets.is_empty() {
            self.metrics.unrouted.inc();
            tracing::debug!(event.id, event.r#type = event.kind, "an event matches no route");
        }
        Ok(targets)
    }

    /// Whether somebody has said what the channel offers.
    pub(crate) fn configured(&self, channel: &Channel) -> Result<(), Error> {
        match self.namespaces.of(channel) {
            Some(_) => Ok(()),
            None => Err(Error::Namespace {
                channel: channel.clone(),
                route: None,
            }),
        }
    }

    /// What the broker is asked for: the channel keeps what its namespace says, and takes an event once.
    fn broker_target(&self, target: &Target, once: Option<&Once>) -> Result<broker::Target, Error> {
        let channel = target.channel.clone();
        match self.namespaces.of(&channel) {
            Some(namespace) => Ok(broker::Target {
                channel,
                retention: namespace.retention(),
                once: once.cloned(),
            }),
            None => Err(Error::Namespace {
                channel,
                route: target.route.clone(),
            }),
        }
    }

    async fn send(
        &self,
        targets: &[broker::Target],
        publication: Publication,
        trace: Option<trace::Context>,
        span: &Span,
    ) -> Vec<Result<Published, broker::Error>> {
        if !trace::enabled() || targets.len() > MAX_SPANS {
            let name = format!("({} channels)", targets.len());
            return self.send_traced(targets, &name, publication, trace, span).await;
        }
        let each = targets.iter().map(|target| {
            let (publication, trace) = (publication.clone(), trace.clone());
            let name = target.channel.as_str();
            self.send_traced(std::slice::from_ref(target), name, publication, trace, span)
        });
        future::join_all(each).await.concat()
    }

    async fn send_traced(
        &self,
        targets: &[broker::Target],
        name: &str,
        mut publication: Publication,
        trace: Option<trace::Context>,
        span: &Span,
    ) -> Vec<Result<Published, broker::Error>> {
        let span = trace::publish(self.system, name, &publication.id, publication.data.len(), span);
        publication.trace = trace::onward(&span, trace).map(|context| TraceContext {
            traceparent: context.traceparent,
            tracestate: context.tracestate,
        });
        let results = self.publisher.publish(targets, &publication).await;
        if results.iter().any(Result::is_err) {
            span.record("otel.status_code", "ERROR");
        }
        results
    }
}

/// Whether all the channels of an event had it already.
pub(crate) fn is_duplicate(results: &Results) -> bool {
    let had = |result: &Result<Published, _>| matches!(result, Ok(Published { duplicate: true, .. }));
    !results.is_empty() && results.iter().all(|(_, result)| had(result))
}

fn cause(channel: &Channel, route: Option<&Origin>) -> String {
    match route {
        Some(route) => format!("{route} gives channel {channel}: "),
        None => format!("channel {channel}: "),
    }
}

fn is_away(error: &broker::Error) -> bool {
    matches!(error, broker::Error::Away { .. })
}

/// What all channels of one form get.
fn stamp(event: &Event, payload: Payload, accepted: SystemTime) -> Publication {
    let (data, format) = payload.render(event);
    Publication {
        id: event.id.clone(),
        kind: event.kind.clone(),
        tags: event.tags.clone(),
        ..Publication::new(data, format, accepted)
    }
}
