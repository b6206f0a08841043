//! `presence`, `presence_stats`, `history` and `history_remove`: who is in a channel, and what it has kept.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tidings_broker::Query;
use tidings_core::{Channel, ClientInfo, Format, Namespace, Publication};
use tidings_proto::presence::{ListRequest, Member, StatsRequest};

use super::{
    Answer, Call, Error,
    answer::{done, result},
    channel,
};
use crate::grpc::presence::{answer, onward};

/// The most members of one answer.
const MAX_MEMBERS: usize = 10_000;
/// The most publications of one answer.
const MAX_PUBLICATIONS: u32 = 1000;

/// What the two about presence ask for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Of {
    channel: Option<String>,
}

/// What the history is asked for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    channel: Option<String>,
    limit: Option<i32>,
    since: Option<Since>,
    reverse: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Since {
    offset: Option<u64>,
    epoch: Option<String>,
}

#[derive(Serialize)]
struct Seen {
    user: String,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Kept {
    /// `null` when it is not JSON.
    data: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Seen>,
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Stream {
    publications: Vec<Kept>,
    epoch: String,
    offset: u64,
}

impl Call<'_> {
    pub(super) async fn presence(&self, of: Of) -> Answer {
        let channel = channel(of.channel.as_deref())?;
        let mut client = self.presence_of(&channel)?;
        let mut members = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let request = ListRequest {
                channel: channel.to_string(),
                page_size: 0,
                page_token,
            };
            let request = onward(request, self.span, self.trace.clone());
            let page = answer(client.list(request)).await?.into_inner();
            for member in page.members {
                members.insert(member.client.clone(), Seen::from(member));
            }
            if members.len() > MAX_MEMBERS {
                let why = format!(
                    "channel {channel} has more than {MAX_MEMBERS} members; ask for presence_stats, or for pages over gRPC"
                );
                return Err(Error::limit(why));
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        self.fits(result(&Presence { presence: members })?)
    }

    pub(super) async fn presence_stats(&self, of: Of) -> Answer {
        let channel = channel(of.channel.as_deref())?;
        let mut client = self.presence_of(&channel)?;
        let request = StatsRequest {
            channel: channel.to_string(),
        };
        let request = onward(request, self.span, self.trace.clone());
        let stats = answer(client.stats(request)).await?.into_inner();
        result(&serde_json::json!({ "num_clients": stats.clients, "num_users": stats.users }))
    }

    pub(super) async fn history(&self, asked: History) -> Answer {
        let channel = channel(asked.channel.as_deref())?;
        let retention = self.kept(&channel)?;
        let Since { offset, epoch } = asked.since.unwrap_or_default();
        let query = Query {
            since: offset.or(epoch.is_some().then_some(0)),
            limit: match asked.limit.unwrap_or_default() {
                limit @ 0.. => u32::try_from(limit)
                    .unwrap_or(MAX_PUBLICATIONS)
                    .min(MAX_PUBLICATIONS),
                _ => MAX_PUBLICATIONS,
            },
            reverse: asked.reverse.unwrap_or_default(),
            bytes: None,
        };
        let read = self.backends.streams.read(&channel, retention, query, None).await;
        let read = read.map_err(Error::internal)?;
        let epoch = epoch.filter(|epoch| !epoch.is_empty());
        if let Some(epoch) = epoch.filter(|epoch| *epoch != read.top.epoch) {
            let why = format!("the stream of channel {channel} is another one than that of epoch {epoch:?}");
            return Err(Error::unrecoverable(why));
        }
        self.fits(result(&Stream {
            publications: read.publications.into_iter().map(Kept::from).collect(),
            epoch: read.top.epoch,
            offset: read.top.offset,
        })?)
    }

    pub(super) async fn history_remove(&self, of: Of) -> Answer {
        let channel = channel(of.channel.as_deref())?;
        self.kept(&channel)?;
        self.backends
            .streams
            .remove(&channel)
            .await
            .map_err(Error::internal)?;
        done()
    }

    /// Whom to ask about a channel's members, when there is presence and the key may know.
    fn presence_of(&self, channel: &Channel) -> Result<crate::grpc::presence::Client, Error> {
        let client = self.backends.presence.asked_by(self.key(), channel.as_str())?;
        if self.namespace(channel)?.presence {
            return Ok(client);
        }
        Err(Error::not_available(format!(
            "the namespace of channel {channel} has no presence"
        )))
    }

    /// What a channel keeps, when it does and the key may know.
    fn kept(&self, channel: &Channel) -> Result<tidings_core::Retention, Error> {
        if let Some(key) = self.key().filter(|key| !key.may_look_into(channel)) {
            let why = format!(
                "the API key {:?} may not look into channel {channel}; its scope is backends.key.channels",
                key.name()
            );
            return Err(Error::denied(why));
        }
        let retention = self.namespace(channel)?.retention();
        retention
            .ok_or_else(|| Error::not_available(format!("the namespace of channel {channel} has no history")))
    }

    fn namespace(&self, channel: &Channel) -> Result<&Namespace, Error> {
        let namespace = self.backends.namespaces.of(channel);
        namespace.ok_or_else(|| {
            Error::unknown_channel(format!(
                "no namespace {:?} is configured",
                channel.namespace().unwrap_or_default()
            ))
        })
    }
}

#[derive(Serialize)]
struct Presence {
    presence: BTreeMap<String, Seen>,
}

impl From<Member> for Seen {
    fn from(member: Member) -> Self {
        Self {
            user: member.user,
            client: member.client,
            conn_info: raw(&member.conn_info),
            chan_info: raw(&member.chan_info),
        }
    }
}

impl From<ClientInfo> for Seen {
    fn from(info: ClientInfo) -> Self {
        Self {
            user: info.user.to_string(),
            client: info.client.to_string(),
            conn_info: raw(&info.conn_info),
            chan_info: raw(&info.chan_info),
        }
    }
}

impl From<Publication> for Kept {
    fn from(publication: Publication) -> Self {
        let json = match publication.format {
            Format::Json => raw(&publication.data),
            Format::Binary => None,
        };
        Self {
            b64data: json.is_none().then(|| BASE64_STANDARD.encode(&publication.data)),
            data: json.unwrap_or_else(|| to_raw_value(&Value::Null).expect("null is JSON")),
            info: publication.info.map(Seen::from),
            offset: publication.position.map_or(0, |position| position.offset),
            tags: publication.tags,
        }
    }
}

/// JSON as it is embedded; nothing is none.
fn raw(json: &Bytes) -> Option<Box<RawValue>> {
    serde_json::from_slice(json).ok()
}
