//! One document from one address, over HTTP/1.1: the only input of this crate that is not passed in.
//!
//! Everything happens inside the caller's future: no task, no pool, no redirect, and bounds on time and size.

use std::{error, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1,
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tower::ServiceExt;
use url::Url;

/// How long one attempt may take, from the name's lookup to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// Attempts until the outcome is the last one's.
const ATTEMPTS: usize = 2;

/// The most bytes of a document.
const MAX_BYTES: usize = 1 << 20;

/// Where the document is.
pub(super) struct Endpoint {
    uri: Uri,
    host: String,
    connector: HttpsConnector<HttpConnector>,
}

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadEndpoint {
    /// It is no address of a document.
    #[error(
        "expected an address such as https://example.com/.well-known/jwks.json, without user and password"
    )]
    Url,
    /// There is nothing to check a server's certificate by.
    #[error(
        "cannot read this system's CA certificates: {0}; install them, or name their file in SSL_CERT_FILE"
    )]
    Roots(#[source] io::Error),
    /// The TLS library has no protocol version to speak.
    #[error("TLS cannot be used: {0}")]
    Tls(#[source] rustls::Error),
}

/// A document that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch keys from {uri}: {why}")]
pub struct Error {
    uri: Uri,
    #[source]
    why: Why,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    /// It took too long.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// Nobody is there, or not who they should be.
    #[error("{}", Causes(&**.0))]
    Connect(#[source] Box<dyn error::Error + Send + Sync>),
    /// They do not speak HTTP, or stopped.
    #[error("{}", Causes(.0))]
    Http(#[source] hyper::Error),
    /// They have something else to say.
    #[error("the answer is {0}, expected 200 OK")]
    Status(StatusCode),
    /// The document broke off.
    #[error("{}", Causes(&**.0))]
    Body(#[source] Box<dyn error::Error + Send + Sync>),
    /// The document is too long.
    #[error("the answer has more than {MAX_BYTES} bytes")]
    TooLong,
    /// The document is something else.
    #[error("the answer is no JSON Web Key Set: {0}")]
    NoSet(#[source] serde_json::Error),
    /// The set is too large.
    #[error("the set has {keys} keys, at most {} are read", super::jwk::MAX_KEYS)]
    TooMany {
        /// How many.
        keys: usize,
    },
    /// The set is of no use.
    #[error("the set has no usable key: expected kty RSA, EC or OKP (Ed25519) with a kid, for signatures")]
    NoKey,
}

impl Endpoint {
    /// A server is checked by the certificates that this system trusts.
    pub(super) fn new(url: &Url) -> Result<Self, BadEndpoint> {
        match url.scheme() {
            "https" => {
                let trusting = tls_builder()?.with_native_roots().map_err(BadEndpoint::Roots)?;
                Self::with(url, trusting.with_no_client_auth())
            }
            "http" => Self::trusting(url, RootCertStore::empty()),
            _ => Err(BadEndpoint::Url),
        }
    }

    /// The same, checked by `roots` alone.
    pub(super) fn trusting(url: &Url, roots: RootCertStore) -> Result<Self, BadEndpoint> {
        let tls = tls_builder()?.with_root_certificates(roots).with_no_client_auth();
        Self::with(url, tls)
    }

    fn with(url: &Url, tls: ClientConfig) -> Result<Self, BadEndpoint> {
        // An error shows the address, so it must not hold a password.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadEndpoint::Url);
        }
        let uri: Uri = url.as_str().parse().map_err(|_| BadEndpoint::Url)?;
        let host = uri.authority().ok_or(BadEndpoint::Url)?.to_string();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { uri, host, connector })
    }

    /// What `read` makes of the document.
    pub(super) async fn get<T>(&self, read: impl Fn(&[u8]) -> Result<T, Why>) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let document = tokio::time::timeout(TIMEOUT, self.attempt()).await;
            match document
                .unwrap_or(Err(Why::Timeout))
                .and_then(|bytes| read(&bytes))
            {
                Ok(value) => return Ok(value),
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                Err(why) => {
                    return Err(Error {
                        uri: self.uri.clone(),
                        why,
                    });
                }
            }
        }
    }

    async fn attempt(&self) -> Result<Bytes, Why> {
        let stream = self.connector.clone().oneshot(self.uri.clone());
        let stream = stream.await.map_err(Why::Connect)?;
        let (mut sender, connection) = http1::handshake(stream).await.map_err(Why::Http)?;
        let answer = async {
            let answer = sender.send_request(self.request()).await.map_err(Why::Http)?;
            if answer.status() != StatusCode::OK {
                return Err(Why::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
            body.map(|body| body.to_bytes()).map_err(too_long)
        };
        // The connection moves the bytes that the answer waits for. When it ends first, the answer knows why.
        tokio::pin!(answer, connection);
        tokio::select! {
            answer = &mut answer => answer,
            _ = &mut connection => answer.await,
        }
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        Request::get(path)
            .header(HOST, &self.host)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tidings/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .expect("the parts of a URI are valid where they came from")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.uri).finish()
    }
}

fn tls_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, BadEndpoint> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(BadEndpoint::Tls)
}

fn too_long(error: Box<dyn error::Error + Send + Sync>) -> Why {
    if error.is::<LengthLimitError>() {
        Why::TooLong
    } else {
        Why::Body(error)
    }
}

/// An error and what caused it: network libraries say little in the first line.
struct Causes<'a>(&'a dyn error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
