//! `tidings.presence.v1.Presence` for backends: the reads, passed on to the presence service.
//!
//! Backends have one address and one key for everything; gateways attach to the presence service itself.

use std::{future::Future, time::Duration};

use http::HeaderMap;
use tidings_auth::Key;
use tidings_core::{Channel, Namespaces};
use tidings_proto::presence::{
    AnnouncedRequest, AnnouncedResponse, GatewayUpdate, ListRequest, ListResponse, LookupRequest,
    LookupResponse, PresenceAck, StatsRequest, StatsResponse, WatchRequest, WatchResponse,
    presence_client::PresenceClient, presence_server,
};
use tidings_telemetry::trace;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap, transport};
use tonic_types::FieldViolation;
use tracing::Span;

use super::{caller, caller_trace, status, traced};
use crate::publish;

/// How long the presence service has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The presence service, as it is asked.
pub(crate) type Client = PresenceClient<transport::Channel>;

pub(crate) struct Reads {
    /// `None`: it is not known where presence runs.
    pub(crate) presence: Option<transport::Channel>,
    /// Those that somebody configured: nobody can be anywhere else.
    pub(crate) namespaces: Namespaces,
}

#[tonic::async_trait]
impl presence_server::Presence for Reads {
    type AttachStream = tokio_stream::Empty<Result<PresenceAck, Status>>;
    type WatchStream = Streaming<WatchResponse>;

    async fn attach(
        &self,
        _: Request<Streaming<GatewayUpdate>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let message = "gateways attach to the presence service's own door, not to the backends'";
        Err(Status::unimplemented(message))
    }

    async fn announced(&self, _: Request<AnnouncedRequest>) -> Result<Response<AnnouncedResponse>, Status> {
        Err(Status::unimplemented(
            "what was announced is for gateways, at the internal API; `List` says who is there",
        ))
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

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let incoming = caller_trace(&request);
        let span = trace::server("tidings.presence.v1.Presence/Lookup", incoming.as_ref());
        traced(span.clone(), async {
            let mut presence = self.admit_everywhere(&request)?;
            answer(presence.lookup(onward(request.into_inner(), &span, incoming))).await
        })
        .await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let incoming = caller_trace(&request);
        let span = trace::server("tidings.presence.v1.Presence/Watch", incoming.as_ref());
        traced(span.clone(), async {
            let mut presence = self.admit_everywhere(&request)?;
            answer(presence.watch(onward(request.into_inner(), &span, incoming))).await
        })
        .await
    }
}

impl Reads {
    /// Whom to ask, when the caller may ask about the channel.
    fn admit<T>(&self, request: &Request<T>, channel: &str) -> Result<Client, Status> {
        let client = self.asked_by(caller(request)?.as_deref(), channel)?;
        match Channel::parse(channel) {
            Ok(channel) if self.namespaces.of(&channel).is_none() => {
                let route = None;
                Err(status::of(&publish::Error::Namespace { channel, route }))
            }
            _ => Ok(client),
        }
    }

    /// The same, for whichever way the question came.
    pub(crate) fn asked_by(&self, key: Option<&Key>, channel: &str) -> Result<Client, Status> {
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
        self.client()
    }

    /// Likewise, where the answer may be about any channel.
    fn admit_everywhere<T>(
        &self,
        request: &Request<T>,
    ) -> Result<PresenceClient<transport::Channel>, Status> {
        if let Some(key) = caller(request)?.filter(|key| !key.has_all_channels()) {
            let name = key.name();
            return Err(status::refused(
                Code::PermissionDenied,
                "CHANNEL_OUT_OF_SCOPE",
                format!(
                    "the API key {name:?} may not look into every channel; its scope is backends.key.channels"
                ),
                &[("key", name)],
            ));
        }
        self.client()
    }

    fn client(&self) -> Result<PresenceClient<transport::Channel>, Status> {
        match &self.presence {
            Some(presence) => Ok(PresenceClient::new(presence.clone())),
            None => Err(Status::unimplemented(
                "no presence service is known here: set presence.url",
            )),
        }
    }
}

/// The same message in a request of ours: the caller's key stays here, its trace goes on.
pub(crate) fn onward<T>(message: T, span: &Span, incoming: Option<trace::Context>) -> Request<T> {
    let mut headers = HeaderMap::new();
    trace::inject_headers(span, incoming, &mut headers);
    let mut request = Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    request
}

/// The presence service's answer. When it is away that is temporary, whatever the transport calls it.
pub(crate) async fn answer<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
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
