//! Length-delimited messages to commands.

use bytes::Bytes;
use prost::Message as _;
use tidings_core::Position;

use super::wire;
use crate::{Command, Request, command, data};

/// A frame that is not made of commands. The client is closed with 3501.
#[derive(Debug, thiserror::Error)]
#[error("message {number} is not a command: {source}")]
pub struct Malformed {
    /// Counted from 1.
    number: usize,
    source: prost::DecodeError,
}

/// The commands of a frame, in order; there must be at least one. The iterator ends after the first error.
pub fn commands(mut frame: Bytes) -> impl Iterator<Item = Result<Command, Malformed>> {
    let (mut number, mut over) = (0, false);
    std::iter::from_fn(move || {
        if over || (number > 0 && frame.is_empty()) {
            return None;
        }
        number += 1;
        let command = match wire::Command::decode_length_delimited(&mut frame) {
            Ok(message) => Ok(Command {
                id: message.id,
                request: request(message),
            }),
            Err(source) => Err(Malformed { number, source }),
        };
        over = command.is_err();
        Some(command)
    })
}

fn request(message: wire::Command) -> Request {
    if message.id == 0 {
        return if message.send.is_some() {
            Request::Send
        } else {
            Request::Pong
        };
    }
    if let Some(connect) = message.connect {
        return Request::Connect(Box::new(command::Connect {
            token: connect.token,
            name: connect.name,
            ..Default::default()
        }));
    }
    if let Some(subscribe) = message.subscribe {
        return Request::Subscribe(Box::new(command::Subscribe {
            channel: subscribe.channel,
            ..Default::default()
        }));
    }
    if let Some(unsubscribe) = message.unsubscribe {
        return Request::Unsubscribe {
            channel: unsubscribe.channel,
        };
    }
    if let Some(publish) = message.publish {
        return Request::Publish {
            channel: publish.channel,
            payload: data::check(publish.data),
        };
    }
    if let Some(presence) = message.presence {
        return Request::Presence {
            channel: presence.channel,
        };
    }
    if let Some(stats) = message.presence_stats {
        return Request::PresenceStats {
            channel: stats.channel,
        };
    }
    if let Some(history) = message.history {
        let since = history.since.map(|it| Position {
            offset: it.offset,
            epoch: it.epoch,
        });
        return Request::History(command::History {
            channel: history.channel,
            limit: history.limit,
            since,
            reverse: history.reverse,
        });
    }
    if message.rpc.is_some() || message.sub_refresh.is_some() {
        return Request::NotOffered;
    }
    if message.send.is_some() {
        return Request::Send;
    }
    match message.refresh {
        Some(refresh) => Request::Refresh { token: refresh.token },
        None => Request::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_core::Format;

    use super::*;

    fn frame(messages: &[wire::Command]) -> Bytes {
        messages
            .iter()
            .flat_map(prost::Message::encode_length_delimited_to_vec)
            .collect()
    }

    #[test]
    fn a_frame_carries_several_commands_in_order() {
        let connect = wire::ConnectRequest {
            token: "t".into(),
            name: "js".into(),
        };
        let publish = wire::PublishRequest {
            channel: "a".into(),
            data: Bytes::from_static(b"[1,\n2]"),
        };
        let frame = frame(&[
            wire::Command {
                id: 1,
                connect: Some(connect),
                ..Default::default()
            },
            wire::Command {
                id: 2,
                publish: Some(publish),
                ..Default::default()
            },
            wire::Command::default(),
        ]);
        let requests: Vec<_> = commands(frame).map(|command| command.unwrap().request).collect();
        assert_eq!(
            requests,
            [
                Request::Connect(command::Connect {
                    token: "t".into(),
                    name: "js".into()
                }),
                Request::Publish {
                    channel: "a".into(),
                    data: Bytes::from_static(b"[1, 2]"),
                    format: Format::Json
                },
                Request::Pong,
            ]
        );
    }

    #[test]
    fn data_that_is_not_json_is_binary() {
        let publish = wire::PublishRequest {
            channel: "a".into(),
            data: Bytes::from_static(b"\xff\n"),
        };
        let command = wire::Command {
            id: 1,
            publish: Some(publish),
            ..Default::default()
        };
        let request = commands(frame(&[command])).next().unwrap().unwrap().request;
        assert_eq!(
            request,
            Request::Publish {
                channel: "a".into(),
                data: Bytes::from_static(b"\xff\n"),
                format: Format::Binary
            }
        );
    }

    #[test]
    fn an_empty_or_truncated_frame_is_malformed() {
        assert!(commands(Bytes::new()).next().unwrap().is_err());
        let whole = frame(&[wire::Command {
            id: 300,
            ..Default::default()
        }]);
        let mut read = commands(whole.slice(..whole.len() - 1));
        assert!(read.next().unwrap().is_err());
        assert!(read.next().is_none(), "nothing is read after an error");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = commands(frame.into()).count();
        }
    }
}
