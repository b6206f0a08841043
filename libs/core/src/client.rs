//! Clients and the people behind them.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

/// One connection. Unique over all nodes and time (UUIDv4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Uuid);

impl ClientId {
    /// A new id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Reads the hyphenated form, as [`Display`](fmt::Display) writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What others may see of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The person; empty for an anonymous client.
    pub user: Arc<str>,
    /// The connection.
    pub client: ClientId,
    /// JSON from the connection's token; empty: none.
    pub conn_info: Bytes,
    /// JSON for this channel; empty: none.
    pub chan_info: Bytes,
}
