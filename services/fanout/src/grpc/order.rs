//! What a backend wants done with connections: everything that can be wrong with it is found here, and it is put into
//! the words that gateways hear on the bus.

use std::time::SystemTime;

use bytes::Bytes;
use prost_types::Timestamp;
use serde::de::IgnoredAny;
use tidings_core::{Channel, ClientId, event};
use tidings_proto::{
    bus::{self, order::What},
    fanout as proto,
};
use tonic_types::FieldViolation;

use super::wrong::{MAX_NAME, Wrong};

/// The most that fits into a WebSocket close frame beside the code (RFC 6455 section 5.5).
const MAX_REASON: usize = 123;
/// Clients that a disconnect spares.
const MAX_EXCEPT: usize = 1000;
/// What clients are told of an unsubscribe that gives no reason.
const SERVER_UNSUBSCRIBE: &str = "server unsubscribe";

/// A request that nothing is wrong with.
#[derive(Debug)]
pub(crate) struct Order {
    /// The channel that it is about, if any.
    pub(crate) channel: Option<Channel>,
    pub(crate) clients: bus::Clients,
    pub(crate) what: What,
}

/// What is wrong, by field.
pub(crate) type Checked = Result<Order, Vec<FieldViolation>>;

pub(crate) fn disconnect(request: proto::DisconnectRequest, _: SystemTime) -> Checked {
    let mut wrong = Wrong::default();
    let (code, reason) = wrong.code(
        request.code,
        request.reason,
        3000..=4999,
        (3503, "force disconnect"),
    );
    if request.except.len() > MAX_EXCEPT {
        let count = request.except.len();
        wrong.add("except", format!("are {count}, at most {MAX_EXCEPT} are allowed"));
    } else {
        for (index, client) in request.except.iter().enumerate() {
            wrong.client(&format!("except[{index}]"), client);
        }
    }
    let what = What::Disconnect(bus::Disconnect {
        code,
        reason,
        except: request.except,
    });
    wrong.order(request.clients, None, what)
}

pub(crate) fn subscribe(request: proto::SubscribeRequest, now: SystemTime) -> Checked {
    let mut wrong = Wrong::default();
    let channel = wrong.channel(&request.channel);
    let expiry = wrong.expiry(request.expire_at, now);
    if expiry.is_some_and(|expiry| expiry.after_ms == 0) {
        wrong.add("expire_at", "is past");
    }
    let info = wrong.json("info", request.info);
    let (data, binary) = wrong.data(request.data, request.data_content_type);
    let what = What::Subscribe(bus::Subscribe {
        channel: request.channel,
        expiry,
        info,
        data,
        binary,
        overrides: request.r#override.map(overrides),
    });
    wrong.order(request.clients, channel, what)
}

pub(crate) fn unsubscribe(request: proto::UnsubscribeRequest, _: SystemTime) -> Checked {
    let mut wrong = Wrong::default();
    let channel = wrong.channel(&request.channel);
    let (code, reason) = wrong.code(
        request.code,
        request.reason,
        2000..=2999,
        (2000, SERVER_UNSUBSCRIBE),
    );
    // The Python SDK does not bear a push without a reason, and Protobuf leaves empty ones out.
    let reason = if reason.is_empty() {
        SERVER_UNSUBSCRIBE.to_owned()
    } else {
        reason
    };
    let what = What::Unsubscribe(bus::Unsubscribe {
        channel: request.channel,
        code,
        reason,
    });
    wrong.order(request.clients, channel, what)
}

pub(crate) fn refresh(request: proto::RefreshRequest, now: SystemTime) -> Checked {
    let mut wrong = Wrong::default();
    let expiry = if request.expired {
        Some(bus::Expiry { after_ms: 0 })
    } else {
        wrong.expiry(request.expire_at, now)
    };
    let info = request.info.map(|info| wrong.json("info", info));
    let what = What::Refresh(bus::Refresh { expiry, info });
    wrong.order(request.clients, None, what)
}

pub(crate) fn send(request: proto::SendRequest, _: SystemTime) -> Checked {
    let mut wrong = Wrong::default();
    if request.data.is_empty() {
        wrong.add("data", "is required");
    }
    let (data, binary) = wrong.data(request.data, request.data_content_type);
    wrong.order(request.clients, None, What::Send(bus::Send { data, binary }))
}

impl Wrong {
    fn order(mut self, clients: Option<proto::Clients>, channel: Option<Channel>, what: What) -> Checked {
        let clients = self.clients(clients.unwrap_or_default());
        self.nothing()?;
        Ok(Order {
            channel,
            clients,
            what,
        })
    }

    fn clients(&mut self, clients: proto::Clients) -> bus::Clients {
        let proto::Clients {
            user,
            client,
            session,
        } = clients;
        if user.is_empty() && client.is_empty() && session.is_empty() {
            self.add("clients", "is required: set its user, client or session");
        }
        if !client.is_empty() {
            self.client("clients.client", &client);
        }
        self.text("clients.session", &session, MAX_NAME);
        bus::Clients {
            user,
            client,
            session,
        }
    }

    fn client(&mut self, field: &str, client: &str) {
        if ClientId::parse(client).is_none() {
            self.add(field, "is no client's id, which is a UUID");
        }
    }

    fn channel(&mut self, name: &str) -> Option<Channel> {
        Channel::parse(name)
            .inspect_err(|why| self.add("channel", why.to_string()))
            .ok()
    }

    /// A code with its reason. Where neither is given, the protocol's own.
    fn code(
        &mut self,
        code: u32,
        reason: String,
        range: std::ops::RangeInclusive<u32>,
        (default, text): (u32, &str),
    ) -> (u32, String) {
        let (first, last) = (range.start(), range.end());
        if code != 0 && !range.contains(&code) {
            self.add("code", format!("is outside {first} to {last}"));
        }
        self.text("reason", &reason, MAX_REASON);
        if serde_json::from_str::<IgnoredAny>(&reason).is_ok() {
            self.add("reason", "is JSON, which clients would take for instructions");
        }
        match (code, reason.is_empty()) {
            (0, true) => (default, text.to_owned()),
            (0, false) => (default, reason),
            _ => (code, reason),
        }
    }

    /// How long from now; `None`: for ever.
    fn expiry(&mut self, at: Option<Timestamp>, now: SystemTime) -> Option<bus::Expiry> {
        let at = self.time("expire_at", at?)?;
        let after = at.duration_since(now).unwrap_or_default();
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Some(bus::Expiry { after_ms })
    }

    /// Data and whether it is something else than JSON.
    fn data(&mut self, data: Bytes, content_type: String) -> (Bytes, bool) {
        let content_type = self.content_type("data_content_type", content_type);
        if event::is_json(&content_type) {
            (self.json("data", data), false)
        } else {
            (data, true)
        }
    }
}

fn overrides(given: proto::Overrides) -> bus::Overrides {
    let proto::Overrides {
        presence,
        join_leave,
        force_push_join_leave,
        force_recovery,
        force_positioning,
    } = given;
    bus::Overrides {
        presence,
        join_leave,
        force_push_join_leave,
        force_recovery,
        force_positioning,
    }
}

#[cfg(test)]
mod tests;
