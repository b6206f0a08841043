//! Replies and pushes to one length-delimited message each.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use prost::Message as _;
use tidings_core::{ClientInfo, Publication};

use super::wire;
use crate::{
    Push, Reply,
    centrifuge::field,
    delta,
    reply::{Connected, Subscribed},
};

/// Writes a reply. `out` must have no bound.
pub fn reply(reply: &Reply, out: &mut impl BufMut) {
    let mut message = wire::Reply::default();
    match reply {
        Reply::Ping => {}
        Reply::Error { id, error } => {
            message.id = *id;
            message.error = Some(wire::Error {
                code: error.code,
                message: error.message.clone().into_owned(),
                temporary: error.temporary,
            });
        }
        Reply::Connect { id, result } => {
            message.id = *id;
            message.connect = Some(connected(result));
        }
        Reply::Subscribe { id, result } => {
            message.id = *id;
            message.subscribe = Some(subscribed(result));
        }
        Reply::Unsubscribe { id } => {
            message.id = *id;
            message.unsubscribe = Some(wire::UnsubscribeResult {});
        }
        Reply::Publish { id } => {
            message.id = *id;
            message.publish = Some(wire::PublishResult {});
        }
        Reply::Presence { id, members } => {
            message.id = *id;
            let presence = members.iter().map(|it| (it.client.to_string(), client_info(it)));
            message.presence = Some(wire::PresenceResult {
                presence: presence.collect(),
            });
        }
        Reply::PresenceStats { id, clients, users } => {
            message.id = *id;
            message.presence_stats = Some(wire::PresenceStatsResult {
                num_clients: *clients,
                num_users: *users,
            });
        }
        Reply::History {
            id,
            publications,
            top,
        } => {
            message.id = *id;
            message.history = Some(wire::HistoryResult {
                publications: publications.iter().map(publication).collect(),
                epoch: top.epoch.clone(),
                offset: top.offset,
            });
        }
        Reply::Rpc { id, payload } => {
            message.id = *id;
            message.rpc = Some(wire::RpcResult {
                data: payload.data.clone(),
            });
        }
        Reply::Refresh { id, expires_in } => {
            message.id = *id;
            let (expires, ttl) = expiry(*expires_in);
            message.refresh = Some(wire::RefreshResult { expires, ttl });
        }
        Reply::SubRefresh { id, expires_in } => {
            message.id = *id;
            let (expires, ttl) = expiry(*expires_in);
            message.sub_refresh = Some(wire::SubRefreshResult { expires, ttl });
        }
        Reply::Subscribed { .. }
        | Reply::Unsubscribed { .. }
        | Reply::Message(_)
        | Reply::Refreshed { .. }
        | Reply::Disconnect(_) => message.push = Some(unasked(reply)),
    }
    write(&message, out);
}

/// Writes a push. `out` must have no bound.
pub fn push(push: Push<'_>, out: &mut impl BufMut) {
    let (Push::Publication(channel, _)
    | Push::Delta(channel, ..)
    | Push::Join(channel, _)
    | Push::Leave(channel, _)) = push;
    let mut message = wire::Push {
        channel: channel.to_string(),
        ..Default::default()
    };
    let info = |it| Some(client_info(it));
    match push {
        Push::Publication(_, it) => message.r#pub = Some(publication(it)),
        Push::Delta(_, it, patch) => {
            message.r#pub = Some(difference(it, patch.map(Bytes::copy_from_slice)));
        }
        Push::Join(_, it) => message.join = Some(wire::Join { info: info(it) }),
        Push::Leave(_, it) => message.leave = Some(wire::Leave { info: info(it) }),
    }
    let reply = wire::Reply {
        push: Some(message),
        ..Default::default()
    };
    write(&reply, out);
}

fn write(message: &wire::Reply, out: &mut impl BufMut) {
    message.encode_length_delimited(out).expect("the buffer grows");
}

/// What a reply that nobody asked for says in its push; of the others, nothing.
fn unasked(reply: &Reply) -> wire::Push {
    let mut push = wire::Push::default();
    match reply {
        Reply::Subscribed { channel, result } => {
            push.channel = channel.to_string();
            let position = result.position.clone();
            let (offset, epoch) = position.map(|it| (it.offset, it.epoch)).unwrap_or_default();
            push.subscribe = Some(wire::Subscribe {
                recoverable: result.recoverable,
                epoch,
                offset,
                positioned: result.position.is_some(),
                data: result.data.data.clone(),
            });
        }
        Reply::Unsubscribed { channel, reason } => {
            push.channel = channel.to_string();
            push.unsubscribe = Some(wire::Unsubscribe {
                code: reason.code.into(),
                reason: reason.text.clone().into_owned(),
            });
        }
        Reply::Message(payload) => {
            push.message = Some(wire::Message {
                data: payload.data.clone(),
            });
        }
        Reply::Refreshed { expires_in } => {
            let (expires, ttl) = expiry(*expires_in);
            push.refresh = Some(wire::Refresh { expires, ttl });
        }
        Reply::Disconnect(reason) => {
            push.disconnect = Some(wire::Disconnect {
                code: reason.code().into(),
                reason: reason.text().to_owned(),
            });
        }
        _ => {}
    }
    push
}

fn connected(result: &Connected) -> wire::ConnectResult {
    let (expires, ttl) = expiry(result.expires_in);
    let subs = result.subs.iter().map(|(channel, sub)| wire::ConnectedSub {
        key: channel.to_string(),
        value: Some(subscribed(sub)),
    });
    wire::ConnectResult {
        client: result.client.to_string(),
        version: result.version.to_owned(),
        expires,
        ttl,
        data: result.data.data.clone(),
        subs: subs.collect(),
        ping: field::seconds(result.ping_interval),
        pong: result.pong,
        session: result.session.as_deref().unwrap_or_default().to_owned(),
        node: result.node.as_deref().unwrap_or_default().to_owned(),
    }
}

fn subscribed(result: &Subscribed) -> wire::SubscribeResult {
    let (expires, ttl) = expiry(result.expires_in);
    let position = result.position.clone();
    let (offset, epoch) = position.map(|it| (it.offset, it.epoch)).unwrap_or_default();
    wire::SubscribeResult {
        expires,
        ttl,
        recoverable: result.recoverable,
        epoch,
        publications: missed(result),
        recovered: result.recovered == Some(true),
        offset,
        positioned: result.position.is_some(),
        data: result.data.data.clone(),
        was_recovering: result.recovered.is_some(),
        delta: result.delta,
    }
}

/// What was missed: for those who read differences, each but the first as one from the publication before.
fn missed(result: &Subscribed) -> Vec<wire::Publication> {
    let mut before: Option<&Bytes> = None;
    let written = result.publications.iter().map(|it| {
        let base = before.replace(&it.data).filter(|_| result.delta);
        difference(
            it,
            base.and_then(|base| delta::fossil(base, &it.data))
                .map(Bytes::from),
        )
    });
    written.collect()
}

/// A publication as the patch, if there is one, else whole.
fn difference(it: &Publication, patch: Option<Bytes>) -> wire::Publication {
    let whole = publication(it);
    match patch {
        Some(data) => wire::Publication {
            data,
            delta: true,
            ..whole
        },
        None => whole,
    }
}

fn publication(it: &Publication) -> wire::Publication {
    wire::Publication {
        data: it.data.clone(),
        info: it.info.as_ref().map(client_info),
        offset: it.position.as_ref().map_or(0, |position| position.offset),
        tags: it.tags.clone(),
        delta: false,
    }
}

fn client_info(it: &ClientInfo) -> wire::ClientInfo {
    wire::ClientInfo {
        user: it.user.to_string(),
        client: it.client.to_string(),
        conn_info: it.conn_info.clone(),
        chan_info: it.chan_info.clone(),
    }
}

/// Whether it expires, and when.
fn expiry(expires_in: Option<Duration>) -> (bool, u32) {
    (expires_in.is_some(), expires_in.map_or(0, field::ttl))
}

#[cfg(test)]
mod tests;
