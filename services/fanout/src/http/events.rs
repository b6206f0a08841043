//! `POST /v1/events`: CloudEvents are published as events of gRPC are, and answered in JSON.
//!
//! The status is 200 when the bus has everything. Otherwise it says what is wrong, and a sender that tries again, with
//! the whole batch too, publishes nothing twice: a CloudEvent always has a source and an id.

use std::{future::ready, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, future::Either, stream};
use serde::Serialize;
use tidings_auth::{Key, Method};
use tidings_broker::{OrderedPublisher, WINDOW};
use tidings_proto::fanout as proto;
use tidings_telemetry::trace;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{Instrument as _, Span};

use super::{
    Backends,
    cloudevents::{self, Message, Read, Wrong},
    read,
};
use crate::{
    grpc,
    publish::{Plan, Ready},
};

const ROUTE: &str = "POST /v1/events";

/// The most events of one batch that wait for the bus at a time.
const MAX_UNDER_WAY: usize = 64;

/// What became of one event.
#[derive(Debug, Serialize)]
struct Outcome {
    status: u16,
    #[serde(flatten)]
    told: Told,
    #[serde(skip)]
    retry_after: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told {
    Taken {
        id: String,
        /// All its channels had it already.
        duplicate: bool,
        /// None: no route matched.
        channels: Vec<Heard>,
    },
    Refused {
        error: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        attributes: Vec<Fault>,
    },
}

/// What became of it in one channel.
#[derive(Debug, Serialize)]
struct Heard {
    channel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Fault {
    attribute: String,
    why: String,
}

pub(super) async fn take(State(backends): State<Arc<Backends>>, request: Request) -> Response {
    let incoming = grpc::trace_of(request.headers());
    let span = trace::http(ROUTE, incoming.as_ref());
    let work = answer(&backends, request, incoming, &span);
    let response = Box::pin(work).instrument(span.clone()).await;
    trace::answered(&span, response.status());
    response
}

async fn answer(
    backends: &Backends,
    request: Request,
    incoming: Option<trace::Context>,
    span: &Span,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(key) = read::caller(&backends.guard, &parts, None) else {
        let how = "a valid API key is required: send one as the header `x-api-key: KEY` or `authorization: Bearer KEY`";
        return Outcome::refused(StatusCode::UNAUTHORIZED, how).into_response();
    };
    if let Err(status) = backends.guard.permit(key.as_deref(), Some(Method::Publish)) {
        return Outcome::refused(StatusCode::FORBIDDEN, status.message()).into_response();
    }
    let body = match read::body(&parts.headers, body, backends.guard.message_size).await {
        Ok(body) => body,
        Err(why) => return Outcome::refused(why.status(), &why).into_response(),
    };
    match cloudevents::read(&parts.headers, body) {
        Ok(Message::One(event)) => {
            let begun = backends.room(backends.plan(*event, key, incoming, span)).await;
            backends.start(begun, None).await.into_response()
        }
        Ok(Message::Batch(events)) => {
            // In their order in each channel: one after the other is started, and many are waited for.
            let order = backends.fanout.publish.ordered();
            let planned = events
                .into_iter()
                .map(|event| backends.plan(event, key.clone(), incoming.clone(), span));
            let outcomes: Vec<_> = stream::iter(planned)
                .then(|planned| backends.room(planned))
                .map(|begun| backends.start(begun, Some(&order)))
                .buffered(MAX_UNDER_WAY)
                .collect()
                .await;
            together(&outcomes)
        }
        Err(why) => Outcome::refused(why.status(), &why).into_response(),
    }
}

/// An event that is decided about, or what became of it.
type Planned = Result<(String, Box<Plan>, Span), Outcome>;

/// An event that is ready to go out, or what became of it.
type Begun = Result<(String, Ready, Span), Outcome>;

impl Backends {
    /// Checks an event and finds its channels. It goes on in the trace that it names itself (extension "Distributed
    /// Tracing"), and otherwise in that of the request.
    fn plan(
        &self,
        event: Read,
        key: Option<Arc<Key>>,
        incoming: Option<trace::Context>,
        span: &Span,
    ) -> Planned {
        let event = event.map_err(|wrong| {
            self.fanout.publish.malformed();
            Outcome::from(wrong)
        })?;
        let own = grpc::own_trace(&event);
        let span = match &own {
            Some(own) => trace::http(ROUTE, Some(own)),
            None => span.clone(),
        };
        let request = proto::PublishRequest { event: Some(event) };
        let planned = grpc::plan(&self.fanout.publish, request, key, own.or(incoming), WINDOW);
        let (id, plan) = planned.map_err(Outcome::from)?;
        Ok((id, plan, span))
    }

    /// Waits for room among all that is under way.
    fn room(&self, planned: Planned) -> impl Future<Output = Begun> + Send + use<> {
        let planned = planned.map(|(id, plan, span)| (id, self.fanout.publish.room(plan), span));
        async move {
            let (id, room, span) = planned?;
            Ok((id, room.await, span))
        }
    }

    /// Gives an event its place in `order`, before this returns.
    fn start(
        &self,
        begun: Begun,
        order: Option<&OrderedPublisher>,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        match begun {
            Ok((id, ready, span)) => {
                let started = grpc::start(&self.fanout.publish, id, ready, order, &span);
                Either::Left(async move { started.await.map_or_else(Outcome::from, Outcome::from) })
            }
            Err(outcome) => Either::Right(ready(outcome)),
        }
    }
}

impl Outcome {
    fn refused(status: StatusCode, why: &(impl ToString + ?Sized)) -> Self {
        Self {
            status: status.as_u16(),
            told: Told::Refused {
                error: why.to_string(),
                attributes: Vec::new(),
            },
            retry_after: None,
        }
    }
}

impl From<Vec<Wrong>> for Outcome {
    fn from(wrong: Vec<Wrong>) -> Self {
        let faults = wrong
            .into_iter()
            .map(|Wrong { attribute, why }| Fault { attribute, why });
        Self::faulty(faults.collect())
    }
}

impl Outcome {
    fn faulty(attributes: Vec<Fault>) -> Self {
        let first = attributes
            .first()
            .map(|fault| format!("{}: {}", fault.attribute, fault.why));
        let error = match (first, attributes.len()) {
            (None, _) => "the event is invalid".to_owned(),
            (Some(first), 1) => first,
            (Some(first), count) => format!("{first} (and {} more)", count - 1),
        };
        Self {
            status: StatusCode::BAD_REQUEST.as_u16(),
            told: Told::Refused { error, attributes },
            retry_after: None,
        }
    }
}

impl From<Status> for Outcome {
    fn from(refused: Status) -> Self {
        if let Some(details) = refused.get_details_bad_request() {
            let faults = details.field_violations.into_iter().map(|fault| Fault {
                attribute: attribute(&fault.field).to_owned(),
                why: fault.description,
            });
            return Self::faulty(faults.collect());
        }
        let retry = refused
            .get_details_retry_info()
            .and_then(|retry| retry.retry_delay);
        Self {
            // It comes back as whole seconds, and not too early.
            retry_after: retry.map(|delay| delay.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
            ..Self::refused(http_status(refused.code()), refused.message())
        }
    }
}

impl From<proto::PublishResponse> for Outcome {
    /// An event that some channel does not have is not done with.
    fn from(taken: proto::PublishResponse) -> Self {
        let code = taken
            .results
            .iter()
            .find_map(|result| result.error.as_ref())
            .map(|error| error.code);
        let code = code.map(|code| Code::from_i32(code.try_into().unwrap_or_default()));
        Self {
            status: code.map_or(StatusCode::OK, http_status).as_u16(),
            told: Told::Taken {
                id: taken.event_id,
                duplicate: taken.duplicate,
                channels: taken.results.into_iter().map(Heard::from).collect(),
            },
            retry_after: (code == Some(Code::Unavailable)).then_some(1),
        }
    }
}

impl From<proto::ChannelResult> for Heard {
    fn from(result: proto::ChannelResult) -> Self {
        Self {
            channel: result.channel,
            offset: (result.offset > 0).then_some(result.offset),
            epoch: Some(result.epoch).filter(|epoch| !epoch.is_empty()),
            error: result.error.map(|error| error.message),
        }
    }
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        respond(self.status, self.retry_after, Json(&self.told))
    }
}

/// A batch has the most serious status of its events.
fn together(outcomes: &[Outcome]) -> Response {
    let worst = outcomes.iter().max_by_key(|outcome| outcome.status);
    let status = worst.map_or(StatusCode::OK.as_u16(), |worst| worst.status);
    let retry_after = worst.and_then(|worst| worst.retry_after);
    respond(
        status,
        retry_after,
        Json(serde_json::json!({ "results": outcomes })),
    )
}

fn respond(status: u16, retry_after: Option<u64>, body: impl IntoResponse) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A field of the message, as the CloudEvents attribute that it was made of.
fn attribute(field: &str) -> &str {
    let field = field.strip_prefix("event.").unwrap_or(field);
    match field.strip_prefix("attributes.").unwrap_or(field) {
        "data_content_type" => "datacontenttype",
        name => name,
    }
}

/// A gRPC status as one of HTTP, by the mapping of `google.rpc.Code`; but what an operator of the bus has to put right
/// is no fault of the caller's.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
