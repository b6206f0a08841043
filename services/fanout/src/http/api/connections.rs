//! `subscribe`, `unsubscribe`, `disconnect` and `refresh`: the orders of gRPC, in the API's words.

use std::time::SystemTime;

use bytes::Bytes;
use prost_types::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tidings_core::Format;
use tidings_proto::fanout as proto;

use super::{Answer, Call, Error, answer::done, publish::optional};
use crate::grpc::{control, order};

const BYTES: &str = "application/octet-stream";

/// All that the four ask for; each takes what is its own.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Request {
    user: Option<String>,
    client: Option<String>,
    session: Option<String>,
    channel: Option<String>,
    /// Fields that make the connections others, and are not offered: to leave them out would be worse than to say so.
    label_filter: Option<IgnoredAny>,
    all_users: Option<bool>,
    recover_since: Option<IgnoredAny>,

    disconnect: Option<Disconnect>,
    whitelist: Option<Vec<String>>,

    expired: Option<bool>,
    expire_at: Option<i64>,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    r#override: Option<Overrides>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Disconnect {
    code: Option<u32>,
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Overrides {
    presence: Option<Bool>,
    join_leave: Option<Bool>,
    force_push_join_leave: Option<Bool>,
    force_recovery: Option<Bool>,
    force_positioning: Option<Bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Bool {
    value: Option<bool>,
}

impl Call<'_> {
    pub(super) async fn subscribe(&self, mut request: Request) -> Answer {
        if request.recover_since.is_some() {
            let why =
                "recover_since: a subscription that the client did not ask for begins where the channel is";
            return Err(Error::not_available(why));
        }
        let clients = request.clients()?;
        let (data, format) = optional(request.data.take(), request.b64data.take(), "b64data")?;
        let subscribe = proto::SubscribeRequest {
            clients,
            expire_at: request.expire_at(),
            info: request.info()?,
            data,
            data_content_type: match format {
                Format::Json => String::new(),
                Format::Binary => BYTES.to_owned(),
            },
            r#override: request.r#override.map(Overrides::into_proto),
            channel: request.channel.unwrap_or_default(),
        };
        self.order(control::SUBSCRIBE, order::subscribe(subscribe, SystemTime::now()))
            .await
    }

    pub(super) async fn unsubscribe(&self, mut request: Request) -> Answer {
        let unsubscribe = proto::UnsubscribeRequest {
            clients: request.clients()?,
            channel: request.channel.unwrap_or_default(),
            ..proto::UnsubscribeRequest::default()
        };
        self.order(
            control::UNSUBSCRIBE,
            order::unsubscribe(unsubscribe, SystemTime::now()),
        )
        .await
    }

    pub(super) async fn disconnect(&self, mut request: Request) -> Answer {
        let clients = request.clients()?;
        let Disconnect { code, reason } = request.disconnect.unwrap_or_default();
        let disconnect = proto::DisconnectRequest {
            clients,
            code: code.unwrap_or_default(),
            reason: reason.unwrap_or_default(),
            except: request.whitelist.unwrap_or_default(),
        };
        self.order(
            control::DISCONNECT,
            order::disconnect(disconnect, SystemTime::now()),
        )
        .await
    }

    pub(super) async fn refresh(&self, mut request: Request) -> Answer {
        let refresh = proto::RefreshRequest {
            clients: request.clients()?,
            expire_at: request.expire_at(),
            expired: request.expired.unwrap_or_default(),
            info: Some(request.info()?).filter(|info| !info.is_empty()),
        };
        self.order(control::REFRESH, order::refresh(refresh, SystemTime::now()))
            .await
    }

    /// Whether connections heard of it, the API does not say.
    async fn order(&self, method: &'static str, order: order::Checked) -> Answer {
        self.backends.fanout.carry_out(method, self.key(), order).await?;
        done()
    }
}

impl Request {
    fn clients(&mut self) -> Result<Option<proto::Clients>, Error> {
        if self.label_filter.is_some() || self.all_users == Some(true) {
            let why =
                "connections are found by user, client and session here, not by label_filter or all_users";
            return Err(Error::not_available(why));
        }
        Ok(Some(proto::Clients {
            user: self.user.take().unwrap_or_default(),
            client: self.client.take().unwrap_or_default(),
            session: self.session.take().unwrap_or_default(),
        }))
    }

    /// Unix seconds; 0 is never.
    fn expire_at(&self) -> Option<Timestamp> {
        let seconds = self.expire_at.filter(|&seconds| seconds != 0)?;
        Some(Timestamp { seconds, nanos: 0 })
    }

    /// JSON, either way.
    fn info(&mut self) -> Result<Bytes, Error> {
        match optional(self.info.take(), self.b64info.take(), "b64info")? {
            (info, Format::Json) => Ok(info),
            (_, Format::Binary) => Err(Error::bad_request("b64info is not JSON")),
        }
    }
}

impl Overrides {
    fn into_proto(self) -> proto::Overrides {
        let value = |option: Option<Bool>| option.and_then(|option| option.value);
        proto::Overrides {
            presence: value(self.presence),
            join_leave: value(self.join_leave),
            force_push_join_leave: value(self.force_push_join_leave),
            force_recovery: value(self.force_recovery),
            force_positioning: value(self.force_positioning),
        }
    }
}
