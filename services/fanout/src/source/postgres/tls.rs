//! TLS to PostgreSQL: by rustls, with the provider of everything else here, and always with the server's certificate
//! checked.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Config;

/// The key below `source` that is wrong, and why.
type Wrong = (&'static str, String);

/// What connects with TLS; the files that are named are read now.
pub(super) fn connector(config: &Config) -> Result<MakeRustlsConnect, Wrong> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for certificate in certificates("postgres.ca_file", path)? {
                let added = roots.add(certificate);
                added.map_err(|why| ("postgres.ca_file", format!("has what is no authority: {why}")))?;
            }
        }
        // What the system has and cannot read is of no use to anyone.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| ("postgres.url", format!("cannot be reached by TLS: {why}")))?
        .with_root_certificates(roots);
    let client = match (&config.certificate_file, &config.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("postgres.certificate_file", certificate)?;
            let key = private_key(key)?;
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|why| {
                (
                    "postgres.key_file",
                    format!("does not fit the certificate: {why}"),
                )
            })?
        }
        _ => {
            let why = "and `source.postgres.key_file` belong together; set both or none";
            return Err(("postgres.certificate_file", why.to_owned()));
        }
    };
    Ok(MakeRustlsConnect::new(client))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let text = read(key, path)?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err((key, format!("{} has no certificate in PEM", path.display()))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Wrong> {
    let key = "postgres.key_file";
    let text = read(key, path)?;
    // What is wrong with a key is not repeated.
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| (key, format!("{} has no key in PEM", path.display())))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Wrong> {
    fs::read(path).map_err(|why| (key, format!("{} cannot be read: {why}", path.display())))
}
