//! `Lookup` and `Watch` on the wire.

use std::{collections::BTreeMap, sync::Arc};

use tidings_core::{ClientId, Glob};
use tidings_proto::presence::{
    Behind, Count, Counted, Device, Live, Member, UserPresence, WatchRequest, WatchResponse,
    watch_response::What,
};
use tonic::Status;

use super::{
    status::invalid,
    wire::{USER_MAX, from_member, unix_ms},
};
use crate::{
    store::{Event, Whereabouts},
    watch::{Heard, Token, Wanted},
};

/// How many users one request may name, and how many globs.
const USERS: usize = 1_000;
const GLOBS: usize = 100;

/// How many memberships one answer has.
pub(super) const PLACES: usize = 10_000;

pub(super) fn users(users: Vec<String>) -> Result<Vec<Arc<str>>, Status> {
    if users.is_empty() {
        return Err(invalid("users", "is empty; name 1 to 1,000 users"));
    }
    at_most("users", users.len(), USERS)?;
    let users = users.into_iter().enumerate().map(|(at, user)| match user.len() {
        1..=USER_MAX => Ok(Arc::from(user)),
        len => Err(invalid(
            &format!("users[{at}]"),
            format!("has {len} bytes; a user has 1 to {USER_MAX}"),
        )),
    });
    users.collect()
}

fn at_most(field: &str, len: usize, max: usize) -> Result<(), Status> {
    if len > max {
        Err(invalid(
            field,
            format!("has {len} entries, at most {max} are allowed"),
        ))
    } else {
        Ok(())
    }
}

pub(super) fn user(user: &str, found: Whereabouts) -> UserPresence {
    let since = found.places.iter().map(|(member, _)| member.joined_at).min();
    let mut devices: BTreeMap<ClientId, Device> = BTreeMap::new();
    for (member, gateway) in found.places {
        let since_ms = unix_ms(member.joined_at);
        let client = member.info.client;
        let device = devices.entry(client).or_insert_with(|| Device {
            client: client.to_string(),
            gateway: gateway.to_string(),
            since_ms,
            channels: Vec::new(),
        });
        device.since_ms = device.since_ms.min(since_ms);
        device.channels.push(member.channel.to_string());
    }
    UserPresence {
        user: user.to_owned(),
        online: !devices.is_empty(),
        devices: devices.into_values().collect(),
        since_ms: since.map_or(0, unix_ms),
        last_seen_ms: found.last_seen.map_or(0, unix_ms),
        truncated: found.truncated,
    }
}

pub(super) fn wanted(request: WatchRequest) -> Result<(Wanted, Option<Token>), Status> {
    let WatchRequest {
        channels,
        users: named,
        token,
    } = request;
    if channels.is_empty() && named.is_empty() {
        return Err(invalid(
            "channels",
            "is empty, as is users; to watch everyone, ask for the channels \"**\"",
        ));
    }
    at_most("channels", channels.len(), GLOBS)?;
    let globs = channels.iter().enumerate().map(|(at, glob)| {
        Glob::parse(glob, ':').map_err(|why| invalid(&format!("channels[{at}]"), why.to_string()))
    });
    let channels = globs.collect::<Result<_, _>>()?;
    let users = if named.is_empty() {
        Vec::new()
    } else {
        users(named)?
    };
    let from = if token.is_empty() {
        None
    } else {
        let place = Token::parse(&token);
        Some(place.ok_or_else(|| invalid("token", "is not one that Watch gave"))?)
    };
    let users = users.into_iter().collect();
    Ok((Wanted { channels, users }, from))
}

pub(super) fn heard(heard: Heard) -> WatchResponse {
    let (what, token) = match heard {
        Heard::Present(member, gateway) => {
            return WatchResponse {
                what: Some(What::Present(from_member(&member, &gateway))),
                token: String::new(),
            };
        }
        Heard::Live(at) => (What::Live(Live {}), at.to_string()),
        Heard::Event(at, event) => {
            let joined = event.joined;
            let member = from_event(event);
            let what = if joined {
                What::Joined(member)
            } else {
                What::Left(member)
            };
            (what, at.to_string())
        }
        Heard::Counted(at, counts) => {
            let channels = counts.into_iter().map(|(channel, count)| Count {
                channel: channel.to_string(),
                joined: count.joined,
                left: count.left,
                clients: count.clients,
            });
            let channels = channels.collect();
            (What::Counted(Counted { channels }), at.to_string())
        }
        Heard::Behind => (What::Behind(Behind {}), String::new()),
    };
    WatchResponse {
        what: Some(what),
        token,
    }
}

fn from_event(event: Event) -> Member {
    let Event {
        joined: _,
        channel,
        client,
        user,
        crowd: _,
    } = event;
    Member {
        channel: channel.to_string(),
        client: client.to_string(),
        user: user.to_string(),
        ..Member::default()
    }
}
