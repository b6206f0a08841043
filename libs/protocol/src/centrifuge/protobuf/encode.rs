//! Replies and pushes to one length-delimited message each.

use std::time::Duration;

use bytes::BufMut;
use prost::Message as _;
use tidings_core::{ClientInfo, Publication};

use super::wire;
use crate::{Push, Reply};

/// Writes a reply. `out` must have no bound.
pub fn reply(reply: &Reply, out: &mut impl BufMut) {
    let message = match reply {
        Reply::Ping => wire::Reply::default(),
        Reply::Error { id, error } => {
            let error = wire::Error {
                code: error.code,
                message: error.message.clone().into_owned(),
                temporary: error.temporary,
            };
            wire::Reply {
                id: *id,
                error: Some(error),
                ..Default::default()
            }
        }
        Reply::Connect { id, result } => {
            let (expires, ttl) = expiry(result.expires_in);
            let subs = result
                .subs
                .iter()
                .map(|(it, _)| (it.to_string(), wire::SubscribeResult {}))
                .collect();
            let connect = wire::ConnectResult {
                client: result.client.to_string(),
                version: result.version.to_owned(),
                expires,
                ttl,
                ping: seconds(result.ping_interval),
                pong: true,
                subs,
            };
            wire::Reply {
                id: *id,
                connect: Some(connect),
                ..Default::default()
            }
        }
        Reply::Subscribe { id, .. } => wire::Reply {
            id: *id,
            subscribe: Some(wire::SubscribeResult {}),
            ..Default::default()
        },
        Reply::Unsubscribe { id } => wire::Reply {
            id: *id,
            unsubscribe: Some(wire::UnsubscribeResult {}),
            ..Default::default()
        },
        Reply::Publish { id } => wire::Reply {
            id: *id,
            publish: Some(wire::PublishResult {}),
            ..Default::default()
        },
        Reply::Presence { id, members } => {
            let presence = members
                .iter()
                .map(|info| (info.client.to_string(), client_info(info)))
                .collect();
            wire::Reply {
                id: *id,
                presence: Some(wire::PresenceResult { presence }),
                ..Default::default()
            }
        }
        Reply::PresenceStats { id, clients, users } => {
            let stats = wire::PresenceStatsResult {
                num_clients: *clients,
                num_users: *users,
            };
            wire::Reply {
                id: *id,
                presence_stats: Some(stats),
                ..Default::default()
            }
        }
        Reply::History {
            id,
            publications,
            top,
        } => {
            let history = wire::HistoryResult {
                publications: publications.iter().map(publication).collect(),
                epoch: top.epoch.clone(),
                offset: top.offset,
            };
            wire::Reply {
                id: *id,
                history: Some(history),
                ..Default::default()
            }
        }
        Reply::Refresh { id, expires_in } => {
            let (expires, ttl) = expiry(*expires_in);
            wire::Reply {
                id: *id,
                refresh: Some(wire::RefreshResult { expires, ttl }),
                ..Default::default()
            }
        }
        _ => wire::Reply::default(),
    };
    write(&message, out);
}

/// Writes a push. `out` must have no bound.
pub fn push(push: Push<'_>, out: &mut impl BufMut) {
    let push = match push {
        Push::Publication(channel, it) | Push::Delta(channel, it, _) => wire::Push {
            channel: channel.to_string(),
            r#pub: Some(publication(it)),
            ..Default::default()
        },
        Push::Join(channel, info) => wire::Push {
            channel: channel.to_string(),
            join: Some(wire::Join {
                info: Some(client_info(info)),
            }),
            ..Default::default()
        },
        Push::Leave(channel, info) => wire::Push {
            channel: channel.to_string(),
            leave: Some(wire::Leave {
                info: Some(client_info(info)),
            }),
            ..Default::default()
        },
    };
    write(
        &wire::Reply {
            push: Some(push),
            ..Default::default()
        },
        out,
    );
}

fn write(message: &wire::Reply, out: &mut impl BufMut) {
    message.encode_length_delimited(out).expect("the buffer grows");
}

fn publication(publication: &Publication) -> wire::Publication {
    wire::Publication {
        data: publication.data.clone(),
        info: publication.info.as_ref().map(client_info),
        offset: publication
            .position
            .as_ref()
            .map_or(0, |position| position.offset),
        tags: publication.tags.clone().into_iter().collect(),
    }
}

fn client_info(info: &ClientInfo) -> wire::ClientInfo {
    wire::ClientInfo {
        user: info.user.to_string(),
        client: info.client.to_string(),
        conn_info: info.conn_info.clone(),
        chan_info: info.chan_info.clone(),
    }
}

/// Whether it expires, and in how many seconds. An SDK that is told 0 would not come back to refresh.
fn expiry(expires_in: Option<Duration>) -> (bool, u32) {
    (
        expires_in.is_some(),
        expires_in.map_or(0, |ttl| seconds(ttl).max(1)),
    )
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use tidings_core::{Channel, Format};

    use super::*;
    use crate::Error;

    fn decoded(write: impl FnOnce(&mut Vec<u8>)) -> wire::Reply {
        let mut out = Vec::new();
        write(&mut out);
        let mut rest = out.as_slice();
        let message = wire::Reply::decode_length_delimited(&mut rest).unwrap();
        assert!(rest.is_empty(), "one message");
        message
    }

    #[test]
    fn a_ping_is_the_single_byte_zero() {
        let mut out = Vec::new();
        reply(&Reply::Ping, &mut out);
        assert_eq!(out, [0]);
    }

    #[test]
    fn an_empty_result_is_there_all_the_same() {
        let message = decoded(|out| reply(&Reply::Subscribe { id: 7 }, out));
        assert_eq!(
            (message.id, message.subscribe),
            (7, Some(wire::SubscribeResult {}))
        );
        let failed = Reply::Error {
            id: 8,
            error: Error::INTERNAL,
        };
        let message = decoded(|out| reply(&failed, out));
        assert!(
            message
                .error
                .is_some_and(|error| error.code == 100 && error.temporary)
        );
    }

    #[test]
    fn a_publication_carries_its_data_whatever_it_is() {
        let channel = Channel::parse("tasks:1").unwrap();
        let publication = Publication::new(
            Bytes::from_static(b"\xff\x00"),
            Format::Binary,
            SystemTime::UNIX_EPOCH,
        );
        let message = decoded(|out| push(Push::Publication(&channel, &publication), out));
        let push = message.push.unwrap();
        assert_eq!(push.channel, "tasks:1");
        assert_eq!(push.r#pub.unwrap().data, b"\xff\x00"[..]);
    }
}
