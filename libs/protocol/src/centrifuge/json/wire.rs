//! Requests as they are written in JSON. Unknown fields are ignored, and `null` is a field that is missing, except
//! where it is data.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use tidings_core::{Payload, Position, filter};

use crate::{
    Request,
    centrifuge::field,
    command,
    data::{self, TooDeep},
};

/// A command; the first field that is set decides which.
#[derive(Deserialize)]
pub(super) struct Command<'a> {
    #[serde(default)]
    pub(super) id: u32,
    #[serde(borrow)]
    connect: Option<Connect<'a>>,
    subscribe: Option<Subscribe<'a>>,
    unsubscribe: Option<Channel>,
    publish: Option<Publish<'a>>,
    presence: Option<Channel>,
    presence_stats: Option<Channel>,
    history: Option<History>,
    rpc: Option<Rpc<'a>>,
    send: Option<IgnoredAny>,
    refresh: Option<Refresh>,
    sub_refresh: Option<SubRefresh>,
}

#[derive(Deserialize)]
pub(in crate::centrifuge) struct Connect<'a> {
    token: Option<String>,
    #[serde(borrow, default, deserialize_with = "there")]
    data: Option<&'a RawValue>,
    name: Option<String>,
    version: Option<String>,
    subs: Option<BTreeMap<String, Subscribe<'a>>>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Subscribe<'a> {
    channel: Option<String>,
    token: Option<String>,
    #[serde(borrow, default, deserialize_with = "there")]
    data: Option<&'a RawValue>,
    recover: Option<bool>,
    epoch: Option<String>,
    offset: Option<u64>,
    positioned: Option<bool>,
    recoverable: Option<bool>,
    join_leave: Option<bool>,
    delta: Option<String>,
    tf: Option<FilterNode>,
    flag: Option<i64>,
    r#type: Option<i32>,
}

#[derive(Deserialize)]
struct FilterNode {
    op: Option<String>,
    key: Option<String>,
    cmp: Option<String>,
    val: Option<String>,
    vals: Option<Vec<String>>,
    nodes: Option<Vec<Self>>,
}

#[derive(Deserialize)]
struct Channel {
    channel: Option<String>,
}

#[derive(Deserialize)]
struct Publish<'a> {
    channel: Option<String>,
    #[serde(borrow, default, deserialize_with = "there")]
    data: Option<&'a RawValue>,
    r#type: Option<i32>,
}

#[derive(Deserialize)]
struct History {
    channel: Option<String>,
    limit: Option<i32>,
    since: Option<Since>,
    reverse: Option<bool>,
}

#[derive(Deserialize)]
struct Since {
    offset: Option<u64>,
    epoch: Option<String>,
}

#[derive(Deserialize)]
struct Rpc<'a> {
    #[serde(borrow, default, deserialize_with = "there")]
    data: Option<&'a RawValue>,
    method: Option<String>,
}

#[derive(Deserialize)]
struct Refresh {
    token: Option<String>,
}

#[derive(Deserialize)]
struct SubRefresh {
    channel: Option<String>,
    token: Option<String>,
    r#type: Option<i32>,
}

/// `null` is data too: only a field that is missing is none.
fn there<'de, D: Deserializer<'de>>(field: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(field).map(Some)
}

fn payload(data: Option<&RawValue>) -> Result<Payload, TooDeep> {
    data.map_or_else(|| Ok(Payload::default()), data::embedded)
}

/// Whether it is of another kind than the first: those are not offered.
fn other(kind: Option<i32>) -> bool {
    kind.is_some_and(|kind| kind != 0)
}

impl TryFrom<Command<'_>> for Request {
    type Error = TooDeep;

    fn try_from(it: Command<'_>) -> Result<Self, TooDeep> {
        if it.id == 0 {
            return Ok(it.send.map_or(Self::Pong, |_| Self::Send));
        }
        Ok(if let Some(connect) = it.connect {
            Self::Connect(Box::new(connect.try_into()?))
        } else if let Some(subscribe) = it.subscribe {
            match other(subscribe.r#type) {
                true => Self::NotOffered,
                false => Self::Subscribe(Box::new(subscribe.try_into()?)),
            }
        } else if let Some(Channel { channel }) = it.unsubscribe {
            Self::Unsubscribe {
                channel: channel.unwrap_or_default(),
            }
        } else if let Some(publish) = it.publish {
            publish.try_into()?
        } else if let Some(Channel { channel }) = it.presence {
            Self::Presence {
                channel: channel.unwrap_or_default(),
            }
        } else if let Some(Channel { channel }) = it.presence_stats {
            Self::PresenceStats {
                channel: channel.unwrap_or_default(),
            }
        } else if let Some(history) = it.history {
            Self::History(history.into())
        } else if let Some(Rpc { data, method }) = it.rpc {
            Self::Rpc {
                method: method.unwrap_or_default(),
                payload: payload(data)?,
            }
        } else if it.send.is_some() {
            Self::Send
        } else if let Some(Refresh { token }) = it.refresh {
            Self::Refresh {
                token: token.unwrap_or_default(),
            }
        } else if let Some(refresh) = it.sub_refresh {
            refresh.into()
        } else {
            Self::Unknown
        })
    }
}

impl TryFrom<Connect<'_>> for command::Connect {
    type Error = TooDeep;

    fn try_from(it: Connect<'_>) -> Result<Self, TooDeep> {
        let subs = it.subs.unwrap_or_default().into_iter();
        let subs = subs.map(|(channel, sub)| {
            let sub = command::Subscribe::try_from(sub)?;
            Ok(command::Subscribe { channel, ..sub })
        });
        Ok(Self {
            token: it.token.unwrap_or_default(),
            data: payload(it.data)?,
            name: it.name.unwrap_or_default(),
            version: it.version.unwrap_or_default(),
            subs: subs.collect::<Result<_, TooDeep>>()?,
            headers: it.headers.unwrap_or_default().into_iter().collect(),
        })
    }
}

impl TryFrom<Subscribe<'_>> for command::Subscribe {
    type Error = TooDeep;

    fn try_from(it: Subscribe<'_>) -> Result<Self, TooDeep> {
        let recover = it.recover.unwrap_or_default();
        Ok(Self {
            channel: it.channel.unwrap_or_default(),
            token: it.token.unwrap_or_default(),
            data: payload(it.data)?,
            recover: recover.then(|| Position {
                offset: it.offset.unwrap_or_default(),
                epoch: it.epoch.unwrap_or_default(),
            }),
            positioned: it.positioned.unwrap_or_default(),
            recoverable: it.recoverable.unwrap_or_default(),
            join_leave: it.join_leave.unwrap_or_default(),
            delta: it.delta.unwrap_or_default(),
            filter: it.tf.map(filter::Node::from),
            reject_unrecovered: field::rejects_unrecovered(it.flag.unwrap_or_default()),
        })
    }
}

impl From<FilterNode> for filter::Node {
    // Recursion is bounded by the parser, which refuses more than 128 objects and arrays in each other.
    fn from(it: FilterNode) -> Self {
        Self {
            op: it.op.unwrap_or_default(),
            key: it.key.unwrap_or_default(),
            cmp: it.cmp.unwrap_or_default(),
            val: it.val.unwrap_or_default(),
            vals: it.vals.unwrap_or_default(),
            nodes: it.nodes.unwrap_or_default().into_iter().map(Self::from).collect(),
        }
    }
}

impl TryFrom<Publish<'_>> for Request {
    type Error = TooDeep;

    fn try_from(it: Publish<'_>) -> Result<Self, TooDeep> {
        if other(it.r#type) {
            return Ok(Self::NotOffered);
        }
        Ok(Self::Publish {
            channel: it.channel.unwrap_or_default(),
            payload: payload(it.data)?,
        })
    }
}

impl From<History> for command::History {
    fn from(it: History) -> Self {
        let position = |since: Since| Position {
            offset: since.offset.unwrap_or_default(),
            epoch: since.epoch.unwrap_or_default(),
        };
        Self {
            channel: it.channel.unwrap_or_default(),
            limit: it.limit.unwrap_or_default(),
            since: it.since.map(position),
            reverse: it.reverse.unwrap_or_default(),
        }
    }
}

impl From<SubRefresh> for Request {
    fn from(it: SubRefresh) -> Self {
        if other(it.r#type) {
            return Self::NotOffered;
        }
        Self::SubRefresh {
            channel: it.channel.unwrap_or_default(),
            token: it.token.unwrap_or_default(),
        }
    }
}
