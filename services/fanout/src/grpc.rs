//! `tidings.fanout.v1.Fanout`: a request becomes an event, what becomes of it becomes an answer or a status.
//!
//! With its modules this is all of fanout, beside the door, that knows gRPC: [`call`] is what a call brings beside its
//! message, [`many`] takes many events in one call and
//! [`answers`] gives those of a stream, [`event`] and [`order`] check what came and
//! [`wrong`] notes what is wrong with it, [`control`] has gateways carry out orders, [`survey`] asks nodes about themselves,
//! [`guard`] asks for an API key, [`status`] says no, [`presence`] answers who is there.

mod answers;
mod call;
pub(crate) mod control;
pub(crate) mod event;
pub(crate) mod guard;
mod many;
pub(crate) mod order;
pub(crate) mod presence;
pub(crate) mod status;
pub(crate) mod survey;
mod wrong;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use tidings_auth::Key;
use tidings_broker::{self as broker, OrderedPublisher, Published, WINDOW};
use tidings_core::{Channel, Position};
use tidings_proto::fanout as proto;
use tidings_telemetry::trace;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{Instrument as _, Span};

use self::call::Call;
pub(crate) use self::many::own_trace;
use crate::{
    control::Control,
    metrics::Metrics,
    publish::{self, Plan, Publish, Ready, Results},
};

const PUBLISH: &str = "tidings.fanout.v1.Fanout/Publish";

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct Fanout {
    pub(crate) publish: Arc<Publish>,
    pub(crate) control: Control,
    /// Becomes true when the service ends: streams are told to go elsewhere.
    pub(crate) leaving: watch::Receiver<bool>,
    pub(crate) metrics: Metrics,
}

/// Whose request it is, as the [`guard`] found out: an extension of every request that it let through.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Option<Arc<Key>>);

#[tonic::async_trait]
impl proto::fanout_server::Fanout for Fanout {
    async fn publish(
        &self,
        request: Request<proto::PublishRequest>,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        let call = Call::of(&request)?;
        let span = trace::server(PUBLISH, call.trace.as_ref());
        let (key, trace) = (call.key.clone(), call.trace.clone());
        let work = async {
            let (event_id, mut plan) = plan(&self.publish, request.into_inner(), key, trace, WINDOW)?;
            plan.deadline = call.patience();
            let ready = self.publish.room(plan).await;
            let response = start(&self.publish, event_id, ready, None, &span).await?;
            Ok(Response::new(response))
        };
        traced(span.clone(), call.within(work)).await
    }

    async fn publish_batch(
        &self,
        request: Request<proto::PublishBatchRequest>,
    ) -> Answer<proto::PublishBatchResponse> {
        self.batch(request).await
    }

    type PublishStreamStream = many::StreamAnswers;

    async fn publish_stream(
        &self,
        request: Request<Streaming<proto::PublishRequest>>,
    ) -> Answer<many::StreamAnswers> {
        self.stream(request)
    }

    async fn disconnect(&self, request: Request<proto::DisconnectRequest>) -> Answer<proto::ControlResponse> {
        self.order(control::DISCONNECT, request, order::disconnect).await
    }

    async fn subscribe(&self, request: Request<proto::SubscribeRequest>) -> Answer<proto::ControlResponse> {
        self.order(control::SUBSCRIBE, request, order::subscribe).await
    }

    async fn unsubscribe(
        &self,
        request: Request<proto::UnsubscribeRequest>,
    ) -> Answer<proto::ControlResponse> {
        self.order(control::UNSUBSCRIBE, request, order::unsubscribe)
            .await
    }

    async fn refresh(&self, request: Request<proto::RefreshRequest>) -> Answer<proto::ControlResponse> {
        self.order(control::REFRESH, request, order::refresh).await
    }

    async fn send(&self, request: Request<proto::SendRequest>) -> Answer<proto::ControlResponse> {
        self.order(control::SEND, request, order::send).await
    }

    async fn info(&self, request: Request<proto::InfoRequest>) -> Answer<proto::InfoResponse> {
        self.answer_info(request).await
    }

    async fn channels(&self, request: Request<proto::ChannelsRequest>) -> Answer<proto::ChannelsResponse> {
        self.answer_channels(request).await
    }
}

/// Checks a request and decides what is to be done for it; with the event's id. `window`: how long a repeat is known.
pub(crate) fn plan(
    publish: &Publish,
    request: proto::PublishRequest,
    key: Option<Arc<Key>>,
    trace: Option<trace::Context>,
    window: Duration,
) -> Result<(String, Box<Plan>), Status> {
    let accepted = SystemTime::now();
    let checked = event::check(request, key.as_deref().map(Key::name), accepted);
    let event::Accepted {
        event,
        channels,
        once,
    } = checked.map_err(|violations| {
        publish.malformed();
        status::invalid(violations)
    })?;
    let event_id = event.id.clone();
    let request = publish::Request {
        event,
        channels,
        once,
        window,
        accepted,
        key,
        trace,
    };
    let plan = publish.plan(request).map_err(|error| status::of(&error))?;
    Ok((event_id, plan))
}

/// Publishes an event: as [`Publish::start`], with the answer to who sent it.
pub(crate) fn start(
    publish: &Arc<Publish>,
    event_id: String,
    ready: Ready,
    order: Option<&OrderedPublisher>,
    span: &Span,
) -> impl Future<Output = Result<proto::PublishResponse, Status>> + Send + use<> {
    let started = publish.start(ready, order, span);
    async move {
        let results = publish::whole(started.await);
        Ok(response(event_id, results.map_err(|error| status::of(&error))?))
    }
}

/// The key of a request that passed the [`guard`]. One that did not is nobody's.
fn caller<T>(request: &Request<T>) -> Result<Option<Arc<Key>>, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller(key)) => Ok(key.clone()),
        None => Err(Status::internal("the service is mounted without its guard")),
    }
}

/// The caller's trace context. One too long to be meant is left out: it would travel with every publication. (Trace
/// Context: a `traceparent` has 55 characters in version 00, a `tracestate` at most 512 that must be kept.)
fn caller_trace<T>(request: &Request<T>) -> Option<trace::Context> {
    trace_of(request.metadata().as_ref())
}

/// The trace context in these headers.
pub(crate) fn trace_of(headers: &HeaderMap) -> Option<trace::Context> {
    trace::of_headers(headers).filter(meant)
}

fn meant(context: &trace::Context) -> bool {
    context.traceparent.len() <= 128 && context.tracestate.len() <= 512
}

fn response(event_id: String, results: Results) -> proto::PublishResponse {
    proto::PublishResponse {
        event_id,
        duplicate: publish::is_duplicate(&results),
        results: results
            .into_iter()
            .map(|(channel, result)| channel_result(&channel, result))
            .collect(),
        error: None,
    }
}

fn channel_result(channel: &Channel, result: Result<Published, broker::Error>) -> proto::ChannelResult {
    let channel = channel.to_string();
    match result {
        Ok(Published { position, duplicate }) => {
            let (offset, epoch) =
                position.map_or_else(Default::default, |Position { offset, epoch }| (offset, epoch));
            proto::ChannelResult {
                channel,
                offset,
                epoch,
                duplicate,
                error: None,
            }
        }
        Err(error) => proto::ChannelResult {
            channel,
            error: Some(proto::Error {
                code: status::code_of(&error) as u32,
                message: error.to_string(),
                ..proto::Error::default()
            }),
            ..proto::ChannelResult::default()
        },
    }
}

/// Does `work` in a server's span and ends it by the conventions for gRPC: an error of the span is what is our
/// fault, not the caller's.
async fn traced<T>(span: Span, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = work.instrument(span.clone()).await;
    let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
    span.record("rpc.response.status_code", trace::status_name(code));
    if matches!(
        code,
        Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss | Code::Unimplemented
    ) {
        span.record("otel.status_code", "ERROR");
    }
    answer
}
