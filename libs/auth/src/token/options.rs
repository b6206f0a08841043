//! What a token says about one subscription, whether it is one of many in a connection token or the only one.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::{Format, Overrides, Payload, json};

use super::Error;

/// How a channel treats one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What others in the channel may see of the client (`info`, `b64info`).
    pub info: Payload,
    /// What the client gets as it subscribes (`data`, `b64data`).
    pub data: Payload,
    /// Where the channel's own options do not count (`override`).
    pub overrides: Overrides,
}

/// What a pair of claims says: `base64` counts when it is there.
pub(super) fn payload(text: Option<&RawValue>, claim: &str, base64: Option<&str>) -> Result<Payload, Error> {
    let json = |bytes| Payload::json(json::one_line(bytes));
    match (base64.filter(|base64| !base64.is_empty()), text) {
        (Some(base64), _) => {
            let bytes = BASE64_STANDARD
                .decode(base64)
                .map_err(|_| Error::Invalid(format!("claim '{claim}' is not base64")))?;
            Ok(match serde_json::from_slice::<&RawValue>(&bytes) {
                Ok(_) => json(bytes.into()),
                Err(_) => Payload {
                    data: bytes.into(),
                    format: Format::Binary,
                },
            })
        }
        (None, Some(text)) => Ok(json(Bytes::from(text.get().to_owned()))),
        (None, None) => Ok(Payload::default()),
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
            info: payload(self.info.as_deref(), "b64info", self.b64info.as_deref())?,
            data: payload(self.data.as_deref(), "b64data", self.b64data.as_deref())?,
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
