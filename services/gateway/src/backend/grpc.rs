//! A backend that speaks gRPC: one unary call per question.

use std::{error::Error as _, iter, time::Duration};

use http::{HeaderMap, Uri, uri::PathAndQuery};
use tidings_telemetry::trace;
use tonic::{
    Code, Request, Status, TimeoutExpired,
    client::Grpc as Client,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{failure::Failure, question::Question};

/// How often an idle backend is asked whether it is still there, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// One connection, opened when it is first needed and whenever it was lost.
pub(super) struct Grpc {
    client: Client<Channel>,
    timeout: Duration,
    max_bytes: usize,
}

impl Grpc {
    /// `uri` is `http://` or `https://`; the other end of `https` is checked by the certificates that this system
    /// trusts. An answer may have `max_bytes`. Must be called inside a tokio runtime.
    pub(super) fn new(uri: Uri, timeout: Duration, max_bytes: usize) -> Result<Self, String> {
        let tls = uri.scheme_str() == Some("https");
        let mut endpoint = Endpoint::from(uri);
        if tls {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().with_native_roots())
                .map_err(|error| format!("TLS cannot be used: {error}"))?;
        }
        let channel = endpoint
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true)
            .connect_lazy();
        Ok(Self {
            client: Client::new(channel).max_decoding_message_size(max_bytes),
            timeout,
            max_bytes,
        })
    }

    pub(super) async fn ask<Q: Question>(
        &self,
        headers: HeaderMap,
        question: Q,
    ) -> Result<Q::Answer, Failure> {
        let mut client = self.client.clone();
        client.ready().await.map_err(|error| Failure::away(&error))?;
        let mut request = Request::new(question);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request.set_timeout(self.timeout);
        let path = PathAndQuery::from_static(Q::METHOD);
        let answer = client.unary(request, path, ProstCodec::<Q, Q::Answer>::default());
        match answer.await {
            Ok(answer) => Ok(answer.into_inner()),
            // The channel or the backend looked at the clock first. The channel calls it CANCELLED.
            Err(status) if is_late(&status) => Err(Failure::TooSlow(self.timeout)),
            Err(status) => Err(match status.source() {
                Some(cause) => Failure::away(cause),
                None if status.code() == Code::OutOfRange => Failure::TooLong(self.max_bytes),
                None => Failure::Call(trace::status_name(status.code())),
            }),
        }
    }
}

fn is_late(status: &Status) -> bool {
    let mut causes = iter::successors(status.source(), |&cause| cause.source());
    status.code() == Code::DeadlineExceeded || causes.any(|cause| cause.is::<TimeoutExpired>())
}
