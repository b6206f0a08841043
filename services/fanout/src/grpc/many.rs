//! Many events in one call: `PublishBatch` and `PublishStream`. Each event goes the way of `Publish`, and has an answer
//! of its own.

use std::{pin::Pin, sync::Arc};

use futures_util::{FutureExt as _, Stream, StreamExt as _, future::Either, stream};
use tidings_proto::fanout as proto;
use tidings_telemetry::trace;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tonic::{Request, Response, Status, Streaming};
use tonic_types::FieldViolation;
use tracing::Span;

use super::{Answer, Fanout, call::Call, meant, response, status, traced};
use crate::publish::{Plan, Publish};

const BATCH: &str = "tidings.fanout.v1.Fanout/PublishBatch";
const STREAM: &str = "tidings.fanout.v1.Fanout/PublishStream";

/// The most events of one batch.
const MAX_BATCH: usize = 1000;

/// The most channels that the events of one batch reach together: each has its line in the answer.
const MAX_BATCH_CHANNELS: usize = 100_000;

/// The most events of one call that wait for the bus at a time.
const MAX_UNDER_WAY: usize = 256;

/// The answers to a stream, in the order of its events.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<proto::PublishResponse, Status>> + Send>>;

/// An event that is ready to go out, or the answer of one that is not.
type Begun = Result<Box<Ready>, Box<proto::PublishResponse>>;

struct Ready {
    id: String,
    plan: Plan,
    span: Span,
    _room: OwnedSemaphorePermit,
}

/// The events of one call, on their way.
struct Way {
    publish: Arc<Publish>,
    call: Call,
    method: &'static str,
    span: Span,
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
            let begun = events.into_iter().map(|event| {
                let begun = way.plan(Some(event)).and_then(|(id, plan, span)| {
                    channels += plan.channels();
                    if channels > MAX_BATCH_CHANNELS {
                        return Err((id, status::too_many_channels(MAX_BATCH_CHANNELS)));
                    }
                    Ok((id, plan, span))
                });
                let way = &way;
                async move { way.finish(way.room(begun).await).await }.boxed()
            });
            let responses = stream::iter(begun).buffered(MAX_UNDER_WAY).collect().await;
            Ok(Response::new(proto::PublishBatchResponse { responses }))
        };
        traced(span.clone(), Box::pin(within.within(work))).await
    }

    pub(super) fn stream(&self, request: Request<Streaming<proto::PublishRequest>>) -> Answer<Answers> {
        let call = Call::of(&request)?;
        let span = trace::server(STREAM, call.trace.as_ref());
        let requests = until(request.into_inner(), &call, self.leaving.clone());
        let way = Arc::new(self.way(call, STREAM, &span));
        let begin = {
            let way = way.clone();
            move |request: Result<proto::PublishRequest, Status>| {
                let way = way.clone();
                async move {
                    match request {
                        Ok(request) => Ok(way.room(way.plan(request.event)).await),
                        Err(status) => Err(status),
                    }
                }
            }
        };
        let answers = requests
            .then(begin)
            .map(move |begun| match begun {
                Ok(begun) => {
                    let way = way.clone();
                    Either::Left(async move { Ok(way.finish(begun).await) }.boxed())
                }
                Err(status) => Either::Right(std::future::ready(Err(status))),
            })
            .buffered(MAX_UNDER_WAY);
        Ok(Response::new(Box::pin(answers)))
    }

    fn way(&self, call: Call, method: &'static str, span: &Span) -> Way {
        Way {
            publish: self.publish.clone(),
            call,
            method,
            span: span.clone(),
        }
    }
}

impl Way {
    /// Checks an event and finds its channels. An event with a trace of its own goes on in that.
    fn plan(&self, event: Option<proto::Event>) -> Result<(String, Plan, Span), (String, Status)> {
        let id = event.as_ref().map(|event| event.id.clone()).unwrap_or_default();
        let own = event.as_ref().and_then(own_trace);
        let span = match &own {
            Some(own) => trace::server(self.method, Some(own)),
            None => self.span.clone(),
        };
        let (key, trace) = (self.call.key.clone(), own.or_else(|| self.call.trace.clone()));
        let plan = super::plan(&self.publish, proto::PublishRequest { event }, key, trace);
        match plan {
            Ok((id, mut plan)) => {
                plan.deadline = self.call.patience();
                Ok((id, plan, span))
            }
            Err(status) => Err((id, status)),
        }
    }

    /// Waits for room among all that is under way.
    async fn room(&self, planned: Result<(String, Plan, Span), (String, Status)>) -> Begun {
        match planned {
            Ok((id, plan, span)) => Ok(Box::new(Ready {
                id,
                _room: self.publish.room(&plan).await,
                plan,
                span,
            })),
            Err((id, status)) => Err(Box::new(refused(id, &status))),
        }
    }

    async fn finish(&self, begun: Begun) -> proto::PublishResponse {
        match begun {
            Ok(ready) => {
                let Ready {
                    id,
                    plan,
                    span,
                    _room,
                } = *ready;
                match self.publish.carry_out(plan, &span).await {
                    Ok(results) => response(id, results),
                    Err(error) => refused(id, &status::of(&error)),
                }
            }
            Err(refused) => *refused,
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
