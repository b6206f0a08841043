//! Length-delimited messages to commands.

use bytes::Bytes;
use prost::Message as _;
use tidings_core::{Position, filter};

use super::wire;
use crate::{Command, Request, centrifuge::field, command, data};

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
    let (mut number, mut over, whole) = (0, false, frame.len());
    std::iter::from_fn(move || {
        if over || (number > 0 && frame.is_empty()) {
            return None;
        }
        number += 1;
        let command = match wire::Command::decode_length_delimited(&mut frame) {
            Ok(message) => Ok(Command {
                id: message.id,
                request: request(message, whole),
            }),
            Err(source) => Err(Malformed { number, source }),
        };
        over = command.is_err();
        Some(command)
    })
}

/// Of a frame of `whole` bytes.
fn request(message: wire::Command, whole: usize) -> Request {
    if message.id == 0 {
        return message.send.map_or(Request::Pong, |_| Request::Send);
    }
    if let Some(it) = message.connect {
        Request::Connect(Box::new(connect(it)))
    } else if let Some(it) = message.subscribe {
        match it.r#type {
            0 => Request::Subscribe(Box::new(subscribe(it))),
            _ => Request::NotOffered,
        }
    } else if let Some(it) = message.unsubscribe {
        Request::Unsubscribe { channel: it.channel }
    } else if let Some(it) = message.publish {
        match it.r#type {
            0 => Request::Publish {
                channel: it.channel,
                payload: data::check_part(it.data, whole),
            },
            _ => Request::NotOffered,
        }
    } else if let Some(it) = message.presence {
        Request::Presence { channel: it.channel }
    } else if let Some(it) = message.presence_stats {
        Request::PresenceStats { channel: it.channel }
    } else if let Some(it) = message.history {
        Request::History(history(it))
    } else if let Some(it) = message.rpc {
        Request::Rpc {
            method: it.method,
            payload: data::check_optional(it.data),
        }
    } else if message.send.is_some() {
        Request::Send
    } else if let Some(it) = message.refresh {
        Request::Refresh { token: it.token }
    } else if let Some(it) = message.sub_refresh {
        match it.r#type {
            0 => Request::SubRefresh {
                channel: it.channel,
                token: it.token,
            },
            _ => Request::NotOffered,
        }
    } else {
        Request::Unknown
    }
}

fn connect(it: wire::ConnectRequest) -> command::Connect {
    let subs = it.subs.into_iter().map(|(channel, sub)| command::Subscribe {
        channel,
        ..subscribe(sub)
    });
    command::Connect {
        token: it.token,
        data: data::check_optional(it.data),
        name: it.name,
        version: it.version,
        subs: subs.collect(),
        headers: it.headers.into_iter().collect(),
    }
}

fn subscribe(it: wire::SubscribeRequest) -> command::Subscribe {
    let position = Position {
        offset: it.offset,
        epoch: it.epoch,
    };
    command::Subscribe {
        channel: it.channel,
        token: it.token,
        data: data::check_optional(it.data),
        recover: it.recover.then_some(position),
        positioned: it.positioned,
        recoverable: it.recoverable,
        join_leave: it.join_leave,
        delta: it.delta,
        filter: it.tf.map(node),
        reject_unrecovered: field::rejects_unrecovered(it.flag),
    }
}

// Recursion is bounded by prost, which refuses more than 100 messages in each other.
fn node(it: wire::FilterNode) -> filter::Node {
    filter::Node {
        op: it.op,
        key: it.key,
        cmp: it.cmp,
        val: it.val,
        vals: it.vals,
        nodes: it.nodes.into_iter().map(node).collect(),
    }
}

fn history(it: wire::HistoryRequest) -> command::History {
    command::History {
        channel: it.channel,
        limit: it.limit,
        since: it.since.map(|since| Position {
            offset: since.offset,
            epoch: since.epoch,
        }),
        reverse: it.reverse,
    }
}

#[cfg(test)]
mod tests;
