//! The address of a Redis, checked where it enters, whose password is used but never shown.

use std::{fmt, str::FromStr};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use serde::{Deserialize, Serialize, Serializer};
use tidings_core::Secret;
use url::Url;

/// `redis://[user][:password@]host[:port][/db]`, or `rediss://` for TLS.
///
/// Prints, logs and serializes with its password masked.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct RedisUrl {
    /// With the password.
    full: Secret,
    masked: String,
}

/// Why a text is no address of a Redis. Never has any part of the text that could be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no URL at all.
    #[error("the address of Redis is no URL ({0}); write redis://host:6379 or rediss://host:6379")]
    Syntax(#[from] url::ParseError),
    /// It is the URL of something else.
    #[error("the address of Redis does not begin with redis:// or, for TLS, rediss://")]
    Scheme,
    /// It has no host, or one that is no name and no address.
    #[error("the address of Redis has no valid host; write redis://host:6379")]
    Host,
    /// What follows the host is no database.
    #[error("the address of Redis has a path that is no database number; write redis://host:6379/0")]
    Database,
    /// It has a `?` or `#` part.
    #[error("the address of Redis has parameters after '?' or '#'; none are supported, remove them")]
    Parameters,
    /// The user or the password is not UTF-8 once its percent signs are decoded.
    #[error("the address of Redis has a user or password that is not percent-encoded UTF-8")]
    Credentials,
}

impl RedisUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is none, or has something that would have to be ignored.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::from_url(Url::parse(text.trim())?)
    }

    /// Puts a URL together from its parts, which are not percent-encoded.
    ///
    /// # Errors
    /// When the host is neither a name nor an address.
    pub fn from_parts(
        host: &str,
        port: u16,
        username: Option<&str>,
        password: Option<&str>,
        db: u32,
        tls: bool,
    ) -> Result<Self, Error> {
        let scheme = if tls { "rediss" } else { "redis" };
        // An IPv6 address has brackets in a URL, but not in a variable of its own.
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let mut url = Url::parse(&format!("{scheme}://localhost/{db}"))?;
        url.set_host(Some(&host)).map_err(|_| Error::Host)?;
        url.set_port(Some(port)).map_err(|()| Error::Host)?;
        // The setters encode everything but '%', which they take for encoding that was done already.
        let encode = |text: &str| text.replace('%', "%25");
        url.set_username(&username.map(encode).unwrap_or_default())
            .map_err(|()| Error::Host)?;
        url.set_password(password.map(encode).as_deref())
            .map_err(|()| Error::Host)?;
        Self::from_url(url)
    }

    /// What the client library connects to.
    pub(super) fn connection_info(&self) -> Result<ConnectionInfo, Error> {
        Self::to_connection_info(Url::parse(self.full.expose())?)
    }

    /// Where it is.
    pub(super) fn host_and_port(&self) -> Result<(String, u16), Error> {
        match self.connection_info()?.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok((host.clone(), *port))
            }
            _ => Err(Error::Host),
        }
    }

    /// Whether it is for TLS.
    pub(super) fn tls(&self) -> bool {
        self.masked.starts_with("rediss:")
    }

    fn from_url(url: Url) -> Result<Self, Error> {
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err(Error::Scheme);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(Error::Host);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::Parameters);
        }
        let db = url.path().trim_start_matches('/');
        if !db.is_empty() && db.parse::<u32>().is_err() {
            return Err(Error::Database);
        }
        Self::to_connection_info(url.clone())?;

        let mut masked = url.clone();
        if masked.password().is_some() {
            masked.set_password(Some("***")).map_err(|()| Error::Host)?;
        }
        Ok(Self {
            full: String::from(url).into(),
            masked: masked.into(),
        })
    }

    fn to_connection_info(url: Url) -> Result<ConnectionInfo, Error> {
        // All else was checked: what is left are credentials that do not decode.
        url.into_connection_info().map_err(|_| Error::Credentials)
    }
}

impl FromStr for RedisUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RedisUrl {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.masked, f)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_with_its_password_masked() {
        let check = |text, shown: &str| {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("{shown:?}"));
            assert_eq!(serde_json::to_string(&url).unwrap(), format!("{shown:?}"));
        };
        check("redis://cache", "redis://cache");
        check("redis://cache:6380/2", "redis://cache:6380/2");
        check("rediss://me:hunter2@cache/0", "rediss://me:***@cache/0");
        check("redis://:hunter2@cache", "redis://:***@cache");
        check("redis://me@cache", "redis://me@cache");
        check("redis://[::1]:6379", "redis://[::1]:6379");
        check(" redis://cache\n", "redis://cache");
    }

    #[test]
    fn what_is_no_address_is_refused_and_nothing_of_it_repeated() {
        let check = |text: &str, expected: Error| {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(error, expected, "{text}");
        };
        check("http://me:hunter2@cache", Error::Scheme);
        check("hunter2:6379", Error::Scheme);
        check("hunter2", Error::Syntax(url::ParseError::RelativeUrlWithoutBase));
        check(
            "redis://me:hunter2@cache:x",
            Error::Syntax(url::ParseError::InvalidPort),
        );
        check("redis:///0", Error::Host);
        check("redis:cache", Error::Host);
        check("redis://cache/tidings", Error::Database);
        check("redis://cache/-1", Error::Database);
        check("redis://cache/?protocol=resp2", Error::Parameters);
        check("rediss://cache/#insecure", Error::Parameters);
        check("redis://me:hunter2%ff@cache", Error::Credentials);
    }

    #[test]
    fn parts_arrive_at_the_client_as_they_were_given() {
        let check = |host: &str, password: &str, tls| {
            let url = RedisUrl::from_parts(host, 6380, Some("me@home"), Some(password), 3, tls).unwrap();
            let info = url.connection_info().unwrap();
            assert_eq!(info.addr().to_string(), format!("{host}:6380"));
            assert_eq!(matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }), tls);
            let settings = info.redis_settings();
            assert_eq!(settings.username(), Some("me@home"));
            assert_eq!(settings.password(), Some(password));
            assert_eq!(settings.db(), 3);
        };
        check("cache", "hunter2", false);
        check("10.0.0.7", "a:b/c@d?e#f g", true);
        check("::1", "100%25 %41 ü", false);
    }

    #[test]
    fn parts_without_credentials_have_none() {
        let url = RedisUrl::from_parts("cache", 6379, None, None, 0, false).unwrap();
        assert_eq!(url.to_string(), "redis://cache:6379/0");
        assert_eq!(url.connection_info().unwrap().redis_settings().password(), None);
        assert_eq!(
            RedisUrl::from_parts("a b", 6379, None, None, 0, false).unwrap_err(),
            Error::Host
        );
        assert_eq!(
            RedisUrl::from_parts("", 6379, None, None, 0, false).unwrap_err(),
            Error::Host
        );
    }
}
