//! The server API of the Centrifugo ecosystem: `POST /api/METHOD`, JSON in and JSON out, so that its client libraries work.
//!
//! A request that is understood is answered with 200, `{"result":…}` or `{"error":{"code":…,"message":…}}`; with the header
//! `x-centrifugo-error-mode: transport` an error is the status, too, and the body is the error alone. [`method`] has the
//! names, [`answer`] the errors; [`publish`], [`connections`], [`look`] and [`nodes`] do what is asked for, [`batch`] many at once.

mod answer;
mod batch;
mod connections;
mod look;
mod method;
mod nodes;
mod publish;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, Method as Verb, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tidings_auth::Key;
use tidings_core::Channel;
use tidings_telemetry::trace;
use tracing::{Instrument as _, Span};

use self::{
    answer::{Answer, Error},
    method::{Method, Name},
};
use super::{Backends, read};
use crate::grpc::{self, guard};

/// Who asks for the errors to be HTTP's.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// The most that one answer may have in it of what is kept, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// A request that is no request of the method's: it is answered with 400 and this text.
#[derive(Debug)]
struct Malformed(String);

/// Who asks, and in which trace.
struct Call<'a> {
    backends: &'a Backends,
    key: Option<Arc<Key>>,
    trace: Option<trace::Context>,
    span: &'a Span,
    /// How much the answer may still have in it.
    left: AtomicUsize,
}

/// The old form, which names the method in the body.
#[derive(Deserialize)]
struct Named {
    method: String,
    #[serde(default)]
    params: Option<Box<RawValue>>,
}

/// `/api/METHOD`.
pub(super) async fn by_path(
    State(backends): State<Arc<Backends>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    respond(&backends, request, move |body| Ok((method, body))).await
}

/// `/api`.
pub(super) async fn by_name_in_body(State(backends): State<Arc<Backends>>, request: Request) -> Response {
    respond(&backends, request, |body| {
        let Named { method, params } = decode(&body)?;
        let params = params.map(|params| String::from(Box::<str>::from(params)));
        let params = params.map_or(Bytes::from_static(b"{}"), Bytes::from);
        Ok((method, params))
    })
    .await
}

async fn respond(
    backends: &Backends,
    request: Request,
    name: impl FnOnce(Bytes) -> Result<(String, Bytes), Malformed>,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(key) = read::caller(&backends.guard, &parts, parts.uri.query()) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if parts.method != Verb::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")]).into_response();
    }
    let body = match read::body(&parts.headers, body, backends.guard.message_size).await {
        Ok(body) => body,
        Err(why) => return (why.status(), why.to_string()).into_response(),
    };
    let (method, params) = match name(body) {
        Ok(named) => named,
        Err(Malformed(why)) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let Some(name) = Name::parse(&method) else {
        let why = format!(
            "the API has no method {:?}",
            method.chars().take(64).collect::<String>()
        );
        return (StatusCode::NOT_FOUND, guard::error_json(&why)).into_response();
    };
    let incoming = grpc::trace_of(&parts.headers);
    let span = trace::http(name.route(), incoming.as_ref());
    let call = Call {
        backends,
        key,
        trace: incoming,
        span: &span,
        left: AtomicUsize::new(MAX_ANSWER),
    };
    let work = async {
        match name {
            Name::Batch => call.batch(&params).await,
            Name::One(method) => Ok(answer::envelope(
                call.answer(method, &params).await?,
                in_transport(&parts.headers),
            )),
            Name::NotOffered(method) => {
                let error = Error::not_available(format!("{method} is not offered"));
                Ok(answer::envelope(Err(error), in_transport(&parts.headers)))
            }
        }
    };
    let response = match Box::pin(work).instrument(span.clone()).await {
        Ok(response) => response,
        Err(Malformed(why)) => (StatusCode::BAD_REQUEST, why).into_response(),
    };
    trace::answered(&span, response.status());
    response
}

impl Call<'_> {
    /// Boxed: a batch would else have a future as large as all methods' together.
    fn answer<'c>(&'c self, method: Method, params: &'c [u8]) -> BoxFuture<'c, Result<Answer, Malformed>> {
        Box::pin(self.attempt(method, params))
    }

    async fn attempt(&self, method: Method, params: &[u8]) -> Result<Answer, Malformed> {
        // Who asks for what nobody offers is told that.
        if let Some(asked) = method.scope()
            && let Err(status) = self.backends.guard.permit(self.key(), Some(asked))
        {
            return Ok(Err(status.into()));
        }
        Ok(match method {
            Method::Publish => self.publish(decode(params)?).await,
            Method::Broadcast => self.broadcast(decode(params)?).await,
            Method::Subscribe => self.subscribe(decode(params)?).await,
            Method::Unsubscribe => self.unsubscribe(decode(params)?).await,
            Method::Disconnect => self.disconnect(decode(params)?).await,
            Method::Refresh => self.refresh(decode(params)?).await,
            Method::Presence => self.presence(decode(params)?).await,
            Method::PresenceStats => self.presence_stats(decode(params)?).await,
            Method::History => self.history(decode(params)?).await,
            Method::HistoryRemove => self.history_remove(decode(params)?).await,
            Method::Rpc => rpc(&decode(params)?),
            Method::Info => {
                decode::<Empty>(params)?;
                self.info().await
            }
            Method::Channels => self.channels(decode(params)?).await,
        })
    }

    fn key(&self) -> Option<&Key> {
        self.key.as_deref()
    }

    /// Takes the size of a part of the answer from what it may have.
    fn fits(&self, part: Box<RawValue>) -> Answer {
        let size = part.get().len();
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(size)
            });
        match taken {
            Ok(_) => Ok(part),
            Err(_) => Err(Error::limit(format!(
                "the answer would be larger than {MAX_ANSWER} bytes; ask for less"
            ))),
        }
    }
}

/// What is asked for without saying anything.
#[derive(Deserialize)]
struct Empty {}

/// A call to a handler of the operator's own, of which there are none.
#[derive(Deserialize)]
struct Rpc {
    #[serde(default)]
    method: Option<String>,
}

fn rpc(request: &Rpc) -> Answer {
    match request.method.as_deref() {
        None | Some("") => Err(Error::bad_request("method is required")),
        Some(_) => Err(Error::method_not_found("there are no RPC extensions here")),
    }
}

fn decode<T: DeserializeOwned>(params: &[u8]) -> Result<T, Malformed> {
    // Else an array would do, its elements in the order of the fields.
    if !params.trim_ascii_start().starts_with(b"{") {
        return Err(Malformed("the body is no JSON object".to_owned()));
    }
    serde_json::from_slice(params)
        .map_err(|error| Malformed(format!("the body is not the JSON that is expected: {error}")))
}

fn channel(name: Option<&str>) -> Result<Channel, Error> {
    Channel::parse(name.unwrap_or_default()).map_err(|why| Error::bad_request(format!("channel: {why}")))
}

fn in_transport(headers: &HeaderMap) -> bool {
    headers.get(ERROR_MODE).is_some_and(|mode| mode == "transport")
}
