//! `tidings.presence.v1.Presence` for backends: the reads, passed on to the presence service.
//!
//! Backends have one address and one key for everything; gateways attach to the presence service itself.

use std::{future::Future, time::Duration};

use http::HeaderMap;
use tidings_core::Channel;
use tidings_proto::presence::{
    GatewayUpdate, ListRequest, ListResponse, PresenceAck, StatsRequest, StatsResponse,
    presence_client::PresenceClient, presence_server,
};
use tidings_telemetry::trace;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap, transport};
use tonic_types::FieldViolation;
use tracing::Span;

use super::{caller, caller_trace, status, traced};

/// How long the presence service has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Reads {
    /// `None`: it is not known where presence runs.
    pub(crate) presence: Option<transport::Channel>,
}

#[tonic::async_trait]
impl presence_server::Presence for Reads {
    type AttachStream = tokio_stream::Empty<Result<PresenceAck, Status>>;

    async fn attach(
        &self,
        _: Request<Streaming<GatewayUpdate>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let message = "gateways attach to the presence service's own door, not to the backends'";
        Err(Status::unimplemented(message))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let incoming = caller_trace(&request);
        let span = trace::server("tidings.presence.v1.Presence/List", incoming.as_ref());
        traced(span.clone(), async {
            let mut presence = self.admit(&request, &request.get_ref().channel)?;
            answer(presence.list(onward(request.into_inner(), &span, incoming))).await
        })
        .await
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        let incoming = caller_trace(&request);
        let span = trace::server("tidings.presence.v1.Presence/Stats", incoming.as_ref());
        traced(span.clone(), async {
            let mut presence = self.admit(&request, &request.get_ref().channel)?;
            answer(presence.stats(onward(request.into_inner(), &span, incoming))).await
        })
        .await
    }
}

impl Reads {
    /// Whom to ask, when the caller may ask about the channel.
    fn admit<T>(
        &self,
        request: &Request<T>,
        channel: &str,
    ) -> Result<PresenceClient<transport::Channel>, Status> {
        let key = caller(request)?;
        let channel = Channel::parse(channel)
            .map_err(|why| status::invalid(vec![FieldViolation::new("channel", why.to_string())]))?;
        if let Some(key) = key.filter(|key| !key.may_look_into(&channel)) {
            let name = key.name();
            return Err(status::refused(
                Code::PermissionDenied,
                "CHANNEL_OUT_OF_SCOPE",
                format!(
                    "the API key {name:?} may not look into channel {channel}; its scope is backends.key.channels"
                ),
                &[("key", name), ("channel", channel.as_str())],
            ));
        }
        match &self.presence {
            Some(presence) => Ok(PresenceClient::new(presence.clone())),
            None => Err(Status::unimplemented(
                "no presence service is known here: set presence.url",
            )),
        }
    }
}

/// The same message in a request of ours: the caller's key stays here, its trace goes on.
fn onward<T>(message: T, span: &Span, incoming: Option<trace::Context>) -> Request<T> {
    let mut headers = HeaderMap::new();
    trace::inject_headers(span, incoming, &mut headers);
    let mut request = Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    request
}

/// The presence service's answer. When it is away that is temporary, whatever the transport calls it.
async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<Response<T>, Status> {
    let away = |why: &str| status::away("PRESENCE_AWAY", format!("the presence service is away: {why}"));
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(response)) => Ok(Response::new(response.into_inner())),
        Ok(Err(error)) => Err(match error.code() {
            Code::Unavailable | Code::Cancelled | Code::Unknown => away(error.message()),
            Code::OutOfRange => {
                Status::resource_exhausted("the answer is too large: ask with a smaller page_size")
            }
            _ => error,
        }),
        Err(_) => Err(away("it did not answer within 5 seconds")),
    }
}
