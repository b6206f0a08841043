//! What only connection tokens say: who the client is, and where it is subscribed from the start.

use std::{collections::BTreeMap, time::SystemTime};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tidings_core::Payload;

use super::{
    Error,
    options::{self, Options},
};

/// What a valid connection token says about its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The person (`sub`); empty for an anonymous client.
    pub user: String,
    /// When the connection ends unless it is refreshed: `expire_at`, or else `exp`. `None`: never.
    pub expires_at: Option<SystemTime>,
    /// What others may see of the client (`info`, `b64info`).
    pub info: Payload,
    /// Channels to subscribe the client to, and how (`subs`, or else `channels`); their names are not checked here.
    pub subs: BTreeMap<String, Options>,
}

/// The claims besides the registered ones. `meta` is for servers elsewhere, and not read.
#[derive(Deserialize)]
struct Wire {
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    channels: Option<Vec<String>>,
    subs: Option<BTreeMap<String, Option<options::Wire>>>,
    channel: Option<Value>,
}

/// `info` and `subs`.
pub(super) fn read(payload: &str) -> Result<(Payload, BTreeMap<String, Options>), Error> {
    let wire: Wire = serde_json::from_str(payload).map_err(|error| Error::claims(&error))?;
    if wire.channel.is_some_and(|channel| channel != "") {
        return Err(Error::invalid("claim 'channel' belongs to subscription tokens"));
    }
    let info = options::payload(wire.info.as_deref(), "b64info", wire.b64info.as_deref())?;
    let subs = match wire.subs.filter(|subs| !subs.is_empty()) {
        Some(subs) => subs
            .into_iter()
            .map(|(channel, options)| Ok((channel, options.unwrap_or_default().read()?)))
            .collect::<Result<_, Error>>()?,
        None => {
            let channels = wire.channels.into_iter().flatten();
            channels.map(|channel| (channel, Options::default())).collect()
        }
    };
    Ok((info, subs))
}
