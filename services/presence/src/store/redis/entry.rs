//! How members look in Redis: readable where a person would look, compact where nobody does.
//!
//! A value is a head of words: the serial of the lease, since when in Unix milliseconds, and `+` when the member is
//! announced; then a line feed, and a `tidings.bus.v1.ClientInfo` without the client, which is the key. So the script that
//! writes and removes members compares leases, and says on the bus who came and who left, without taking the info apart;
//! and with a user id of 32 bytes and no info a value has at most 64 bytes, which Redis packs with its neighbours.

use std::time::{Duration, UNIX_EPOCH};

use prost::Message as _;
use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_proto::bus as wire;

use crate::member::{Member, MemberId};

/// The word that says that a member is announced.
const ANNOUNCED: &str = "+";

/// A lease without its gateway, as text that sorts.
pub(super) fn serial(serial: u64) -> String {
    format!("{serial:016}")
}

pub(super) fn parse_serial(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// How a member is named among its user's places. A channel name has no spaces.
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

pub(super) fn encode(lease: u64, member: &Member) -> Vec<u8> {
    let Member {
        channel: _,
        info,
        joined_at,
        announced,
    } = member;
    let since = joined_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut value = format!("{} {}", serial(lease), since.as_millis());
    if *announced {
        value.push(' ');
        value.push_str(ANNOUNCED);
    }
    value.push('\n');
    let info = wire::ClientInfo {
        user: info.user.to_string(),
        client: String::new(),
        conn_info: info.conn_info.clone(),
        chan_info: info.chan_info.clone(),
    };
    let mut value = value.into_bytes();
    value.reserve_exact(info.encoded_len());
    info.encode_raw(&mut value);
    value
}

/// The member and the serial of the lease that it is under; `None` for what is not ours.
pub(super) fn decode(channel: &Channel, client: &[u8], value: &[u8]) -> Option<(Member, u64)> {
    let (head, info) = split(value)?;
    let mut words = std::str::from_utf8(head).ok()?.split(' ');
    let lease = words.next()?.parse().ok()?;
    let since = Duration::from_millis(words.next()?.parse().ok()?);
    let announced = words.next() == Some(ANNOUNCED);
    let info = wire::ClientInfo::decode(info).ok()?;
    let member = Member {
        channel: channel.clone(),
        info: ClientInfo {
            user: info.user.into(),
            client: ClientId::parse(std::str::from_utf8(client).ok()?)?,
            conn_info: info.conn_info,
            chan_info: info.chan_info,
        },
        joined_at: UNIX_EPOCH.checked_add(since)?,
        announced,
    };
    Some((member, lease))
}

/// The head and the info.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    Some((&value[..end], &value[end + 1..]))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn member() -> Member {
        Member {
            channel: Channel::parse("tasks:1").unwrap(),
            info: ClientInfo {
                user: "ada +\n".into(),
                client: ClientId::random(),
                conn_info: Bytes::from_static(b"{}"),
                chan_info: Bytes::new(),
            },
            joined_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            announced: false,
        }
    }

    #[test]
    fn a_member_reads_as_it_was_written() {
        for announced in [false, true] {
            let member = Member {
                announced,
                ..member()
            };
            let value = encode(1, &member);
            assert!(value.starts_with(b"0000000000000001 "));
            let client = member.info.client.to_string();
            assert_eq!(
                decode(&member.channel, client.as_bytes(), &value),
                Some((member, 1))
            );
        }
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
        for value in [
            &b""[..],
            b"1",
            b"1\n",
            b"1 \n",
            b"g1/1 7\n",
            b"1 -1\n",
            b"1 7\n\xff\xff\xff",
        ] {
            assert_eq!(decode(&channel, client.as_bytes(), value), None, "{value:?}");
        }
        assert_eq!(decode(&channel, b"me", &encode(1, &member())), None);
        for name in [&b""[..], b"tasks:1", b"tasks:1 me", b"\xff \xff"] {
            assert_eq!(parse_name(name), None, "{name:?}");
        }
    }
}
