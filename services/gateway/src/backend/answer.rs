//! What the backend's answers mean here. Rules only: no I/O, no clock.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::de::IgnoredAny;
use tidings_core::{Channel, Format, Overrides, Payload, json};
use tidings_proto::proxy::{
    ConnectResult, Disconnect, Error as WireError, PublishResult, RefreshResult, SubRefreshResult,
    SubscribeOptionOverride, SubscribeOptions, SubscribeResult,
};
use tidings_protocol::{CloseReason, Error};
use tidings_session::{Expiry, Grant, Identity, Refusal, Renewal, RenewedBy};

use super::{failure::Failure, question::Answer};

/// The codes that belong to applications.
const ERRORS: std::ops::RangeInclusive<u32> = 400..=1999;
/// Those that end a connection: the protocol's own, and applications'.
const CLOSES: std::ops::RangeInclusive<u16> = 3000..=4999;

/// The most bytes of an error's or a close's text: what the last frame of a WebSocket can hold.
const MAX_TEXT: usize = 123;
/// The most bytes of the name of a publish.
const MAX_KEY: usize = 255;
/// The most tags of a publication.
const MAX_TAGS: usize = 64;

/// Why something is not granted.
#[derive(Debug)]
pub(super) enum No {
    /// The backend says so.
    Refused(Refusal),
    /// It said nothing that could be understood.
    Failed(Failure),
}

/// What becomes of something that a client publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    /// What is published instead; empty: what the client sent.
    pub(crate) payload: Payload,
    pub(crate) tags: BTreeMap<String, String>,
    /// The channel's stream does not keep it.
    pub(crate) skip_history: bool,
    /// The name of this publish, which happens once.
    pub(crate) key: Option<String>,
}

/// Whether the answer is yes, and to what. `None`: it says nothing at all.
pub(super) fn result<A: Answer>(answer: A) -> Result<Option<A::Result>, No> {
    match answer.parts() {
        (_, _, Some(disconnect)) => Err(No::Refused(Refusal::Close(close(disconnect)))),
        (_, Some(wire), None) => Err(error(wire)),
        (result, None, None) => Ok(result),
    }
}

/// Who the client is. `renewed_by` says who sees to it that a subscription goes on.
pub(super) fn identity(
    result: ConnectResult,
    renewed_by: RenewedBy,
    renewed_in: impl Fn(&Channel) -> RenewedBy,
    now: SystemTime,
) -> Result<Identity, No> {
    let mut options = result.subs;
    for name in result.channels {
        options.entry(name).or_default();
    }
    // By name, so that the same answer always means the same order.
    let channels = BTreeMap::from_iter(options).into_iter().map(|(name, options)| {
        let channel =
            Channel::parse(&name).map_err(|_| nonsense("subs", "names a channel that cannot be"))?;
        let renewed_by = renewed_in(&channel);
        Ok((channel, subscription(options, renewed_by, now)?))
    });
    Ok(Identity {
        user: result.user.into(),
        info: payload("info", result.info, &result.b64info)?.into_json(),
        expiry: expiry(result.expire_at, renewed_by, now)?,
        data: payload("data", result.data, &result.b64data)?,
        channels: channels.collect::<Result<_, No>>()?,
    })
}

/// How a connection goes on.
pub(super) fn renewal(result: RefreshResult, now: SystemTime) -> Result<Renewal, No> {
    let info = payload("info", result.info, &result.b64info)?;
    Ok(Renewal {
        expires_in: goes_on(result.expired, result.expire_at, now)?,
        info: Some(info.into_json()).filter(|info| !info.is_empty()),
    })
}

/// How a channel treats the client.
pub(super) fn grant(result: SubscribeResult, renewed_by: RenewedBy, now: SystemTime) -> Result<Grant, No> {
    let options = SubscribeOptions {
        expire_at: result.expire_at,
        info: result.info,
        b64info: result.b64info,
        data: result.data,
        b64data: result.b64data,
        r#override: result.r#override,
    };
    subscription(options, renewed_by, now)
}

/// How a subscription goes on.
pub(super) fn prolonged(result: SubRefreshResult, now: SystemTime) -> Result<Grant, No> {
    let after = goes_on(result.expired, result.expire_at, now)?;
    Ok(Grant {
        expiry: after.map(|after| Expiry {
            after,
            renewed_by: RenewedBy::Backend,
        }),
        info: payload("info", result.info, &result.b64info)?.into_json(),
        ..Grant::default()
    })
}

/// What is published.
pub(super) fn edit(result: PublishResult) -> Result<Edit, No> {
    if result.idempotency_key.len() > MAX_KEY {
        return Err(nonsense("idempotency_key", "is longer than 255 bytes"));
    }
    if result.tags.len() > MAX_TAGS {
        return Err(nonsense("tags", "are more than 64"));
    }
    Ok(Edit {
        payload: payload("data", result.data, &result.b64data)?,
        tags: result.tags.into_iter().collect(),
        skip_history: result.skip_history,
        key: Some(result.idempotency_key).filter(|key| !key.is_empty()),
    })
}

/// Bytes as they stand in an answer: `base64` counts when it is there. JSON that is nested too deeply is passed on as
/// bytes, as it is from clients.
pub(super) fn payload(field: &'static str, data: Bytes, base64: &str) -> Result<Payload, No> {
    let data = match base64 {
        "" => data,
        base64 => BASE64_STANDARD
            .decode(base64)
            .map_err(|_| nonsense(field, "has a twin that is not base64"))?
            .into(),
    };
    if data.is_empty() {
        return Ok(Payload::default());
    }
    // From text, not from bytes: what is skipped over in bytes is not checked for being UTF-8.
    let is_json = std::str::from_utf8(&data).is_ok_and(|it| serde_json::from_str::<IgnoredAny>(it).is_ok());
    Ok(if is_json && json::depth_within(&data, json::MAX_DEPTH) {
        Payload::json(json::one_line(data))
    } else {
        Payload {
            data,
            format: Format::Binary,
        }
    })
}

fn subscription(options: SubscribeOptions, renewed_by: RenewedBy, now: SystemTime) -> Result<Grant, No> {
    Ok(Grant {
        expiry: expiry(options.expire_at, renewed_by, now)?,
        info: payload("info", options.info, &options.b64info)?.into_json(),
        data: payload("data", options.data, &options.b64data)?,
        overrides: overrides(options.r#override.unwrap_or_default()),
    })
}

fn overrides(wire: SubscribeOptionOverride) -> Overrides {
    Overrides {
        presence: wire.presence.map(|it| it.value),
        join_leave: wire.join_leave.map(|it| it.value),
        force_push_join_leave: wire.force_push_join_leave.map(|it| it.value),
        force_recovery: wire.force_recovery.map(|it| it.value),
        force_positioning: wire.force_positioning.map(|it| it.value),
    }
}

/// What begins with an end in the past has not begun.
fn expiry(at: i64, renewed_by: RenewedBy, now: SystemTime) -> Result<Option<Expiry>, No> {
    let after = until(at, now).ok_or(No::Refused(Refusal::Error(Error::EXPIRED)))?;
    Ok(after.map(|after| Expiry { after, renewed_by }))
}

fn goes_on(expired: bool, at: i64, now: SystemTime) -> Result<Option<Duration>, No> {
    let until = until(at, now).filter(|_| !expired);
    until.ok_or(No::Refused(Refusal::Expired))
}

/// How long it is until `at`, Unix time in seconds, 0 being never. `None` when it has passed.
fn until(at: i64, now: SystemTime) -> Option<Option<Duration>> {
    if at == 0 {
        return Some(None);
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_secs(at.try_into().ok()?).checked_sub(now)?;
    (!left.is_zero()).then_some(Some(left))
}

fn error(wire: WireError) -> No {
    if !ERRORS.contains(&wire.code) {
        return nonsense("error.code", "is not from 400 to 1999, which are applications'");
    }
    No::Refused(Refusal::Error(Error {
        code: wire.code,
        message: cut(wire.message).into(),
        temporary: wire.temporary,
    }))
}

/// A code that ends no connection leaves no doubt that this one should end.
fn close(Disconnect { code, reason }: Disconnect) -> CloseReason {
    match u16::try_from(code) {
        Ok(code) if CLOSES.contains(&code) => CloseReason::Application {
            code,
            text: cut(reason).into(),
        },
        _ => CloseReason::ForceDisconnect,
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

fn nonsense(field: &'static str, why: &'static str) -> No {
    No::Failed(Failure::Field { field, why })
}

#[cfg(test)]
mod tests;
