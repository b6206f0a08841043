//! What a backend wants done with connections, in the words of this program.

use std::{sync::Arc, time::Duration};

use tidings_core::{Channel, ClientId, Format, Overrides, Payload, channel};
use tidings_proto::bus::{self, order::What as Wire};
use tidings_protocol::{CloseReason, reply::UnsubscribeReason};
use tidings_session::{Expiry, Grant, Renewal, RenewedBy, Session};

use crate::emulation::SessionId;

/// An order: what, and to whom. It may have a secret in it and does not show itself.
pub(crate) struct Order {
    user: Option<Arc<str>>,
    client: Option<ClientId>,
    session: Option<SessionId>,
    except: Vec<ClientId>,
    pub(crate) what: What,
}

/// What is done to each connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It ends.
    Disconnect(CloseReason),
    /// It hears a channel from now on.
    Subscribe { channel: Channel, grant: Box<Grant> },
    /// It hears it no more.
    Unsubscribe {
        channel: Channel,
        reason: UnsubscribeReason,
    },
    /// It is good for longer, or for shorter.
    Refresh(Renewal),
    /// It is told something.
    Send(Payload),
}

/// Why a message is no order, nor anything else that a gateway is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it is no tidings.bus.v1.Control: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("it says nothing that this version knows")]
    Empty,
    #[error("it answers what was not asked")]
    Unasked,
    #[error("its order is for nobody")]
    Nobody,
    #[error("its session is none")]
    Session,
    #[error("its client id {0:?} is no UUID")]
    Client(String),
    #[error("its {0}")]
    Channel(#[from] channel::Error),
    #[error("its code {0} is none")]
    Code(u32),
}

impl Order {
    /// Whether it is about this connection. Nobody could have named one that is not known yet.
    pub(crate) fn is_for(&self, session: &Session, id: Option<SessionId>) -> bool {
        let Some(user) = session.user() else {
            return false;
        };
        self.user.as_ref().is_none_or(|wanted| wanted == user)
            && self.client.is_none_or(|wanted| wanted == session.client())
            && (self.session.is_none() || self.session == id)
            && !self.except.contains(&session.client())
    }

    pub(super) fn from_wire(order: bus::Order) -> Result<Self, Error> {
        let bus::Clients {
            user,
            client,
            session,
        } = order.clients.unwrap_or_default();
        if user.is_empty() && client.is_empty() && session.is_empty() {
            return Err(Error::Nobody);
        }
        let session = given(session).map(|session| session.parse().map_err(|_| Error::Session));
        let session = session.transpose()?;
        let what = order.what.ok_or(Error::Empty)?;
        let except = match &what {
            Wire::Disconnect(disconnect) => disconnect.except.iter().map(|id| client_id(id)).collect(),
            _ => Ok(Vec::new()),
        };
        Ok(Self {
            user: given(user).map(Into::into),
            client: given(client).as_deref().map(client_id).transpose()?,
            session,
            except: except?,
            what: what_from_wire(what)?,
        })
    }
}

fn what_from_wire(what: Wire) -> Result<What, Error> {
    Ok(match what {
        Wire::Disconnect(bus::Disconnect { code, reason, .. }) => {
            What::Disconnect(CloseReason::Application {
                code: code_within(code, 3000, 4999)?,
                text: reason.into(),
            })
        }
        Wire::Subscribe(subscribe) => What::Subscribe {
            channel: Channel::parse(&subscribe.channel)?,
            grant: Box::new(Grant {
                expiry: subscribe.expiry.map(|expiry| Expiry {
                    after: Duration::from_millis(expiry.after_ms),
                    renewed_by: RenewedBy::Backend,
                }),
                info: subscribe.info,
                data: payload(subscribe.data, subscribe.binary),
                overrides: subscribe.overrides.map(overrides).unwrap_or_default(),
            }),
        },
        Wire::Unsubscribe(bus::Unsubscribe {
            channel,
            code,
            reason,
        }) => What::Unsubscribe {
            channel: Channel::parse(&channel)?,
            reason: UnsubscribeReason {
                code: code_within(code, 2000, 2999)?,
                text: reason.into(),
            },
        },
        Wire::Refresh(bus::Refresh { expiry, info }) => What::Refresh(Renewal {
            expires_in: expiry.map(|expiry| Duration::from_millis(expiry.after_ms)),
            info,
        }),
        Wire::Send(bus::Send { data, binary }) => What::Send(payload(data, binary)),
    })
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn client_id(text: &str) -> Result<ClientId, Error> {
    ClientId::parse(text).ok_or_else(|| Error::Client(text.to_owned()))
}

fn code_within(code: u32, first: u16, last: u16) -> Result<u16, Error> {
    u16::try_from(code)
        .ok()
        .filter(|code| (first..=last).contains(code))
        .ok_or(Error::Code(code))
}

fn payload(data: bytes::Bytes, binary: bool) -> Payload {
    let format = if binary { Format::Binary } else { Format::Json };
    Payload { data, format }
}

fn overrides(given: bus::Overrides) -> Overrides {
    let bus::Overrides {
        presence,
        join_leave,
        force_push_join_leave,
        force_recovery,
        force_positioning,
    } = given;
    Overrides {
        presence,
        join_leave,
        force_push_join_leave,
        force_recovery,
        force_positioning,
    }
}
