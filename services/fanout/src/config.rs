//! What an operator says about the backends' door: `[backends]` and `[[route]]`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use tidings_auth::{Keys, keys};
use tidings_runtime::serve::tls::{self, Tls};

use crate::payload::Payload;

/// `[backends]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where backends connect, gRPC and HTTP on one port. Default `0.0.0.0:9000`; port 0: any free one.
    pub listen: SocketAddr,
    /// `[[backends.key]]`: who may publish what. At least one is required unless `insecure`.
    pub key: Vec<keys::Config>,
    /// Ask for no key: whoever reaches the port may publish. True only in `tidings dev`.
    pub insecure: bool,
    /// The largest request, in bytes. Default 1 MiB.
    pub message_size: ByteSize,
    /// `[backends.tls]`: gRPC and HTTP by TLS, and only so. Absent: in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 9000).into(),
            key: Vec::new(),
            insecure: false,
            message_size: ByteSize::mib(1),
            tls: None,
        }
    }
}

/// `[[route]]`: which channels hear of which events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The event types it is for: a glob over their segments (`task.*`).
    pub event: String,
    /// Templates of channel names (`tasks:{tenant}`, `user:{data.assignee_id}`).
    pub channels: Vec<String>,
    /// What clients get.
    #[serde(default)]
    pub payload: Payload,
    /// Do not keep it where the channel has a history: only who listens now hears of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_history: bool,
    /// A template of what tells a repeat (`{subject}:{data.version}`), in place of the event's source and id: of events
    /// for which it gives the same, a channel receives one in five minutes; of events of a source, one in the source's
    /// idempotency window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Templates of tags that it adds (`status = "{data.status}"`). A tag that the event has itself stands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Why the door cannot be opened as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody could publish.
    #[error(
        "no API key is configured, so no backend could publish: add a [[backends.key]] with a name and a key \
         (`tidings dev` asks for none)"
    )]
    NoKeys,
    /// A key that cannot be used.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// A key that nobody could use.
    #[error(
        "backends.key {name:?} needs a client certificate, and the door asks for none: set backends.tls.client_ca_file"
    )]
    NoCertificates {
        /// Its name.
        name: String,
    },
    /// A file of TLS that is of no use.
    #[error("backends.tls.{0}")]
    Tls(#[from] tls::Error),
    /// A limit that lets nothing through, or more than is safe to buffer.
    #[error("backends.message_size is {size}; set it from 1KiB to 64MiB")]
    MessageSize {
        /// What it is set to.
        size: ByteSize,
    },
}

impl Config {
    /// Checks everything that can be wrong without opening a port or a file, and gives the keys: none when anyone may in.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<Option<Keys>, Error> {
        let size = self.message_size;
        if size < ByteSize::kib(1) || size > ByteSize::mib(64) {
            return Err(Error::MessageSize { size });
        }
        let keys = Keys::new(self.key.clone())?;
        let asks = self.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        if let Some(key) = keys.needs_certificate().filter(|_| !asks) {
            let name = key.name().to_owned();
            return Err(Error::NoCertificates { name });
        }
        match (self.insecure, keys.is_empty()) {
            (true, _) => Ok(None),
            (false, true) => Err(Error::NoKeys),
            (false, false) => Ok(Some(keys)),
        }
    }

    /// Reads the files of TLS, where it is configured.
    ///
    /// # Errors
    /// [`Error::Tls`], which names the first that is of no use.
    pub fn tls(&self) -> Result<Option<Tls>, Error> {
        Ok(self.tls.clone().map(Tls::read).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> keys::Config {
        keys::Config {
            name: "tasks".to_owned(),
            key: Some("secret".to_owned().into()),
            ..keys::Config::default()
        }
    }

    #[test]
    fn a_door_without_keys_opens_only_when_that_was_asked_for() {
        let closed = Config::default();
        assert_eq!(closed.check().unwrap_err(), Error::NoKeys);
        assert!(
            closed
                .check()
                .unwrap_err()
                .to_string()
                .contains("[[backends.key]]")
        );

        let dev = Config {
            insecure: true,
            ..Config::default()
        };
        assert!(dev.check().unwrap().is_none());

        let keyed = Config {
            key: vec![key()],
            ..Config::default()
        };
        assert!(keyed.check().unwrap().is_some());
    }

    #[test]
    fn keys_are_checked_even_where_none_is_asked_for() {
        let twice = Config {
            insecure: true,
            key: vec![key(), key()],
            ..Config::default()
        };
        assert!(matches!(twice.check(), Err(Error::Keys(_))));
    }

    #[test]
    fn a_key_with_a_certificate_needs_a_door_that_asks_for_one() {
        let tls = |client_ca: Option<&str>| tls::Config {
            certificate_file: "door.pem".into(),
            key_file: "door.key".into(),
            client_ca_file: client_ca.map(Into::into),
        };
        let certified = |tls| Config {
            key: vec![keys::Config {
                certificate: Some("tasks.internal".to_owned()),
                ..key()
            }],
            tls,
            ..Config::default()
        };
        for asks_nobody in [None, Some(tls(None))] {
            let error = certified(asks_nobody).check().unwrap_err();
            assert_eq!(
                error.to_string(),
                "backends.key \"tasks\" needs a client certificate, and the door asks for none: set \
                 backends.tls.client_ca_file"
            );
        }
        let asks = certified(Some(tls(Some("clients.pem"))));
        assert!(asks.check().unwrap().is_some());
        let error = asks.tls().unwrap_err().to_string();
        assert!(
            error.starts_with("backends.tls.certificate_file: door.pem cannot be read: "),
            "{error}"
        );
    }

    #[test]
    fn a_message_size_that_lets_nothing_or_everything_through_is_refused() {
        for size in [ByteSize::b(0), ByteSize::gib(1)] {
            let config = Config {
                insecure: true,
                message_size: size,
                ..Config::default()
            };
            assert_eq!(config.check().unwrap_err(), Error::MessageSize { size });
        }
    }
}
