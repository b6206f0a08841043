//! `tidings.fanout.v1.Fanout`: a request becomes an event, what becomes of it becomes an answer or a status.
//!
//! With its modules this is all of fanout, beside the door, that knows gRPC: [`event`] and [`order`] check what came and
//! [`wrong`] notes what is wrong with it, [`control`] has gateways carry out orders, [`guard`] asks for an API key,
//! [`status`] says no, [`presence`] answers who is there.

mod control;
mod event;
pub(crate) mod guard;
mod order;
pub(crate) mod presence;
pub(crate) mod status;
mod wrong;

use std::{future::Future, sync::Arc, time::SystemTime};

use tidings_auth::Key;
use tidings_broker::{self as broker, Published};
use tidings_core::{Channel, Position};
use tidings_proto::fanout as proto;
use tidings_telemetry::trace;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument as _, Span};

use crate::{
    control::Control,
    metrics::{EventResult, Metrics},
    publish::{self, Publish, Results},
};

const PUBLISH: &str = "tidings.fanout.v1.Fanout/Publish";

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct Fanout {
    pub(crate) publish: Publish,
    pub(crate) control: Control,
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
        let trace = caller_trace(&request);
        let span = trace::server(PUBLISH, trace.as_ref());
        traced(span.clone(), self.answer(request, trace, &span)).await
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
}

impl Fanout {
    async fn answer(
        &self,
        request: Request<proto::PublishRequest>,
        trace: Option<trace::Context>,
        span: &Span,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        let key = caller(&request)?;
        let accepted = SystemTime::now();
        let event::Accepted {
            event,
            channels,
            once,
        } = event::check(request.into_inner(), key.as_deref().map(Key::name), accepted).map_err(
            |violations| {
                self.metrics.event(EventResult::Invalid);
                status::invalid(violations)
            },
        )?;
        let event_id = event.id.clone();
        let request = publish::Request {
            event,
            channels,
            once,
            accepted,
            key,
            trace,
        };
        let results = self
            .publish
            .publish(request, span)
            .await
            .map_err(|error| status::of(&error))?;
        Ok(Response::new(response(event_id, results)))
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
    trace::of_headers(request.metadata().as_ref())
        .filter(|context| context.traceparent.len() <= 128 && context.tracestate.len() <= 512)
}

fn response(event_id: String, results: Results) -> proto::PublishResponse {
    proto::PublishResponse {
        event_id,
        duplicate: publish::is_duplicate(&results),
        results: results
            .into_iter()
            .map(|(channel, result)| channel_result(&channel, result))
            .collect(),
    }
}

fn channel_result(channel: &Channel, result: Result<Published, broker::Error>) -> proto::ChannelResult {
    let channel = channel.to_string();
    match result.map(|published| published.position) {
        Ok(Some(Position { offset, epoch })) => proto::ChannelResult {
            channel,
            offset,
            epoch,
            error: None,
        },
        Ok(None) => proto::ChannelResult {
            channel,
            ..proto::ChannelResult::default()
        },
        Err(error) => {
            let code = status::code_of(&error) as u32;
            let error = Some(proto::Error {
                code,
                message: error.to_string(),
            });
            proto::ChannelResult {
                channel,
                error,
                ..proto::ChannelResult::default()
            }
        }
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
