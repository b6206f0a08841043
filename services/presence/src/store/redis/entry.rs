//! How members look in Redis: readable where a person would look, compact where nobody does.
//!
//! A value is the lease as text, a line feed, and a `tidings.presence.v1.Member` without what the key and the
//! lease say already. The script compares leases without knowing protobuf.

use std::time::{Duration, UNIX_EPOCH};

use prost::Message as _;
use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_proto::presence as wire;

use crate::member::{GatewayId, Lease, Member, MemberId};

/// How a member is named in its lease's set. A channel name has no spaces.
pub(super) fn name(channel: &Channel, client: ClientId) -> Vec<u8> {
    format!("{channel} {client}").into_bytes()
}

pub(super) fn parse_name(name: &[u8]) -> Option<MemberId> {
    let (channel, client) = std::str::from_utf8(name).ok()?.split_once(' ')?;
    Some(MemberId {
        channel: Channel::parse(channel).ok()?,
        client: ClientId::parse(client)?,
    })
}

pub(super) fn encode(lease: &str, member: &Member) -> Vec<u8> {
    let Member {
        channel: _,
        info,
        joined_at,
    } = member;
    let since = joined_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let member = wire::Member {
        user: info.user.to_string(),
        conn_info: info.conn_info.clone(),
        chan_info: info.chan_info.clone(),
        joined_at_ms: since.as_millis().try_into().unwrap_or(i64::MAX),
        ..wire::Member::default()
    };
    let mut value = Vec::with_capacity(lease.len() + 1 + member.encoded_len());
    value.extend_from_slice(lease.as_bytes());
    value.push(b'\n');
    member.encode_raw(&mut value);
    value
}

/// The lease that an entry is under.
pub(super) fn lease(value: &[u8]) -> Option<&[u8]> {
    value
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|end| &value[..end])
}

/// The member and the gateway that holds it; `None` for what is not ours.
pub(super) fn decode(channel: &Channel, client: &[u8], value: &[u8]) -> Option<(Member, GatewayId)> {
    let lease = lease(value)?;
    let member = wire::Member::decode(&value[lease.len() + 1..]).ok()?;
    let since = Duration::from_millis(member.joined_at_ms.try_into().ok()?);
    let gateway = Lease::parse(std::str::from_utf8(lease).ok()?)?.gateway;
    let member = Member {
        channel: channel.clone(),
        info: ClientInfo {
            user: member.user.into(),
            client: ClientId::parse(std::str::from_utf8(client).ok()?)?,
            conn_info: member.conn_info,
            chan_info: member.chan_info,
        },
        joined_at: UNIX_EPOCH.checked_add(since)?,
    };
    Some((member, gateway))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn member() -> Member {
        Member {
            channel: Channel::parse("tasks:1").unwrap(),
            info: ClientInfo {
                user: "ada\n".into(),
                client: ClientId::random(),
                conn_info: Bytes::from_static(b"{}"),
                chan_info: Bytes::new(),
            },
            joined_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        }
    }

    #[test]
    fn a_member_reads_as_it_was_written() {
        let member = member();
        let value = encode("g1/0000000000000001", &member);
        assert_eq!(lease(&value), Some(&b"g1/0000000000000001"[..]));
        let client = member.info.client.to_string();
        assert_eq!(
            decode(&member.channel, client.as_bytes(), &value),
            Some((member, GatewayId::parse("g1").unwrap()))
        );
    }

    #[test]
    fn a_name_reads_as_it_was_written() {
        let id = member().id();
        assert_eq!(parse_name(&name(&id.channel, id.client)), Some(id));
    }

    #[test]
    fn what_is_not_ours_is_nobody() {
        let channel = Channel::parse("tasks:1").unwrap();
        let client = ClientId::random().to_string();
        for value in [&b""[..], b"g1", b"g1/1", b"g1\n", b"g1/1\n\xff\xff\xff"] {
            assert_eq!(decode(&channel, client.as_bytes(), value), None, "{value:?}");
        }
        assert_eq!(decode(&channel, b"me", &encode("g1/1", &member())), None);
        for name in [&b""[..], b"tasks:1", b"tasks:1 me", b"\xff \xff"] {
            assert_eq!(parse_name(name), None, "{name:?}");
        }
    }
}
