//! The door by TLS, and who is known by a certificate.

use std::{net::SocketAddr, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tidings_auth::keys;
use tidings_fanout::Config;
use tidings_proto::fanout::{self as proto, fanout_client::FanoutClient};
use tidings_runtime::{
    serve::tls,
    test_util::{Authority, Signed},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use crate::harness::{Door, event, insecure, with};

/// A door whose authority is not that of its clients, and what it asks of them.
struct Guarded {
    door: Door,
    ours: Authority,
    clients: Authority,
}

impl Guarded {
    fn open(key: Vec<keys::Config>) -> Self {
        let (ours, clients) = (Authority::new(), Authority::new());
        let own = ours.sign("door", "localhost");
        let config = Config {
            insecure: false,
            key,
            tls: Some(tls::Config {
                certificate_file: own.certificate_file,
                key_file: own.key_file,
                client_ca_file: Some(clients.file()),
            }),
            ..insecure()
        };
        let door = Door::open(&config, &[]);
        Self { door, ours, clients }
    }

    /// An event published over gRPC by whoever shows this.
    async fn publish(&self, shows: Option<&Signed>, key: Option<&'static str>) -> Result<String, Status> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ours.pem))
            .domain_name("localhost");
        if let Some(Signed { certificate, key, .. }) = shows {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.door.address)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
        let metadata: Vec<_> = key.into_iter().map(|key| ("x-api-key", key)).collect();
        let request = proto::PublishRequest {
            event: Some(event(&["a"])),
        };
        let answer = FanoutClient::new(channel)
            .publish(with(request, &metadata))
            .await?;
        Ok(answer.into_inner().results[0].channel.clone())
    }

    /// The status line of a plain HTTP request by whoever shows this; an error when the handshake failed.
    async fn http(&self, shows: Option<&Signed>, header: &str) -> std::io::Result<String> {
        let (address, trusts) = (self.door.address, self.ours.pem.clone());
        post(address, &trusts, shows, header).await
    }
}

async fn post(
    address: SocketAddr,
    trusts: &str,
    shows: Option<&Signed>,
    header: &str,
) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(trusts.as_bytes()).unwrap())
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let body = r#"{"channel":"a","data":{}}"#;
    let length = body.len();
    let request = format!(
        "POST /api/publish HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn key(name: &str, key: Option<&str>, certificate: Option<&str>) -> keys::Config {
    keys::Config {
        name: name.to_owned(),
        key: key.map(|key| key.to_owned().into()),
        certificate: certificate.map(str::to_owned),
        ..keys::Config::default()
    }
}

#[tokio::test]
async fn a_certificate_is_enough_where_its_entry_has_no_key_and_its_scopes_apply() {
    let scoped = keys::Config {
        channels: Some(vec!["b".to_owned()]),
        ..key("bills", None, Some("bills.internal"))
    };
    let mut guarded = Guarded::open(vec![key("tasks", None, Some("tasks.internal")), scoped]);
    guarded.door.listen(&["a"]).await;
    let tasks = guarded.clients.sign("tasks", "tasks.internal");
    assert_eq!(guarded.publish(Some(&tasks), None).await.unwrap(), "a");
    assert_eq!(guarded.http(Some(&tasks), "").await.unwrap(), "HTTP/1.1 200 OK");
    assert_eq!(guarded.door.heard().len(), 2);

    let bills = guarded.clients.sign("bills", "bills.internal");
    let refused = guarded.publish(Some(&bills), None).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.get_details_error_info().unwrap().metadata["key"], "bills");
    assert_eq!(guarded.door.heard(), []);
}

#[tokio::test]
async fn a_certificate_that_is_nobodys_needs_a_key_and_none_makes_up_for_a_wrong_one() {
    let guarded = Guarded::open(vec![
        key("tasks", None, Some("tasks.internal")),
        key("bills", Some("key-of-bills"), None),
    ]);
    let stranger = guarded.clients.sign("stranger", "stranger.internal");
    let refused = guarded.publish(Some(&stranger), None).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused
            .message()
            .contains("no backends.key.certificate is in the client certificate"),
        "{refused}"
    );
    let unauthorized = "HTTP/1.1 401 Unauthorized";
    assert_eq!(guarded.http(Some(&stranger), "").await.unwrap(), unauthorized);
    assert!(
        guarded
            .publish(Some(&stranger), Some("key-of-bills"))
            .await
            .is_ok()
    );

    let tasks = guarded.clients.sign("tasks", "tasks.internal");
    let refused = guarded.publish(Some(&tasks), Some("wrong")).await.unwrap_err();
    assert_eq!(
        refused.get_details_error_info().unwrap().reason,
        "API_KEY_INVALID"
    );
    let wrong = guarded.http(Some(&tasks), "x-api-key: wrong\r\n").await.unwrap();
    assert_eq!(wrong, unauthorized);
}

#[tokio::test]
async fn a_key_with_a_certificate_is_of_no_use_to_whoever_finds_it() {
    let guarded = Guarded::open(vec![key("tasks", Some("key-of-tasks"), Some("tasks.internal"))]);
    let tasks = guarded.clients.sign("tasks", "tasks.internal");
    let thief = guarded.clients.sign("thief", "thief.internal");
    let header = "authorization: apikey key-of-tasks\r\n";
    assert!(guarded.publish(Some(&tasks), Some("key-of-tasks")).await.is_ok());
    assert_eq!(
        guarded.http(Some(&tasks), header).await.unwrap(),
        "HTTP/1.1 200 OK"
    );

    let refused = guarded
        .publish(Some(&thief), Some("key-of-tasks"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(
        refused.get_details_error_info().unwrap().reason,
        "CERTIFICATE_INVALID"
    );
    let unauthorized = "HTTP/1.1 401 Unauthorized";
    assert_eq!(guarded.http(Some(&thief), header).await.unwrap(), unauthorized);
    let alone = guarded.publish(Some(&tasks), None).await.unwrap_err();
    assert_eq!(alone.code(), Code::Unauthenticated);
    assert!(
        guarded
            .door
            .metrics()
            .contains("tidings_api_keys_refused_total 3\n")
    );
}

#[tokio::test]
async fn whoever_shows_no_good_certificate_does_not_get_as_far_as_a_key() {
    let guarded = Guarded::open(vec![key("tasks", Some("key-of-tasks"), None)]);
    let expired = guarded.clients.sign_expired("expired", "tasks.internal");
    // Our own authority vouches for the door, not for its clients.
    let of_another = guarded.ours.sign("other", "tasks.internal");
    for shown in [None, Some(&expired), Some(&of_another)] {
        let refused = guarded.publish(shown, Some("key-of-tasks")).await.unwrap_err();
        assert_ne!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(format!("{refused:?}").contains("transport"), "{refused:?}");
        let refused = guarded.http(shown, "x-api-key: key-of-tasks\r\n").await;
        assert!(refused.unwrap_err().to_string().contains("fatal alert"));
    }
    let good = guarded.clients.sign("good", "whoever.internal");
    assert!(guarded.publish(Some(&good), Some("key-of-tasks")).await.is_ok());
}
