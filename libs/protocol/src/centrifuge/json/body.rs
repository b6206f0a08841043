//! What stands in the objects of replies and pushes, wherever these stand.
//!
//! A field that has its zero value is left out, except where the SDKs expect it: `user` and `client` of a client's info.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use tidings_core::{ClientInfo, Format, Payload, Publication};

use super::object::Object;
use crate::{
    CloseReason, Error, Push, Reply,
    centrifuge::field,
    delta,
    reply::{Connected, Subscribed},
};

/// Whether everything that a reply embeds can stand in JSON.
pub(in crate::centrifuge) fn check(reply: &Reply) -> Result<(), CloseReason> {
    match reply {
        Reply::Connect { result, .. } => {
            check_payload(&result.data)?;
            result.subs.iter().try_for_each(|(_, sub)| check_subscribed(sub))
        }
        Reply::Subscribe { result, .. } | Reply::Subscribed { result, .. } => check_subscribed(result),
        Reply::History { publications, .. } => publications.iter().try_for_each(check_publication),
        Reply::Rpc { payload, .. } | Reply::Message(payload) => check_payload(payload),
        _ => Ok(()),
    }
}

/// The same of a push.
pub(in crate::centrifuge) fn check_push(push: &Push<'_>) -> Result<(), CloseReason> {
    match push {
        Push::Publication(_, publication) | Push::Delta(_, publication, _) => check_publication(publication),
        Push::Join(..) | Push::Leave(..) => Ok(()),
    }
}

fn check_subscribed(result: &Subscribed) -> Result<(), CloseReason> {
    check_payload(&result.data)?;
    result.publications.iter().try_for_each(check_publication)
}

fn check_payload(payload: &Payload) -> Result<(), CloseReason> {
    check_data(&payload.data, payload.format)
}

fn check_publication(publication: &Publication) -> Result<(), CloseReason> {
    check_data(&publication.data, publication.format)
}

fn check_data(data: &Bytes, format: Format) -> Result<(), CloseReason> {
    match format {
        Format::Binary if !data.is_empty() => Err(CloseReason::InappropriateProtocol),
        Format::Json | Format::Binary => Ok(()),
    }
}

/// What a reply that nobody asked for says in its push; of the others, nothing.
pub(in crate::centrifuge) fn unasked<W: Write>(object: &mut Object<'_, W>, reply: &Reply) {
    match reply {
        Reply::Subscribed { channel, result } => {
            object.text("channel", channel.as_str());
            object.object("subscribe", |s| {
                position(s, result);
                data(s, &result.data.data);
            });
        }
        Reply::Unsubscribed { channel, reason } => {
            object.text("channel", channel.as_str());
            object.object("unsubscribe", |u| {
                u.number("code", reason.code);
                u.text("reason", &reason.text);
            });
        }
        Reply::Message(payload) => object.object("message", |m| data(m, &payload.data)),
        Reply::Refreshed { expires_in } => object.object("refresh", |r| expiry(r, *expires_in)),
        Reply::Disconnect(reason) => object.object("disconnect", |d| {
            d.number("code", reason.code());
            d.text("reason", reason.text());
        }),
        _ => {}
    }
}

pub(in crate::centrifuge) fn push<W: Write>(object: &mut Object<'_, W>, push: &Push<'_>) {
    let (Push::Publication(channel, _)
    | Push::Delta(channel, ..)
    | Push::Join(channel, _)
    | Push::Leave(channel, _)) = push;
    object.text("channel", channel.as_str());
    match push {
        Push::Publication(_, it) => object.object("pub", |o| publication(o, it)),
        Push::Delta(_, it, patch) => object.object("pub", |o| difference(o, it, *patch)),
        Push::Join(_, info) => object.object("join", |j| j.object("info", |i| client_info(i, info))),
        Push::Leave(_, info) => object.object("leave", |l| l.object("info", |i| client_info(i, info))),
    }
}

pub(in crate::centrifuge) fn error<W: Write>(object: &mut Object<'_, W>, error: &Error) {
    object.number("code", error.code);
    object.text("message", &error.message);
    if error.temporary {
        object.flag("temporary");
    }
}

/// All but `pong`, which clients that only listen cannot send.
pub(in crate::centrifuge) fn connected<W: Write>(object: &mut Object<'_, W>, result: &Connected) {
    object.text("client", &result.client.to_string());
    object.text("version", result.version);
    expiry(object, result.expires_in);
    data(object, &result.data.data);
    if !result.subs.is_empty() {
        object.object("subs", |subs| {
            for (channel, sub) in &result.subs {
                subs.object(channel.as_str(), |s| subscribed(s, sub));
            }
        });
    }
    // Told of no interval, a client does not wait for pings.
    match field::seconds(result.ping_interval) {
        0 => {}
        seconds => object.number("ping", seconds),
    }
    if let Some(session) = &result.session {
        object.text("session", session);
    }
    if let Some(node) = &result.node {
        object.text("node", node);
    }
}

pub(in crate::centrifuge) fn subscribed<W: Write>(object: &mut Object<'_, W>, result: &Subscribed) {
    expiry(object, result.expires_in);
    position(object, result);
    if !result.publications.is_empty() {
        let mut before: Option<&Bytes> = None;
        object.list("publications", &result.publications, |o, it| {
            if result.delta {
                let patch = before.replace(&it.data);
                let patch = patch.and_then(|base| delta::fossil(base, &it.data));
                difference(o, it, patch.as_deref());
            } else {
                publication(o, it);
            }
        });
    }
    if result.recovered == Some(true) {
        object.flag("recovered");
    }
    data(object, &result.data.data);
    if result.recovered.is_some() {
        object.flag("was_recovering");
    }
    if result.delta {
        object.flag("delta");
    }
}

fn position<W: Write>(object: &mut Object<'_, W>, result: &Subscribed) {
    if result.recoverable {
        object.flag("recoverable");
    }
    if let Some(position) = &result.position {
        if !position.epoch.is_empty() {
            object.text("epoch", &position.epoch);
        }
        if position.offset > 0 {
            object.number("offset", position.offset);
        }
        object.flag("positioned");
    }
}

pub(in crate::centrifuge) fn expiry<W: Write>(object: &mut Object<'_, W>, expires_in: Option<Duration>) {
    if let Some(expires_in) = expires_in {
        object.flag("expires");
        object.number("ttl", field::ttl(expires_in));
    }
}

/// A payload that is there.
pub(in crate::centrifuge) fn data<W: Write>(object: &mut Object<'_, W>, json: &Bytes) {
    if !json.is_empty() {
        object.raw("data", json);
    }
}

pub(in crate::centrifuge) fn publication<W: Write>(object: &mut Object<'_, W>, it: &Publication) {
    data(object, &it.data);
    around(object, it);
}

/// A publication for those who read differences. Its data is text in a string, so that all of the difference is text
/// too: one that is not UTF-8 cannot be sent, and all is sent instead.
fn difference<W: Write>(object: &mut Object<'_, W>, it: &Publication, patch: Option<&[u8]>) {
    let patch = patch.and_then(|patch| std::str::from_utf8(patch).ok());
    match patch {
        Some(patch) => object.text("data", patch),
        None => object.text("data", &String::from_utf8_lossy(&it.data)),
    }
    around(object, it);
    if patch.is_some() {
        object.flag("delta");
    }
}

/// What a publication has beside its data.
fn around<W: Write>(object: &mut Object<'_, W>, it: &Publication) {
    if let Some(info) = &it.info {
        object.object("info", |i| client_info(i, info));
    }
    if let Some(position) = &it.position {
        object.number("offset", position.offset);
    }
    if !it.tags.is_empty() {
        object.object("tags", |tags| {
            for (name, value) in &it.tags {
                tags.text(name, value);
            }
        });
    }
}

pub(in crate::centrifuge) fn client_info<W: Write>(object: &mut Object<'_, W>, info: &ClientInfo) {
    object.text("user", &info.user);
    object.text("client", &info.client.to_string());
    if !info.conn_info.is_empty() {
        object.raw("conn_info", &info.conn_info);
    }
    if !info.chan_info.is_empty() {
        object.raw("chan_info", &info.chan_info);
    }
}
