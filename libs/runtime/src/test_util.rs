//! Certificates for tests: an authority that nobody else knows, and what it signs.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use tempfile::TempDir;

/// An authority, with a folder for its certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM.
    pub pem: String,
    folder: TempDir,
}

/// A certificate and its key, in files and as they are there.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: String,
    /// Where the certificate is.
    pub certificate_file: PathBuf,
    /// Where its key is.
    pub key_file: PathBuf,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When there is no place for files, as all its methods do.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of one name would be taken for each other.
        params.distinguished_name.push(
            DnType::CommonName,
            format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed)),
        );
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), &pem).expect("a file");
        Self {
            issuer: Issuer::new(params, key),
            pem,
            folder,
        }
    }

    /// Where its own certificate is.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A certificate for a name: a URI, an address, or of DNS. Its files are called by `file`.
    pub fn sign(&self, file: &str, name: &str) -> Signed {
        self.issue(file, name, false)
    }

    /// One that was good until 2001.
    pub fn sign_expired(&self, file: &str, name: &str) -> Signed {
        self.issue(file, name, true)
    }

    fn issue(&self, file: &str, name: &str, expired: bool) -> Signed {
        let mut params = CertificateParams::default();
        let text = || name.try_into().expect("a name in ASCII");
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI(text()),
            Err(_) => SanType::DnsName(text()),
        });
        // What must not count, whatever it says.
        params
            .distinguished_name
            .push(DnType::CommonName, "common.example");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let place = |kind: &str| self.folder.path().join(format!("{file}.{kind}"));
        let signed = Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            certificate_file: place("pem"),
            key_file: place("key"),
        };
        std::fs::write(&signed.certificate_file, &signed.certificate).expect("a file");
        std::fs::write(&signed.key_file, &signed.key).expect("a file");
        signed
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
