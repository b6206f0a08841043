//! TLS at a door: the certificate that the door shows, and those that it asks for.
//!
//! Files are read when the process starts, so that what is wrong with them is said then, and again whenever somebody
//! [renews](Tls::renew) them: connections from then on meet the new ones.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What is spoken inside, by ALPN: gRPC clients insist on being told `h2`.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Which files TLS is made of, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The door's certificate, and behind it those of the authorities between it and one that clients know.
    pub certificate_file: PathBuf,
    /// The key of the door's certificate.
    pub key_file: PathBuf,
    /// The authorities that vouch for clients. Set: every client has to show a certificate of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

/// Files that TLS cannot be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {} {why}", .path.display())]
pub struct Error {
    /// The key of [`Config`] that names the file.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// TLS as a door speaks it. Clones are the same.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: Config,
    in_force: ArcSwap<ServerConfig>,
    /// What was read last, of use or not.
    read: Mutex<Texts>,
    /// Handshakes that came to nothing.
    failed: AtomicU64,
}

/// What is in the files.
#[derive(PartialEq, Eq)]
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Who is at the other end, by the certificate that it has shown: among the extensions of every request of a connection
/// whose client was [asked for one](Config::client_ca_file).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    names: Arc<[String]>,
}

impl ClientCertificate {
    /// The names that its authority vouches for: the DNS names and URIs (SPIFFE ids) of its subject's alternative names.
    /// Never the common name, which is free text (RFC 9525, section 2).
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `None` for a certificate that cannot be taken apart, which no verifier would have let in.
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        let names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
        Some(Self {
            names: names.map(str::to_owned).collect(),
        })
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that is missing, or not what it should be.
    pub fn read(files: Config) -> Result<Self, Error> {
        let texts = Texts::read(&files)?;
        let in_force = ArcSwap::from_pointee(texts.server(&files)?);
        Ok(Self(Arc::new(Inner {
            files,
            in_force,
            read: Mutex::new(texts),
            failed: AtomicU64::new(0),
        })))
    }

    /// Reads the files again; whether they have changed, and are in force. Connections that are open stay as they are.
    ///
    /// # Errors
    /// When they have changed and cannot be used, which is said once; what was in force remains.
    pub fn renew(&self) -> Result<bool, Error> {
        let Inner {
            files,
            in_force,
            read,
            ..
        } = &*self.0;
        let mut read = read.lock();
        let texts = Texts::read(files)?;
        if texts == *read {
            return Ok(false);
        }
        let server = texts.server(files);
        *read = texts;
        in_force.store(Arc::new(server?));
        Ok(true)
    }

    /// The handshake on a new connection, and who its client is, where it was asked.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
        let acceptor = TlsAcceptor::from(self.0.in_force.load_full());
        let stream = acceptor.accept(socket).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let client = shown
            .and_then(|chain| chain.first())
            .and_then(ClientCertificate::read);
        Ok((stream, client))
    }

    /// Says that a client could not get in. The 1st, 2nd, 4th, 8th … are logged: the log stays small however many come.
    pub(super) fn failed(&self, peer: std::net::SocketAddr, why: &dyn fmt::Display) {
        let failed = self.0.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if failed.is_power_of_two() {
            tracing::warn!(%peer, failed, %why, "a TLS handshake failed");
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl Texts {
    fn read(files: &Config) -> Result<Self, Error> {
        let read = |key, path: &Path| {
            fs::read(path).map_err(|error| Error::of(key, path, format!("cannot be read: {error}")))
        };
        let client_ca = files.client_ca_file.as_deref();
        Ok(Self {
            certificate: read("certificate_file", &files.certificate_file)?,
            key: read("key_file", &files.key_file)?,
            client_ca: client_ca.map(|path| read("client_ca_file", path)).transpose()?,
        })
    }

    /// What rustls needs of them.
    fn server(&self, files: &Config) -> Result<ServerConfig, Error> {
        let chain = certificates("certificate_file", &files.certificate_file, &self.certificate)?;
        let wrong_key = |why: String| Error::of("key_file", &files.key_file, why);
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| wrong_key(format!("has no private key in PEM: {error}")))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong_key(error.to_string()))?;
        let builder = match (&files.client_ca_file, &self.client_ca) {
            (Some(path), Some(text)) => {
                let wrong = |why: String| Error::of("client_ca_file", path, why);
                let mut roots = RootCertStore::empty();
                for authority in certificates("client_ca_file", path, text)? {
                    roots
                        .add(authority)
                        .map_err(|error| wrong(format!("has a certificate that is of no use: {error}")))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder
            .with_single_cert(chain, key)
            .map_err(|error| wrong_key(format!("does not go with certificate_file: {error}")))?;
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        if self.client_ca.is_some() {
            // A session that is taken up again would not show its certificate, which may be over by then.
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
        }
        Ok(server)
    }
}

/// The certificates of a file, of which there is one at least.
fn certificates(key: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::of(key, path, "has no certificate in PEM".to_owned())),
        Err(error) => Err(Error::of(key, path, format!("is no PEM: {error}"))),
    }
}

impl Error {
    fn of(key: &'static str, path: &Path, why: String) -> Self {
        Self {
            key,
            path: path.to_owned(),
            why,
        }
    }
}

#[cfg(test)]
mod tests;
