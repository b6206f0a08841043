//! What only subscription tokens say: who may be in which channel.

use std::time::SystemTime;

use serde::Deserialize;

use super::{
    Error,
    options::{self, Options},
};

/// What a valid subscription token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// When the subscription ends unless it is refreshed: `expire_at`, or else `exp`. `None`: never.
    pub expires_at: Option<SystemTime>,
    /// How the channel treats the client.
    pub options: Options,
}

/// Who shows a subscription token, and where they want to be.
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// The connection's user; empty for an anonymous client.
    pub user: &'a str,
    /// The connection's id.
    pub client: &'a str,
    /// The channel, as it is asked for.
    pub channel: &'a str,
}

/// The claims besides the registered ones and the options.
#[derive(Deserialize)]
pub(super) struct Wire {
    channel: Option<String>,
    client: Option<String>,
}

/// Whom the token is for, and its options.
pub(super) fn read(payload: &str) -> Result<(Wire, Options), Error> {
    let parse = |error| Error::claims(&error);
    let wire: Wire = serde_json::from_str(payload).map_err(parse)?;
    let options: options::Wire = serde_json::from_str(payload).map_err(parse)?;
    Ok((wire, options.read()?))
}

impl Wire {
    /// Whether the token was made for `bearer`. One that names no channel is a connection token, and for nowhere.
    pub(super) fn agree_with(&self, user: Option<&str>, bearer: &Bearer<'_>) -> Result<(), Error> {
        if self.channel.as_deref().unwrap_or_default() != bearer.channel {
            return Err(Error::Mismatch("channel"));
        }
        if user.unwrap_or_default() != bearer.user {
            return Err(Error::Mismatch("sub"));
        }
        match self.client.as_deref() {
            None | Some("") => Ok(()),
            Some(client) if client == bearer.client => Ok(()),
            Some(_) => Err(Error::Mismatch("client")),
        }
    }
}
