//! What is decided about an event, carried out: one publication for each form, handed to the bus with its trace.
//!
//! Whatever decides the order of publications happens in [`Publish::start`] itself, not in the future that it returns: who
//! starts events one after the other publishes them in that order.

use std::{
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
    vec,
};

use futures_util::future::{self, Either};
use tidings_broker::{self as broker, OrderedPublisher, Published};
use tidings_core::{Event, Publication, TraceContext};
use tidings_telemetry::trace;
use tokio::time::Instant;
use tracing::Span;

use super::{Error, Plan, Publish, Ready, Results};
use crate::{metrics::EventResult, publish::is_duplicate, routing::Form};

/// Up to this many channels a traced event has a span for each; beyond, one for all of them.
const MAX_SPANS: usize = 16;

/// The tag that tells clients of the trace, where their namespace has it.
const TRACE_TAG: &str = "traceparent";

/// A publication to some channels, as they all get it.
pub(super) struct Sending<'s> {
    pub(super) publication: Publication,
    /// The caller's trace.
    pub(super) trace: Option<trace::Context>,
    /// Until when it may wait for a bus that is unavailable; `None`: no longer than the bus' command timeout.
    pub(super) deadline: Option<Instant>,
    /// The caller's order, if it has one.
    pub(super) order: Option<&'s OrderedPublisher>,
    /// The request's.
    pub(super) span: &'s Span,
}

impl Publish {
    /// Publishes to all channels that do not have the event yet: a repeat gets the first answer of those that do. The event
    /// takes its place in `order` before this returns, and the future gives the results: none when no route matched. `span` is
    /// the request's.
    pub(crate) fn start(
        self: &Arc<Self>,
        ready: Ready,
        order: Option<&OrderedPublisher>,
        span: &Span,
    ) -> impl Future<Output = Results> + Send + use<> {
        let Ready { plan, room } = ready;
        let Plan {
            deadline,
            begun,
            event,
            accepted,
            trace,
            targets,
            broker_targets,
            unavailable,
        } = *plan;
        // Neighbours of one form are sent together; nearly always that is all of them.
        let mut rest = broker_targets.into_iter();
        let mut sent = Vec::with_capacity(1);
        for run in targets.chunk_by(|one, next| alike(&one.form, &next.form)) {
            let sending = Sending {
                publication: stamp(&event, &run[0].form, accepted),
                trace: trace.clone(),
                deadline,
                order,
                span,
            };
            sent.extend(self.send(first(&mut rest, run.len()), &sending));
        }
        let (publish, span) = (self.clone(), span.clone());
        let event_id = event.id;
        async move {
            let sent = future::join_all(sent).await.into_iter().flatten();
            let channels = targets.into_iter().map(|target| target.channel);
            let unavailable = unavailable
                .into_iter()
                .map(|(channel, error)| (channel, Err(error)));
            let results: Results = channels.zip(sent).chain(unavailable).collect();
            publish.count(&results, &event_id, begun.elapsed(), &span);
            drop(room);
            results
        }
    }

    /// Counts what became of an event.
    fn count(&self, results: &Results, event_id: &str, took: Duration, span: &Span) {
        for (channel, result) in results {
            self.metrics.publication(channel, result);
        }
        // Once per event. That the bus is unavailable the broker logs itself, once.
        let refused = |result: &&(_, Result<_, _>)| matches!(&result.1, Err(error) if is_refusal(error));
        if let Some((channel, Err(error))) = results.iter().find(refused) {
            self.refusals.by_bus(Some(event_id), channel, error);
        }
        let failed = results.iter().filter(|(_, result)| result.is_err()).count();
        if failed == 0 || failed < results.len() {
            self.metrics.publish_duration.observe(took.as_secs_f64(), span);
        }
        self.metrics.event(match failed {
            _ if is_duplicate(results) => EventResult::Duplicate,
            0 => EventResult::Published,
            _ if failed < results.len() => EventResult::Partly,
            _ => EventResult::Failed,
        });
    }

    /// Hands a publication to the bus for each of `targets`, now; the futures give the answers, in order.
    pub(super) fn send(
        &self,
        targets: Vec<broker::Target>,
        sending: &Sending<'_>,
    ) -> Vec<impl Future<Output = Vec<Result<Published, broker::Error>>> + Send + use<>> {
        let mut sent = Vec::with_capacity(1);
        if trace::enabled() && targets.len() <= MAX_SPANS {
            for target in targets {
                let name = target.channel.to_string();
                sent.push(self.send_traced(vec![target], &name, sending));
            }
            return sent;
        }
        // Nearly always one run.
        let mut rest = targets.into_iter();
        let alike =
            |one: &broker::Target, next: &broker::Target| self.tags_trace(one) == self.tags_trace(next);
        while let Some(run) = rest.as_slice().chunk_by(alike).next().map(<[_]>::len) {
            let run = first(&mut rest, run);
            let name = format!("({} channels)", run.len());
            sent.push(self.send_traced(run, &name, sending));
        }
        sent
    }

    /// Whether clients hear of the trace that a publication is part of.
    fn tags_trace(&self, target: &broker::Target) -> bool {
        let namespace = || self.namespaces.of(&target.channel);
        self.tags_traces && namespace().is_some_and(|namespace| namespace.traceparent_tag)
    }

    /// `targets` are alike in whether clients hear of the trace.
    fn send_traced(
        &self,
        targets: Vec<broker::Target>,
        name: &str,
        sending: &Sending<'_>,
    ) -> impl Future<Output = Vec<Result<Published, broker::Error>>> + Send + use<> {
        let mut publication = sending.publication.clone();
        let span = trace::publish(
            self.system,
            name,
            &publication.id,
            publication.data.len(),
            sending.span,
        );
        publication.trace = trace::onward(&span, sending.trace.clone()).map(|context| TraceContext {
            traceparent: context.traceparent,
            tracestate: context.tracestate,
        });
        if let Some(trace) = &publication.trace
            && targets.first().is_some_and(|target| self.tags_trace(target))
        {
            let tag = publication.tags.entry(TRACE_TAG.to_owned());
            tag.or_insert_with(|| trace.traceparent.clone());
        }
        let answers = self.hand_over(targets, publication, sending);
        async move {
            let results = answers.await;
            if results.iter().any(Result::is_err) {
                span.record("otel.status_code", "ERROR");
            }
            results
        }
    }

    fn hand_over(
        &self,
        targets: Vec<broker::Target>,
        publication: Publication,
        sending: &Sending<'_>,
    ) -> impl Future<Output = Vec<Result<Published, broker::Error>>> + Send + use<> {
        let deadline = sending.deadline;
        match sending.order {
            Some(order) => Either::Left(order.publish(&targets, &publication, deadline)),
            None => {
                let publisher = self.publisher.clone();
                Either::Right(async move { publisher.publish_within(&targets, &publication, deadline).await })
            }
        }
    }
}

/// Results of which some are errors; when all are, that is the error.
pub(crate) fn whole(results: Results) -> Result<Results, Error> {
    match failure(&results) {
        Some(error) if results.iter().all(|(_, result)| result.is_err()) => Err(Error::Bus(error.clone())),
        _ => Ok(results),
    }
}

fn failure(results: &Results) -> Option<&broker::Error> {
    results.iter().find_map(|(_, result)| result.as_ref().err())
}

/// Whether the bus itself said no: it is neither unavailable, nor does the publication wait behind another.
pub(super) fn is_refusal(error: &broker::Error) -> bool {
    !matches!(error, broker::Error::Away { .. } | broker::Error::Aborted { .. })
}

/// The first `count` targets, taken out.
fn first(targets: &mut vec::IntoIter<broker::Target>, count: usize) -> Vec<broker::Target> {
    if count == targets.len() {
        // Without a copy.
        return mem::take(targets).collect();
    }
    targets.take(count).collect()
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
