//! Redis behind TLS, with certificates that only our configuration knows.

use std::path::PathBuf;

use tidings_broker::{
    Broker, Error,
    redis::{Config, RedisUrl},
    test_util::RedisServer,
};

use crate::{
    away,
    common::{Listener, publish},
};

/// A file that the tests bring along. The certificate is its own authority, and good for either side.
fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls")).join(name)
}

/// A server with TLS, and how it is reached when it is known and asks for nobody's certificate.
fn server(auth_clients: &str) -> Option<(RedisServer, Config)> {
    // Whoever comes first installs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let mut arguments = vec!["--tls-cert-file", certificate, "--tls-key-file", key];
    arguments.extend([
        "--tls-ca-cert-file",
        certificate,
        "--tls-auth-clients",
        auth_clients,
    ]);
    let tls_port = port.to_string();
    arguments.extend(["--tls-port", &tls_port]);
    let server = RedisServer::start_with(&arguments)?;
    let url = RedisUrl::from_parts("localhost", port, None, None, 0, true).unwrap();
    let config = Config {
        ca_file: Some(file("certificate.pem")),
        ..Config::new(url)
    };
    Some((server, config))
}

async fn is_used(config: &Config) {
    let broker = Broker::redis(config).unwrap();
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    publish(&broker.publisher(), "tasks:1", "hello").await;
    assert_eq!(listener.hear().await.1, "hello");
}

#[tokio::test]
async fn a_redis_is_known_by_an_authority_of_our_own() {
    let Some((_server, config)) = server("no") else {
        return;
    };
    is_used(&config).await;
    let unknown = Config {
        ca_file: None,
        ..config
    };
    let reason = away(&Broker::redis(&unknown).unwrap()).await;
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn a_redis_that_asks_who_we_are_gets_our_certificate() {
    let Some((_server, config)) = server("yes") else {
        return;
    };
    away(&Broker::redis(&config).unwrap()).await;
    let known = Config {
        certificate_file: Some(file("certificate.pem")),
        key_file: Some(file("key.pem")),
        ..config
    };
    is_used(&known).await;
}

#[test]
fn files_of_tls_that_are_of_no_use_are_refused_by_name() {
    let config = Config::new(RedisUrl::parse("rediss://cache").unwrap());
    let refused = |config: Config| -> Error {
        let refused = config.check().and_then(|()| Broker::redis(&config).map(drop));
        refused.unwrap_err()
    };
    let missing = refused(Config {
        ca_file: Some(file("none.pem")),
        ..config.clone()
    });
    assert!(
        matches!(
            missing,
            Error::File {
                key: "redis.ca_file",
                ..
            }
        ),
        "{missing}"
    );
    let empty = refused(Config {
        certificate_file: Some(file("certificate.pem")),
        key_file: Some(file("certificate.pem")),
        ..config.clone()
    });
    assert!(
        empty.to_string().contains("no certificate, or no key, in PEM"),
        "{empty}"
    );
    let half = refused(Config {
        key_file: Some(file("key.pem")),
        ..config
    });
    assert!(half.to_string().contains("belong together"), "{half}");
    let plain = refused(Config {
        ca_file: Some(file("certificate.pem")),
        ..Config::new(RedisUrl::parse("redis://cache").unwrap())
    });
    assert!(plain.to_string().contains("rediss://"), "{plain}");
}
