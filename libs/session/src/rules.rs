//! What all sessions of a gateway have in common.

use std::time::Duration;

use tidings_core::{Channel, Namespaces, Payload};
use tidings_protocol::Error;

/// The limits and permissions that apply to every connection.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What clients are told of the server's version.
    pub version: &'static str,
    /// How often a client is pinged. Longer than `pong_timeout`.
    pub ping_interval: Duration,
    /// How long it may take to answer.
    pub pong_timeout: Duration,
    /// How long it may take to say who it is.
    pub connect_timeout: Duration,
    /// How long an expired token is still good while the client fetches another.
    pub expired_grace: Duration,
    /// Channels per client.
    pub channels: usize,
    /// Commands per second and client, on average; bursts of four seconds' worth are let through.
    pub commands_per_second: u32,
    /// The most publications in one answer.
    pub history: u32,
    /// Clients without a token are let in, as nobody.
    pub allow_anonymous: bool,
    /// What the user's backend decides.
    pub backend: Backend,
    /// Every client with a user hears the channel `NAMESPACE:#USER` without asking; `#USER` when the name is empty.
    pub personal_namespace: Option<String>,
    /// No permission is checked. Only in `tidings dev`.
    pub insecure: bool,
    /// What each channel offers, and to whom.
    pub namespaces: Namespaces,
}

impl Rules {
    /// Whether a client's publication may be of this data. Where the user's backend decides about publications, that is asked of
    /// what the backend has made of it.
    ///
    /// # Errors
    /// What the client is told.
    pub fn takes(&self, channel: &Channel, payload: &Payload) -> Result<(), Error> {
        match self.namespaces.of(channel) {
            Some(namespace) if !namespace.takes(payload.format) => Err(Error::BAD_REQUEST
                .because("the data is not JSON, which this namespace asks for (publication_data_format)")),
            _ => Ok(()),
        }
    }
}

/// What is decided by the user's backend, because somebody has configured where it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backend {
    /// Who clients without a token are.
    pub connect: bool,
    /// What becomes of connections that it let in and that have expired.
    pub refresh: bool,
    /// Who may subscribe, where the namespace says so.
    pub subscribe: bool,
    /// What clients may publish, where the namespace says so.
    pub publish: bool,
    /// What becomes of subscriptions that have expired, where the namespace says so.
    pub sub_refresh: bool,
    /// It answers `rpc`.
    pub rpc: bool,
}
