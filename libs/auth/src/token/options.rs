//! What a token says about one subscription, whether it is one of many in a connection token or the only one.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::{Format, json};

use super::Error;

/// How a channel treats one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What others in the channel may see of the client (`info`, `b64info`).
    pub info: Data,
    /// What the client gets as it subscribes (`data`, `b64data`).
    pub data: Data,
    /// Where the channel's own options do not count (`override`).
    pub overrides: Overrides,
}

/// Options of a namespace, decided anew for one client. `None`: as the namespace has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether the client is seen in the channel.
    pub presence: Option<bool>,
    /// Whether others hear of it coming and going.
    pub join_leave: Option<bool>,
    /// Whether it hears of others coming and going, unasked.
    pub force_push_join_leave: Option<bool>,
    /// Whether it recovers what it missed, unasked.
    pub force_recovery: Option<bool>,
    /// Whether its position is watched, unasked.
    pub force_positioning: Option<bool>,
}

/// Something for clients to see. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// The text, or whatever else it is.
    pub bytes: Bytes,
    /// What it is: JSON is on one line.
    pub format: Format,
}

impl Data {
    /// The bytes when they are JSON, else none: for where only JSON can stand.
    #[must_use]
    pub fn into_json(self) -> Bytes {
        match self.format {
            Format::Json => self.bytes,
            Format::Binary => Bytes::new(),
        }
    }

    /// What a pair of claims says: `base64` counts when it is there.
    pub(super) fn read(text: Option<&RawValue>, claim: &str, base64: Option<&str>) -> Result<Self, Error> {
        let json = |bytes| Self {
            bytes: json::one_line(bytes),
            format: Format::Json,
        };
        match (base64.filter(|base64| !base64.is_empty()), text) {
            (Some(base64), _) => {
                let bytes = BASE64_STANDARD
                    .decode(base64)
                    .map_err(|_| Error::Invalid(format!("claim '{claim}' is not base64")))?;
                Ok(match serde_json::from_slice::<&RawValue>(&bytes) {
                    Ok(_) => json(bytes.into()),
                    Err(_) => Self {
                        bytes: bytes.into(),
                        format: Format::Binary,
                    },
                })
            }
            (None, Some(text)) => Ok(json(Bytes::from(text.get().to_owned()))),
            (None, None) => Ok(Self::default()),
        }
    }
}

/// The claims as they are on the wire.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    overrides: Option<WireOverrides>,
}

#[derive(Default, Deserialize, Serialize)]
struct WireOverrides {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_push_join_leave: Option<Switch>,
    force_recovery: Option<Switch>,
    force_positioning: Option<Switch>,
}

/// `{}` is off.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(default)]
struct Switch {
    value: bool,
}

impl Wire {
    pub(super) fn read(self) -> Result<Options, Error> {
        let overrides = self.overrides.unwrap_or_default();
        let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
        Ok(Options {
            info: Data::read(self.info.as_deref(), "b64info", self.b64info.as_deref())?,
            data: Data::read(self.data.as_deref(), "b64data", self.b64data.as_deref())?,
            overrides: Overrides {
                presence: value(overrides.presence),
                join_leave: value(overrides.join_leave),
                force_push_join_leave: value(overrides.force_push_join_leave),
                force_recovery: value(overrides.force_recovery),
                force_positioning: value(overrides.force_positioning),
            },
        })
    }
}
