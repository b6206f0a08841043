//! How a server is reached by TLS, as it is typed: whom to trust, and which certificate to show.

use std::{
    error::Error as _,
    fs,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{failure::Failure, grpc};

/// The files, all in PEM.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "For https://")]
pub(super) struct Tls {
    /// Trust the authorities in this file, in place of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this certificate, where the server asks for one
    #[arg(long, value_name = "FILE", requires = "certificate_key")]
    certificate: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
}

impl Tls {
    /// The gRPC service at `url`, which the argument `argument` says.
    pub(super) fn endpoint(&self, url: &str, argument: &str) -> Result<Endpoint, Failure> {
        let named = self.ca.is_some() || self.certificate.is_some();
        if named && url.starts_with("http://") {
            return Err(Failure::usage(format!(
                "{argument}: {url} is reached without TLS, so --ca and --certificate are of no use; expected https://"
            )));
        }
        grpc::endpoint_by(url, self.config()?).map_err(|error| Failure::usage(format!("{argument}: {error}")))
    }

    /// What the server at `url` may have wanted, where a call ended with its connection: with TLS 1.3 a client hears that it
    /// has to show a certificate when it believes the handshake to be over.
    pub(super) fn hint(&self, url: &str, status: &Status) -> &'static str {
        let broken = status.source().is_some();
        if broken && self.certificate.is_none() && url.starts_with("https://") {
            "\n  the server ended the connection; if it asks for a certificate, show one with --certificate"
        } else {
            ""
        }
    }

    fn config(&self) -> Result<ClientTlsConfig, Failure> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            None => tls.with_native_roots(),
            Some(path) => {
                let pem = certificates("--ca", path)?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
        };
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.certificate_key) {
            let certificate = certificates("--certificate", certificate)?;
            tls = tls.identity(Identity::from_pem(certificate, read("--certificate-key", key)?));
        }
        Ok(tls)
    }
}

/// A file with one certificate at least.
fn certificates(argument: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let pem = read(argument, path)?;
    match CertificateDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(error) => Err(Failure::usage(format!(
            "{argument}: {} has no certificate in PEM: {error}",
            path.display()
        ))),
    }
}

fn read(argument: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| {
        let path = path.display();
        Failure::usage(format!("{argument}: cannot read {path}: {error}"))
    })
}
