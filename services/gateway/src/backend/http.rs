//! A backend that speaks HTTP: the question is posted as JSON, the answer is 200 and JSON.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};

use super::{failure::Failure, question::Question};

/// Connections that nobody uses are closed after this long.
const IDLE: Duration = Duration::from_secs(30);

/// Connections to one endpoint, kept open between questions.
pub(super) struct Http {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    max_bytes: usize,
}

impl Http {
    /// The other end of `https` is checked by the certificates that this system trusts. At most `idle` connections are
    /// kept. An answer may have `max_bytes`.
    pub(super) fn new(uri: Uri, idle: usize, max_bytes: usize) -> Result<Self, String> {
        let tls = ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?;
        let tls = if uri.scheme_str() == Some("https") {
            tls.with_native_roots().map_err(|error| {
                format!(
                    "cannot read this system's CA certificates: {error}; install them, or name their file in \
                     SSL_CERT_FILE"
                )
            })?
        } else {
            tls.with_root_certificates(RootCertStore::empty())
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle)
            .build(connector);
        Ok(Self {
            uri,
            client,
            max_bytes,
        })
    }

    pub(super) async fn ask<Q: Question>(
        &self,
        mut headers: HeaderMap,
        question: &Q,
    ) -> Result<Q::Answer, Failure> {
        let body = serde_json::to_vec(question).map_err(Failure::Question)?;
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "tidings/",
                env!("CARGO_PKG_VERSION")
            )));
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| Failure::away(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), self.max_bytes).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failure::TooLong(self.max_bytes),
            false => Failure::away(&*error),
        })?;
        read(&body.to_bytes())
    }
}

/// An answer in JSON.
pub(super) fn read<A: serde::de::DeserializeOwned>(json: &[u8]) -> Result<A, Failure> {
    serde_json::from_slice(json).map_err(|error| Failure::NoJson {
        line: error.line(),
        column: error.column(),
    })
}
