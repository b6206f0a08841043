//! Where the outbox is, and how to connect to it.

use std::{error::Error as _, net::IpAddr, time::Duration};

use tokio_postgres::{
    Client, Config as Target, Connection, Socket,
    config::{Host, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use super::{Config, tls};

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);

/// After so much silence either end asks whether the other is there, and gives up soon after. A server that took a node for
/// alive whose machine is gone would keep its lanes from everyone.
const SILENCE: Duration = Duration::from_secs(15);

const URL: &str = "postgres.url";

/// The stream of a connection, encrypted or not.
type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// What has to be driven for a [`Client`] to get answers.
pub(super) type Wire = Connection<Socket, Stream>;

pub(in crate::source) struct Place {
    target: Target,
    tls: MakeRustlsConnect,
    /// To be shown.
    name: String,
}

impl Place {
    /// Connects to nothing.
    ///
    /// # Errors
    /// The key below `source` that is wrong, and why, without anything that could be a password.
    pub(in crate::source) fn new(config: &Config) -> Result<Self, (&'static str, String)> {
        let target = target(config.url.expose()).map_err(|why| (URL, why))?;
        let encrypted = target.get_ssl_mode() != SslMode::Disable;
        let files = [&config.ca_file, &config.certificate_file, &config.key_file];
        if !encrypted && files.into_iter().any(Option::is_some) {
            let why = "goes without TLS, and `source.postgres.ca_file` or a certificate is set; add ?sslmode=require";
            return Err((URL, why.to_owned()));
        }
        Ok(Self {
            tls: tls::connector(config)?,
            name: shown(&target),
            target,
        })
    }

    /// A session of its own.
    ///
    /// # Errors
    /// Why there is none, fit to be shown.
    pub(super) async fn connect(&self) -> Result<(Client, Wire), String> {
        let connecting = self.target.connect(self.tls.clone());
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(why)) => Err(self.said(&why)),
            Err(_) => Err(format!("{}: it does not let us connect in time", self.name)),
        }
    }

    /// What the session is told first: when to take us for dead.
    pub(super) fn greeting() -> String {
        format!(
            "SET tcp_keepalives_idle = {0}; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3",
            SILENCE.as_secs()
        )
    }

    /// Its address, without the password.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What went wrong there, fit to be shown: the server never repeats a password, and its words are better than the
    /// library's.
    pub(super) fn said(&self, why: &tokio_postgres::Error) -> String {
        let said = match (why.as_db_error(), why.source()) {
            (Some(said), _) => said.message().to_owned(),
            (None, Some(cause)) => format!("{why}: {cause}"),
            (None, None) => why.to_string(),
        };
        let advice = if said.contains("server does not support TLS") {
            "; let it, or say ?sslmode=disable in `source.postgres.url` where nobody is between"
        } else if said.contains("invalid peer certificate") {
            "; name who vouches for it in `source.postgres.ca_file`"
        } else {
            ""
        };
        format!("{}: {said}{advice}", self.name)
    }
}

/// Reads the URL. `sslmode` is ours to understand: where TLS is used, the certificate is checked, whatever the mode.
fn target(text: &str) -> Result<Target, String> {
    let mut url = Url::parse(text.trim())
        .map_err(|why| format!("is no URL ({why}); write postgres://user:password@host:5432/database"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("does not begin with postgres://".to_owned());
    }
    let (modes, others): (Vec<_>, Vec<_>) = url
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .partition(|(name, _)| name == "sslmode");
    if others.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(others);
    }
    let mut target: Target = url.as_str().parse().map_err(|why: tokio_postgres::Error| {
        let cause = why.source().map(ToString::to_string).unwrap_or_default();
        format!("cannot be understood ({cause})")
    })?;
    if target.get_hosts().is_empty() {
        return Err("has no host; write postgres://user:password@host:5432/database".to_owned());
    }
    if target.get_user().is_none() {
        return Err("has no user; write postgres://user:password@host:5432/database".to_owned());
    }
    let mode = modes.into_iter().next_back().map(|(_, mode)| mode);
    target.ssl_mode(match mode.as_deref() {
        Some("disable") => SslMode::Disable,
        Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        None if target.get_hosts().iter().all(is_here) => SslMode::Disable,
        None => SslMode::Require,
        Some(_) => {
            return Err(
                "has an sslmode that is not disable or require (which checks the certificate, as verify-full does)"
                    .to_owned(),
            );
        }
    });
    if target.get_application_name().is_none() {
        target.application_name("tidings");
    }
    target
        .connect_timeout(CONNECT)
        .keepalives_idle(SILENCE)
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(2 * SILENCE);
    Ok(target)
}

/// Whether nobody can be between.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn shown(target: &Target) -> String {
    let hosts = target.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let ports = target.get_ports();
    let hosts = hosts.enumerate().map(|(index, host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        format!("{host}:{port}")
    });
    let user = target.get_user().unwrap_or_default();
    let database = target.get_dbname().unwrap_or(user);
    format!(
        "postgres://{user}@{}/{database}",
        hosts.collect::<Vec<_>>().join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let check = |url, name: &str| assert_eq!(shown(&target(url).unwrap()), name);
        check("postgres://me:hunter2@db/shop", "postgres://me@db:5432/shop");
        check(
            "postgresql://me:hunter2@db:6000/shop?sslmode=disable&application_name=x",
            "postgres://me@db:6000/shop",
        );
        check(
            "postgres://me@%2Frun%2Fpg/shop",
            "postgres://me@/run/pg:5432/shop",
        );
        check("postgres://me@[::1]:99", "postgres://me@[::1]:99/me");
    }

    #[test]
    fn only_what_is_on_this_machine_goes_without_tls_unasked() {
        let check = |url: &str, mode| assert_eq!(target(url).unwrap().get_ssl_mode(), mode, "{url}");
        for here in ["localhost", "127.0.0.1", "%2Frun%2Fpg"] {
            check(&format!("postgres://me@{here}/shop"), SslMode::Disable);
            check(
                &format!("postgres://me@{here}/shop?sslmode=require"),
                SslMode::Require,
            );
        }
        check("postgres://me@db/shop", SslMode::Require);
        check("postgres://me@db/shop?sslmode=verify-full", SslMode::Require);
        check("postgres://me@db/shop?sslmode=disable", SslMode::Disable);
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        for (url, part) in [
            ("db", "is no URL"),
            ("mysql://me:hunter2@db/shop", "postgres://"),
            ("postgres://me:hunter2@db/shop?sslmode=prefer", "sslmode"),
            ("postgres://me:hunter2@db/shop?hunter=2", "cannot be understood"),
            ("postgres:///shop", "no host"),
            ("postgres://db/shop", "no user"),
        ] {
            let why = target(url).unwrap_err();
            assert!(why.contains(part) && !why.contains("hunter2"), "{url}: {why}");
        }
    }
}
