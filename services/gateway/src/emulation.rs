//! What clients of one-way transports send: requests apart from their connection, addressed to it by a secret.
//!
//! The address says where the connection is, so no table of connections is kept; the secret in it says that whoever
//! uses it is the client itself.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Where one connection of this node is, and a secret that only its client was told: `CORE.KEY.SECRET`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId {
    /// The core's number.
    pub(crate) core: usize,
    /// The connection's key there.
    pub(crate) key: usize,
    /// Random.
    pub(crate) secret: Uuid,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.core, self.key, self.secret.simple())
    }
}

/// Text that is no [`SessionId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown;

impl FromStr for SessionId {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(Unknown);
        Ok(Self {
            core: part()?.parse().map_err(|_| Unknown)?,
            key: part()?.parse().map_err(|_| Unknown)?,
            secret: Uuid::try_parse(part()?).map_err(|_| Unknown)?,
        })
    }
}

/// What a client said apart from its connection.
pub(crate) struct Emulated {
    /// The connection's key.
    pub(crate) key: usize,
    /// What the client knows of it.
    pub(crate) secret: Uuid,
    /// Commands, as they would have come in one message.
    pub(crate) data: Bytes,
    /// Told whether there is such a connection, if anyone waits for that.
    pub(crate) heard: Option<oneshot::Sender<bool>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_reads_as_it_was_written(core: usize, key: usize, secret: u128) {
            let id = SessionId { core, key, secret: Uuid::from_u128(secret) };
            prop_assert!(id.to_string().parse() == Ok(id));
        }

        #[test]
        fn any_other_text_is_refused_without_harm(text in ".*|[0-9]{0,30}\\.[0-9]{0,30}\\.[0-9a-f-]{0,40}") {
            if let Ok(id) = text.parse::<SessionId>() {
                prop_assert!(id.to_string().parse() == Ok(id));
            }
        }
    }
}
