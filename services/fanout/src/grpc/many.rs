//! Many events in one call: `PublishBatch` and `PublishStream`. Each event goes the way of `Publish`, and has an answer
//! of its own; what one call publishes to one channel keeps its order.
//!
//! Events go through three steps: a plan and room among all that are under way, one event after the other; the start, which
//! gives the event its place in the order; and the wait for the answers, of many at a time.

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt as _, Stream, StreamExt as _, future::Either, stream};
use tidings_broker::{OrderedPublisher, WINDOW};
use tidings_proto::fanout as proto;
use tidings_telemetry::trace;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::FieldViolation;
use tracing::Span;

use super::{
    Answer, Fanout,
    answers::{Answers, Gate},
    call::Call,
    meant, response, status, traced,
};
use crate::publish::{self, Plan, Publish, Ready};

const BATCH: &str = "tidings.fanout.v1.Fanout/PublishBatch";
const STREAM: &str = "tidings.fanout.v1.Fanout/PublishStream";

/// The most events of one batch.
const MAX_BATCH: usize = 1000;

/// The most channels that the events of one batch reach together: each has its line in the answer.
const MAX_BATCH_CHANNELS: usize = 100_000;

/// The most events of one call that wait for the bus at a time.
const MAX_UNDER_WAY: usize = 256;

/// The answers to a stream, in the order of its events.
pub(crate) type StreamAnswers = Answers<Result<proto::PublishResponse, Status>>;

/// An event that is decided about, or why it is refused.
type Planned = Result<(String, Box<Plan>, Span), (String, Status)>;

/// An event that is ready to go out, or the answer of one that is not.
type Begun = Result<(String, Ready, Span), proto::PublishResponse>;

/// The events of one call, on their way.
struct Way {
    publish: Arc<Publish>,
    call: Call,
    method: &'static str,
    span: Span,
    order: OrderedPublisher,
}

impl Fanout {
    pub(super) async fn batch(
        &self,
        request: Request<proto::PublishBatchRequest>,
    ) -> Answer<proto::PublishBatchResponse> {
        let call = Call::of(&request)?;
        let span = trace::server(BATCH, call.trace.as_ref());
        let events = request.into_inner().events;
        let within = call.clone();
        let way = self.way(call, BATCH, &span);
        let work = async {
            if !(1..=MAX_BATCH).contains(&events.len()) {
                let why = format!("are {}; a batch has 1 to {MAX_BATCH}", events.len());
                return Err(status::invalid(vec![FieldViolation::new("events", why)]));
            }
            let mut channels = 0;
            let planned = events.into_iter().map(|event| {
                let (id, plan, span) = way.plan(Some(event))?;
                channels += plan.channels().len();
                if channels > MAX_BATCH_CHANNELS {
                    return Err((id, status::too_many_channels(MAX_BATCH_CHANNELS)));
                }
                Ok((id, plan, span))
            });
            let responses = stream::iter(planned)
                .then(|planned| way.room(planned))
                .map(|begun| way.start(begun))
                .buffered(MAX_UNDER_WAY)
                .collect()
                .await;
            Ok(Response::new(proto::PublishBatchResponse { responses }))
        };
        traced(span.clone(), Box::pin(within.within(work))).await
    }

    pub(super) fn stream(&self, request: Request<Streaming<proto::PublishRequest>>) -> Answer<StreamAnswers> {
        let call = Call::of(&request)?;
        let span = trace::server(STREAM, call.trace.as_ref());
        let gate = Gate::default();
        let requests = gate.before(until(request.into_inner(), &call, self.leaving.clone()));
        let way = Arc::new(self.way(call, STREAM, &span));
        let begin = {
            let way = way.clone();
            move |request: Result<proto::PublishRequest, Status>| {
                let begun = request.map(|request| way.room(way.plan(request.event)));
                async move {
                    match begun {
                        Ok(begun) => Ok(begun.await),
                        Err(status) => Err(status),
                    }
                }
            }
        };
        let start = move |begun: Result<Begun, Status>| match begun {
            Ok(begun) => Either::Left(way.start(begun).map(Ok)),
            Err(status) => Either::Right(ready(Err(status))),
        };
        let answers = requests.then(begin).map(start).buffered(MAX_UNDER_WAY);
        Ok(Response::new(Answers::new(answers, gate)))
    }

    fn way(&self, call: Call, method: &'static str, span: &Span) -> Way {
        Way {
            publish: self.publish.clone(),
            call,
            method,
            span: span.clone(),
            order: self.publish.ordered(),
        }
    }
}

impl Way {
    /// Checks an event and finds its channels. An event with a trace of its own goes on in that.
    fn plan(&self, event: Option<proto::Event>) -> Planned {
        let id = event.as_ref().map(|event| event.id.clone()).unwrap_or_default();
        let own = event.as_ref().and_then(own_trace);
        let span = match &own {
            Some(own) => trace::server(self.method, Some(own)),
            None => self.span.clone(),
        };
        let (key, trace) = (self.call.key.clone(), own.or_else(|| self.call.trace.clone()));
        match super::plan(&self.publish, proto::PublishRequest { event }, key, trace, WINDOW) {
            Ok((id, mut plan)) => {
                plan.deadline = self.call.patience();
                Ok((id, plan, span))
            }
            Err(status) => Err((id, status)),
        }
    }

    /// Waits for room among all that is under way.
    fn room(&self, planned: Planned) -> impl Future<Output = Begun> + Send + use<> {
        let planned = planned.map(|(id, plan, span)| (id, self.publish.room(plan), span));
        async move {
            match planned {
                Ok((id, room, span)) => Ok((id, room.await, span)),
                Err((id, status)) => Err(refused(id, &status)),
            }
        }
    }

    /// Gives an event its place in the order of the call, before this returns.
    fn start(&self, begun: Begun) -> impl Future<Output = proto::PublishResponse> + Send + use<> {
        match begun {
            Ok((id, ready, span)) => {
                let started = self.publish.start(ready, Some(&self.order), &span);
                Either::Left(async move {
                    match publish::whole(started.await) {
                        Ok(results) => response(id, results),
                        Err(error) => refused(id, &status::of(&error)),
                    }
                })
            }
            Err(refused) => Either::Right(ready(refused)),
        }
    }
}

/// The requests of a stream, until its caller ends it or no longer waits, or the server leaves.
fn until(
    requests: Streaming<proto::PublishRequest>,
    call: &Call,
    leaving: watch::Receiver<bool>,
) -> impl Stream<Item = Result<proto::PublishRequest, Status>> + Send + use<> {
    let deadline = call.deadline;
    stream::unfold(Some((requests, leaving)), move |state| async move {
        let (mut requests, mut leaving) = state?;
        let next = tokio::select! {
            biased;
            // The other end is dropped when nobody serves any more, which is as good a reason.
            _ = leaving.wait_for(|&leaving| leaving) => Err(status::leaving()),
            () = Call::late(deadline) => Err(status::late()),
            next = requests.next() => next?,
        };
        let state = next.is_ok().then_some((requests, leaving));
        Some((next, state))
    })
}

/// The trace that an event names itself (CloudEvents, "Distributed Tracing" extension).
pub(crate) fn own_trace(event: &proto::Event) -> Option<trace::Context> {
    let text = |name| event.attributes.get(name).cloned();
    let own = trace::Context {
        traceparent: text("traceparent")?,
        tracestate: text("tracestate").unwrap_or_default(),
    };
    Some(own).filter(meant)
}

/// The answer of an event that was not published.
fn refused(event_id: String, status: &Status) -> proto::PublishResponse {
    proto::PublishResponse {
        event_id,
        error: Some(status::on_the_wire(status)),
        ..proto::PublishResponse::default()
    }
}
