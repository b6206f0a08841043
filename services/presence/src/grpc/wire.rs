//! Wire types to and from members. Everything that comes in is checked here, and nowhere after.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_proto::presence::{self as wire, change, gateway_update};
use tonic::Status;

use super::status::invalid;
use crate::{
    attach::Update,
    member::{Change, GatewayId, LEASE, Member, MemberId},
};

/// How many members or changes one update may have, and how many members one page.
const PAGE: usize = 1_000;

/// How large a user id, and each info, may be, in bytes.
pub(super) const USER_MAX: usize = 1024;
const INFO_MAX: usize = 64 * 1024;

pub(super) fn update(update: wire::GatewayUpdate) -> Result<Update, Status> {
    let Some(update) = update.update else {
        return Err(invalid("update", "is missing"));
    };
    match update {
        gateway_update::Update::Hello(hello) => {
            let gateway = GatewayId::parse(&hello.gateway)
                .map_err(|error| invalid("hello.gateway", error.to_string()))?;
            let length = Duration::from_millis(hello.lease_ms);
            if !LEASE.contains(&length) {
                let (min, max) = (LEASE.start().as_millis(), LEASE.end().as_millis());
                return Err(invalid(
                    "hello.lease_ms",
                    format!("must be {min} to {max}, not {}", hello.lease_ms),
                ));
            }
            Ok(Update::Hello { gateway, length })
        }
        gateway_update::Update::Snapshot(wire::Snapshot { members, last }) => {
            at_most_a_page("snapshot.members", members.len())?;
            let members = members
                .into_iter()
                .enumerate()
                .map(|(at, member)| to_joined(&format!("snapshot.members[{at}]"), member))
                .collect::<Result<_, _>>()?;
            Ok(Update::Snapshot { members, last })
        }
        gateway_update::Update::Changes(wire::Changes { changes }) => {
            at_most_a_page("changes.changes", changes.len())?;
            let changes = changes
                .into_iter()
                .enumerate()
                .map(|(at, change)| to_change(&format!("changes.changes[{at}]"), change))
                .collect::<Result<_, _>>()?;
            Ok(Update::Changes(changes))
        }
        gateway_update::Update::Heartbeat(wire::Heartbeat {}) => Ok(Update::Heartbeat),
        gateway_update::Update::Goodbye(wire::Goodbye {}) => Ok(Update::Goodbye),
    }
}

fn at_most_a_page(field: &str, len: usize) -> Result<(), Status> {
    if len > PAGE {
        Err(invalid(
            field,
            format!("has {len} entries, at most {PAGE} are allowed"),
        ))
    } else {
        Ok(())
    }
}

fn to_change(field: &str, change: wire::Change) -> Result<Change, Status> {
    match change.change {
        Some(change::Change::Joined(member)) => to_joined(&format!("{field}.joined"), member),
        Some(change::Change::Left(wire::Left { channel, client })) => Ok(Change::Left(MemberId {
            channel: channel_in(&format!("{field}.left.channel"), &channel)?,
            client: client_in(&format!("{field}.left.client"), &client)?,
        })),
        None => Err(invalid(field, "is neither joined nor left")),
    }
}

fn to_joined(field: &str, member: wire::Member) -> Result<Change, Status> {
    let known = member.known;
    let member = to_member(field, member)?;
    Ok(if known {
        Change::Known(member)
    } else {
        Change::Joined(member)
    })
}

fn to_member(field: &str, member: wire::Member) -> Result<Member, Status> {
    let wire::Member {
        channel,
        client,
        user,
        conn_info,
        chan_info,
        joined_at_ms,
        gateway: _,
        announced,
        known: _,
    } = member;
    for (name, len, max) in [
        ("user", user.len(), USER_MAX),
        ("conn_info", conn_info.len(), INFO_MAX),
        ("chan_info", chan_info.len(), INFO_MAX),
    ] {
        if len > max {
            return Err(invalid(
                &format!("{field}.{name}"),
                format!("has {len} bytes, at most {max} are allowed"),
            ));
        }
    }
    let joined_at = u64::try_from(joined_at_ms)
        .ok()
        .and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)))
        .ok_or_else(|| {
            invalid(
                &format!("{field}.joined_at_ms"),
                format!("{joined_at_ms} is no time"),
            )
        })?;
    Ok(Member {
        channel: channel_in(&format!("{field}.channel"), &channel)?,
        info: ClientInfo {
            user: Arc::from(user),
            client: client_in(&format!("{field}.client"), &client)?,
            conn_info,
            chan_info,
        },
        joined_at,
        announced,
    })
}

pub(super) fn from_member(member: &Member, gateway: &GatewayId) -> wire::Member {
    let Member {
        channel,
        info,
        joined_at,
        announced,
    } = member;
    wire::Member {
        channel: channel.to_string(),
        client: info.client.to_string(),
        user: info.user.to_string(),
        conn_info: info.conn_info.clone(),
        chan_info: info.chan_info.clone(),
        joined_at_ms: unix_ms(*joined_at),
        gateway: gateway.to_string(),
        announced: *announced,
        known: false,
    }
}

/// Somebody as others in a channel know it.
pub(super) fn from_info(channel: &Channel, info: &ClientInfo) -> wire::Member {
    wire::Member {
        channel: channel.to_string(),
        client: info.client.to_string(),
        user: info.user.to_string(),
        conn_info: info.conn_info.clone(),
        chan_info: info.chan_info.clone(),
        announced: true,
        ..wire::Member::default()
    }
}

pub(super) fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}

pub(super) fn channel(name: &str) -> Result<Channel, Status> {
    channel_in("channel", name)
}

fn channel_in(field: &str, name: &str) -> Result<Channel, Status> {
    Channel::parse(name).map_err(|error| invalid(field, error.to_string()))
}

fn client_in(field: &str, client: &str) -> Result<ClientId, Status> {
    ClientId::parse(client).ok_or_else(|| invalid(field, "is no client id"))
}

pub(super) fn page_token(token: &str) -> Result<Option<ClientId>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let after = ClientId::parse(token).ok_or_else(|| invalid("page_token", "is not one that List gave"))?;
    Ok(Some(after))
}

pub(super) fn page_size(size: u32) -> Result<usize, Status> {
    match size as usize {
        0 => Ok(PAGE),
        size if size <= PAGE => Ok(size),
        size => Err(invalid(
            "page_size",
            format!("is {size}, at most {PAGE} is allowed"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    fn good() -> wire::Member {
        wire::Member {
            channel: "tasks:1".to_owned(),
            client: ClientId::random().to_string(),
            user: "ada".to_owned(),
            joined_at_ms: 1_700_000_000_123,
            gateway: "g1".to_owned(),
            announced: true,
            known: false,
            ..wire::Member::default()
        }
    }

    /// The field that a part of a snapshot is refused for.
    fn refused(member: wire::Member) -> String {
        let snapshot = wire::Snapshot {
            members: vec![good(), member],
            last: true,
        };
        let update_ = wire::GatewayUpdate {
            seq: 1,
            update: Some(gateway_update::Update::Snapshot(snapshot)),
        };
        violation(&update(update_).unwrap_err())
    }

    fn violation(status: &Status) -> String {
        assert_eq!(status.code(), Code::InvalidArgument);
        status.get_details_bad_request().unwrap().field_violations[0]
            .field
            .clone()
    }

    #[test]
    fn a_member_reads_as_it_was_written() {
        let sent = good();
        let member = to_member("", sent.clone()).unwrap();
        assert_eq!(from_member(&member, &GatewayId::parse("g1").unwrap()), sent);
    }

    #[test]
    fn a_bad_member_is_refused_by_the_name_of_its_field() {
        let at = |field: &str| format!("snapshot.members[1].{field}");
        assert_eq!(
            refused(wire::Member {
                channel: "a b".to_owned(),
                ..good()
            }),
            at("channel")
        );
        assert_eq!(
            refused(wire::Member {
                client: "me".to_owned(),
                ..good()
            }),
            at("client")
        );
        assert_eq!(
            refused(wire::Member {
                user: "x".repeat(USER_MAX + 1),
                ..good()
            }),
            at("user")
        );
        let large = vec![b' '; INFO_MAX + 1];
        assert_eq!(
            refused(wire::Member {
                conn_info: large.clone().into(),
                ..good()
            }),
            at("conn_info")
        );
        assert_eq!(
            refused(wire::Member {
                chan_info: large.into(),
                ..good()
            }),
            at("chan_info")
        );
        for joined_at_ms in [-1, i64::MIN] {
            assert_eq!(
                refused(wire::Member {
                    joined_at_ms,
                    ..good()
                }),
                at("joined_at_ms")
            );
        }
    }

    #[test]
    fn a_lease_outside_the_bounds_is_refused() {
        for lease_ms in [0, 999, 600_001, u64::MAX] {
            let hello = wire::Hello {
                gateway: "g1".to_owned(),
                lease_ms,
            };
            let hello = gateway_update::Update::Hello(hello);
            let status = update(wire::GatewayUpdate {
                seq: 1,
                update: Some(hello),
            })
            .unwrap_err();
            assert_eq!(violation(&status), "hello.lease_ms");
        }
    }

    #[test]
    fn a_page_is_bounded_and_its_token_is_ours() {
        assert_eq!(page_size(0).unwrap(), 1_000);
        assert_eq!(page_size(7).unwrap(), 7);
        assert_eq!(violation(&page_size(1_001).unwrap_err()), "page_size");
        assert_eq!(violation(&page_token("../etc").unwrap_err()), "page_token");
    }
}
