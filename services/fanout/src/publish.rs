//! An event to the bus: is it allowed, who hears of it, what do they keep, and one publication for each of them.

pub(crate) mod bare;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future;
use tidings_auth::{Key, Keys, rate::Rate};
use tidings_broker::{self as broker, Broker, Once, Published};
use tidings_core::{Channel, Event, Namespaces, Publication, TraceContext};
use tidings_telemetry::trace;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::Span;

use crate::{
    limit::Limits,
    metrics::{EventResult, Metrics},
    once,
    refusals::Refusals,
    routing::{self, Form, Origin, Target, live::Live},
};

/// Up to this many channels a traced event has a span for each; beyond, one for all of them.
const MAX_SPANS: usize = 16;

/// The tag that tells clients of the trace, where their namespace has it.
const TRACE_TAG: &str = "traceparent";

/// How much may be under way at a time, in bytes, roughly: what comes beyond it waits, unread where it is a stream.
const ROOM: u32 = 64 << 20;

/// What a channel of an event takes of it, beside the event: its target, its answer.
const ROOM_PER_CHANNEL: usize = 512;

pub(crate) struct Publish {
    publisher: broker::Publisher,
    /// The bus, as traces call it.
    system: &'static str,
    routes: Live,
    namespaces: Namespaces,
    /// Whether any of them passes traces on to clients.
    tags_traces: bool,
    limits: Limits,
    refusals: Arc<Refusals>,
    room: Arc<Semaphore>,
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

/// An event that may be published, and everything that is to be done for it.
pub(crate) struct Plan {
    /// Until when it may wait for a bus that is away; `None`: no longer than the bus' command timeout.
    pub(crate) deadline: Option<Instant>,
    begun: Instant,
    event: Event,
    accepted: SystemTime,
    trace: Option<trace::Context>,
    targets: Vec<Target>,
    /// The same, as the broker is asked for them.
    broker_targets: Vec<broker::Target>,
}

impl Plan {
    /// How many channels hear of the event.
    pub(crate) fn channels(&self) -> usize {
        self.targets.len()
    }

    fn size(&self) -> u32 {
        let size = self.event.data.len() + self.targets.len().saturating_mul(ROOM_PER_CHANNEL);
        u32::try_from(size).unwrap_or(ROOM).clamp(1, ROOM)
    }
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
    #[error("the API key {key:?} publishes faster than its rate ({rate})")]
    Rate {
        key: String,
        rate: Rate,
        /// When the next one may come.
        after: Duration,
    },
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
    pub(crate) fn new(
        broker: &Broker,
        routes: Live,
        namespaces: Namespaces,
        keys: Option<&Keys>,
        refusals: Arc<Refusals>,
        metrics: Metrics,
    ) -> Self {
        Self {
            publisher: broker.publisher(),
            system: if broker.prefix().is_some() {
                "redis"
            } else {
                "memory"
            },
            routes,
            tags_traces: namespaces.any(|namespace| namespace.traceparent_tag),
            namespaces,
            limits: keys.map_or_else(Limits::default, |keys| Limits::of(keys, Instant::now())),
            refusals,
            room: Arc::new(Semaphore::new(ROOM as usize)),
            metrics,
        }
    }

    /// Decides all that there is to decide about an event; nothing is sent yet.
    pub(crate) fn plan(&self, request: Request) -> Result<Plan, Error> {
        let key = request.key.clone();
        self.decide(request).inspect_err(|error| {
            self.metrics.event(match error {
                Error::Event { .. } | Error::Channel { .. } => EventResult::Denied,
                Error::Rate { .. } => EventResult::Limited,
                Error::Routing(_) | Error::Namespace { .. } => EventResult::Invalid,
                Error::Bus(_) => EventResult::Failed,
            });
            // What a source is refused, it says itself.
            if let (Some(key), Some(reason)) = (key.filter(|key| !key.is_inside()), error.refusal()) {
                self.refusals.note(key.name(), reason, &error.to_string());
            }
        })
    }

    /// Waits until there is room for an event among all that are under way; it has it until the permit is dropped.
    pub(crate) async fn room(&self, plan: &Plan) -> OwnedSemaphorePermit {
        let room = self.room.clone().acquire_many_owned(plan.size());
        room.await.expect("the semaphore is never closed")
    }

    /// Counts an event that could not be read.
    pub(crate) fn malformed(&self) {
        self.metrics.event(EventResult::Invalid);
    }

    /// Says once a minute that a key was refused.
    pub(crate) fn refused(&self, key: &Key, reason: &'static str, why: &str) {
        self.refusals.note(key.name(), reason, why);
    }

    /// Takes one from what the key may do.
    ///
    /// # Errors
    /// [`Error::Rate`], which has been counted and logged.
    pub(crate) fn admit(&self, key: &Key) -> Result<(), Error> {
        self.take(key).inspect_err(|error| {
            self.refusals
                .note(key.name(), "RATE_EXCEEDED", &error.to_string());
        })
    }

    fn take(&self, key: &Key) -> Result<(), Error> {
        let Some(limit) = key.limit() else {
            return Ok(());
        };
        self.limits
            .take(key, Instant::now())
            .map_err(|after| Error::Rate {
                key: key.name().to_owned(),
                rate: limit.rate,
                after,
            })
    }

    /// Publishes to all channels that do not have the event yet: a repeat gets the first answer of those that do. No
    /// results: no route matched.
    ///
    /// Some results can be errors; when all would be, that is the error. `span` is the request's.
    pub(crate) async fn carry_out(&self, plan: Plan, span: &Span) -> Result<Results, Error> {
        let begun = plan.begun;
        let outcome = self.send_all(plan, span).await;
        if outcome.is_ok() {
            self.metrics
                .publish_duration
                .observe(begun.elapsed().as_secs_f64(), span);
        }
        self.metrics.event(match &outcome {
            Ok(results) if is_duplicate(results) => EventResult::Duplicate,
            Ok(results) if results.iter().all(|(_, result)| result.is_ok()) => EventResult::Published,
            Ok(_) => EventResult::Partly,
            Err(_) => EventResult::Failed,
        });
        outcome
    }

    fn decide(&self, request: Request) -> Result<Plan, Error> {
        let begun = Instant::now();
        let Request {
            event,
            channels,
            once,
            accepted,
            key,
            trace,
        } = request;
        let key = key.as_deref();
        if let Some(key) = key {
            self.take(key)?;
        }
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
            .map(|target| self.broker_target(target, once.as_ref(), key))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Plan {
            deadline: None,
            begun,
            event,
            accepted,
            trace,
            targets,
            broker_targets,
        })
    }

    async fn send_all(&self, plan: Plan, span: &Span) -> Result<Results, Error> {
        let Plan {
            deadline,
            event,
            accepted,
            trace,
            targets,
            broker_targets,
            ..
        } = plan;
        // Neighbours of one form are sent together; nearly always that is all of them.
        let mut rest = broker_targets.as_slice();
        let runs = targets.chunk_by(|one, next| alike(&one.form, &next.form));
        let sent = future::join_all(runs.map(|run| {
            let (run_targets, others) = rest.split_at(run.len());
            rest = others;
            let publication = stamp(&event, &run[0].form, accepted);
            self.send(run_targets, publication, trace.clone(), deadline, span)
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
            let form = Arc::<Form>::default();
            let targets = channels.into_iter().map(|channel| Target {
                channel,
                form: form.clone(),
                route: None,
            });
            return Ok(targets.collect());
        }
        let targets = self.routes.load().targets(event)?;
        // The channels of one route are neighbours.
        for found in targets.chunk_by(|one, next| one.route == next.route) {
            if let Some(route) = &found[0].route {
                self.metrics.routed(route);
            }
        }
        if targets.is_empty() {
            self.metrics.unrouted.inc();
            self.refusals.unrouted(&event.kind);
            tracing::debug!(event.r#type = event.kind, "no route takes the event");
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
    fn broker_target(
        &self,
        target: &Target,
        once: Option<&Once>,
        key: Option<&Key>,
    ) -> Result<broker::Target, Error> {
        let (channel, form) = (target.channel.clone(), &target.form);
        let Some(namespace) = self.namespaces.of(&channel) else {
            return Err(Error::Namespace {
                channel,
                route: target.route.clone(),
            });
        };
        Ok(broker::Target {
            channel,
            retention: namespace.retention().filter(|_| !form.skip_history),
            once: match &form.idempotency_key {
                Some(text) => Some(once::by_route(text, key.map(Key::name))),
                None => once.cloned(),
            },
            version: None,
        })
    }

    async fn send(
        &self,
        targets: &[broker::Target],
        publication: Publication,
        trace: Option<trace::Context>,
        deadline: Option<Instant>,
        span: &Span,
    ) -> Vec<Result<Published, broker::Error>> {
        if !trace::enabled() || targets.len() > MAX_SPANS {
            let mut results = Vec::with_capacity(targets.len());
            // Nearly always one run.
            for run in targets.chunk_by(|one, next| self.tags_trace(one) == self.tags_trace(next)) {
                let (name, publication) = (format!("({} channels)", run.len()), publication.clone());
                let sent = self.send_traced(run, &name, publication, trace.clone(), deadline, span);
                results.extend(sent.await);
            }
            return results;
        }
        let each = targets.iter().map(|target| {
            let (publication, trace) = (publication.clone(), trace.clone());
            let name = target.channel.as_str();
            self.send_traced(
                std::slice::from_ref(target),
                name,
                publication,
                trace,
                deadline,
                span,
            )
        });
        future::join_all(each).await.concat()
    }

    /// Whether clients hear of the trace that a publication is part of.
    fn tags_trace(&self, target: &broker::Target) -> bool {
        let namespace = || self.namespaces.of(&target.channel);
        self.tags_traces && namespace().is_some_and(|namespace| namespace.traceparent_tag)
    }

    /// `targets` are alike in whether clients hear of the trace.
    async fn send_traced(
        &self,
        targets: &[broker::Target],
        name: &str,
        mut publication: Publication,
        trace: Option<trace::Context>,
        deadline: Option<Instant>,
        span: &Span,
    ) -> Vec<Result<Published, broker::Error>> {
        let span = trace::publish(self.system, name, &publication.id, publication.data.len(), span);
        publication.trace = trace::onward(&span, trace).map(|context| TraceContext {
            traceparent: context.traceparent,
            tracestate: context.tracestate,
        });
        if let Some(trace) = &publication.trace
            && targets.first().is_some_and(|target| self.tags_trace(target))
        {
            let tag = publication.tags.entry(TRACE_TAG.to_owned());
            tag.or_insert_with(|| trace.traceparent.clone());
        }
        let results = self
            .publisher
            .publish_within(targets, &publication, deadline)
            .await;
        if results.iter().any(Result::is_err) {
            span.record("otel.status_code", "ERROR");
        }
        results
    }
}

impl Error {
    /// What an API key was refused for, if that is it.
    fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Event { .. } => Some("EVENT_OUT_OF_SCOPE"),
            Self::Channel { .. } => Some("CHANNEL_OUT_OF_SCOPE"),
            Self::Rate { .. } => Some("RATE_EXCEEDED"),
            Self::Namespace { .. } | Self::Routing(_) | Self::Bus(_) => None,
        }
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

/// Whether clients get the same by both forms.
fn alike(one: &Arc<Form>, other: &Arc<Form>) -> bool {
    Arc::ptr_eq(one, other) || (one.payload == other.payload && one.tags == other.tags)
}

/// What all channels of one form get.
fn stamp(event: &Event, form: &Form, accepted: SystemTime) -> Publication {
    let (data, format) = form.payload.render(event);
    let mut tags = event.tags.clone();
    for (name, value) in &form.tags {
        // What the event says itself stands.
        tags.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Publication {
        id: event.id.clone(),
        kind: event.kind.clone(),
        tags,
        ..Publication::new(data, format, accepted)
    }
}
