//! Where a gRPC service is, as a URL that a person wrote: `publish`, `probe` and `presence.url` have one.

use std::time::Duration;

use tonic::transport::{ClientTlsConfig, Endpoint};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often an idle peer is asked whether it is still there, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Checks a URL: `http://host:port`, or `https://host` for TLS with the system's certificates.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, String> {
    endpoint_by(url, ClientTlsConfig::new().with_native_roots())
}

/// The same, with other certificates.
pub(crate) fn endpoint_by(url: &str, tls: ClientTlsConfig) -> Result<Endpoint, String> {
    let expected = || "expected a URL such as http://host:9000".to_owned();
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| expected())?;
    // gRPC would not use it, and the URL is printed.
    let authority = endpoint.uri().authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("there is a user or a password in it, which nobody would ask for; remove it".to_owned());
    }
    let endpoint = match endpoint.uri().scheme_str() {
        Some("http") => endpoint,
        Some("https") => endpoint
            .tls_config(tls)
            .map_err(|error| format!("TLS cannot be used: {error}"))?,
        _ => return Err(expected()),
    };
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_names_no_grpc_service_is_refused() {
        assert!(endpoint("http://presence:9001").is_ok());
        for url in [
            "",
            "presence",
            "presence:9001",
            "/presence",
            "ws://presence",
            "http://",
        ] {
            assert_eq!(
                endpoint(url).unwrap_err(),
                "expected a URL such as http://host:9000",
                "{url}"
            );
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_and_not_repeated() {
        for url in ["http://me:hunter2@presence:9001", "https://hunter2@presence"] {
            assert_eq!(
                endpoint(url).unwrap_err(),
                "there is a user or a password in it, which nobody would ask for; remove it",
            );
        }
    }
}
