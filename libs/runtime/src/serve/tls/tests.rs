//! Doors with TLS, by real handshakes.

use std::{net::SocketAddr, sync::Arc};

use axum::{Extension, Router, routing::get};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    Shutdown,
    serve::{self, Limits, Listener},
    test_util::{Authority, Signed},
};

/// A door that says by which names it knows who asks.
fn open(tls: &Tls) -> (SocketAddr, Shutdown) {
    let tcp = serve::bind("test", ([127, 0, 0, 1], 0).into()).unwrap();
    let address = tcp.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let who = |client: Option<Extension<ClientCertificate>>| async move {
        client.map_or("nobody".to_owned(), |client| client.names().join(" "))
    };
    let listener = Listener {
        tcp,
        tls: Some(tls.clone()),
    };
    let router = Router::new().route("/", get(who));
    drop(shutdown.spawn(serve::serve(listener, router, Limits::DEFAULT, shutdown.clone())));
    (address, shutdown)
}

fn files(own: &Signed, client_ca: Option<&Authority>) -> Config {
    Config {
        certificate_file: own.certificate_file.clone(),
        key_file: own.key_file.clone(),
        client_ca_file: client_ca.map(Authority::file),
    }
}

fn client(trusts: &Authority, shows: Option<&Signed>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(trusts.pem.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let Some(Signed { certificate, key, .. }) = shows else {
        return builder.with_no_client_auth();
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    builder.with_client_auth_cert(chain, key).unwrap()
}

/// What the door says to this client; an error where it does not get in.
async fn ask(address: SocketAddr, client: ClientConfig) -> std::io::Result<String> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, socket).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_door_is_known_by_its_authority_and_asks_nobody_who_they_are() {
    let authority = Authority::new();
    let (address, shutdown) = open(&Tls::read(files(&authority.sign("door", "localhost"), None)).unwrap());
    assert_eq!(ask(address, client(&authority, None)).await.unwrap(), "nobody");
    let stranger = ask(address, client(&Authority::new(), None)).await.unwrap_err();
    assert!(stranger.to_string().contains("UnknownIssuer"), "{stranger}");

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "in the clear nobody is answered");
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn a_client_is_known_by_the_names_that_its_authority_vouches_for() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let tls = Tls::read(files(&ours.sign("door", "localhost"), Some(&clients))).unwrap();
    let (address, shutdown) = open(&tls);
    for name in ["task-service", "spiffe://example.org/task-service"] {
        let shown = clients.sign("client", name);
        assert_eq!(ask(address, client(&ours, Some(&shown))).await.unwrap(), name);
    }
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn a_client_without_a_good_certificate_does_not_get_in() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let tls = Tls::read(files(&ours.sign("door", "localhost"), Some(&clients))).unwrap();
    let (address, shutdown) = open(&tls);
    let expired = clients.sign_expired("expired", "task-service");
    let of_another = Authority::new().sign("other", "task-service");
    for (shown, why) in [
        (None, "CertificateRequired"),
        (Some(&expired), "CertificateExpired"),
        (Some(&of_another), "UnknownCA"),
    ] {
        let refused = ask(address, client(&ours, shown)).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{why}: {refused}");
    }
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_shake_hands_is_let_go() {
    let authority = Authority::new();
    let (address, shutdown) = open(&Tls::read(files(&authority.sign("door", "localhost"), None)).unwrap());
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    let _half = TcpStream::connect(address).await.unwrap();
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_while_the_door_is_open() {
    let (first, second) = (Authority::new(), Authority::new());
    let signed = first.sign("door", "localhost");
    let tls = Tls::read(files(&signed, None)).unwrap();
    let (address, shutdown) = open(&tls);
    assert_eq!(tls.renew(), Ok(false));

    let renewed = second.sign("door", "localhost");
    fs::copy(&renewed.certificate_file, &signed.certificate_file).unwrap();
    // The key has not come yet.
    let half = tls.renew().unwrap_err();
    assert_eq!(half.key, "key_file");
    assert_eq!(tls.renew(), Ok(false), "it is said once");
    assert!(ask(address, client(&first, None)).await.is_ok());

    fs::copy(&renewed.key_file, &signed.key_file).unwrap();
    assert_eq!(tls.renew(), Ok(true));
    assert!(ask(address, client(&first, None)).await.is_err());
    assert!(ask(address, client(&second, None)).await.is_ok());
    shutdown.request();
    shutdown.wait().await;
}

#[test]
fn files_of_no_use_are_named_with_what_is_wrong() {
    let authority = Authority::new();
    let (good, other) = (authority.sign("good", "localhost"), authority.sign("other", "x"));
    let empty = authority.folder().join("empty");
    fs::write(&empty, "").unwrap();
    let check = |files: Config, key, path: &Path, why: &str| {
        let error = Tls::read(files).unwrap_err();
        assert_eq!((error.key, error.path.as_path()), (key, path));
        assert!(error.why.contains(why), "{error}");
    };
    let good = files(&good, None);
    let missing = authority.folder().join("missing.pem");
    let with = |certificate_file: &Path| Config {
        certificate_file: certificate_file.to_owned(),
        ..good.clone()
    };
    check(with(&missing), "certificate_file", &missing, "cannot be read");
    check(
        with(&empty),
        "certificate_file",
        &empty,
        "has no certificate in PEM",
    );
    check(
        with(&good.key_file),
        "certificate_file",
        &good.key_file,
        "has no certificate",
    );
    let with = |key_file: &Path| Config {
        key_file: key_file.to_owned(),
        ..good.clone()
    };
    check(with(&empty), "key_file", &empty, "has no private key in PEM");
    check(
        with(&other.key_file),
        "key_file",
        &other.key_file,
        "does not go with certificate_file",
    );
    let with = |client_ca: &Path| Config {
        client_ca_file: Some(client_ca.to_owned()),
        ..good.clone()
    };
    check(
        with(&empty),
        "client_ca_file",
        &empty,
        "has no certificate in PEM",
    );
}
