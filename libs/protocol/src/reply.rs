//! What the server says, whatever format it says it in.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tidings_core::{Channel, ClientId, ClientInfo, Payload, Position, Publication};

use crate::{CloseReason, Error};

/// What is said to one client: the answer to the command with this id, or something unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The command failed.
    Error {
        /// The command's id.
        id: u32,
        /// Why.
        error: Error,
    },
    /// The client is known now.
    Connect {
        /// The command's id.
        id: u32,
        /// What it should know of its connection.
        result: Box<Connected>,
    },
    /// Publications of the channel may follow from here on.
    Subscribe {
        /// The command's id.
        id: u32,
        /// What it should know of its subscription.
        result: Box<Subscribed>,
    },
    /// None follow from here on.
    Unsubscribe {
        /// The command's id.
        id: u32,
    },
    /// The broker has it.
    Publish {
        /// The command's id.
        id: u32,
    },
    /// Who is there.
    Presence {
        /// The command's id.
        id: u32,
        /// The members.
        members: Vec<ClientInfo>,
    },
    /// How many are there.
    PresenceStats {
        /// The command's id.
        id: u32,
        /// Connections.
        clients: u32,
        /// Different users among them.
        users: u32,
    },
    /// What the channel has kept.
    History {
        /// The command's id.
        id: u32,
        /// In the order asked for, each with its position.
        publications: Vec<Publication>,
        /// Where the stream is now.
        top: Position,
    },
    /// What the user's backend answered.
    Rpc {
        /// The command's id.
        id: u32,
        /// Its answer.
        payload: Payload,
    },
    /// The newer token was taken.
    Refresh {
        /// The command's id.
        id: u32,
        /// How long the connection is good for; `None`: for ever.
        expires_in: Option<Duration>,
    },
    /// The newer token of a subscription was taken.
    SubRefresh {
        /// The command's id.
        id: u32,
        /// How long the subscription is good for; `None`: for ever.
        expires_in: Option<Duration>,
    },
    /// Are you there?
    Ping,
    /// Unasked: the client hears the channel from here on.
    Subscribed {
        /// The channel.
        channel: Channel,
        /// What it should know of its subscription; publications cannot come with it.
        result: Box<Subscribed>,
    },
    /// Unasked: the client hears the channel no more.
    Unsubscribed {
        /// The channel.
        channel: Channel,
        /// Why.
        reason: UnsubscribeReason,
    },
    /// Unasked: something for this client alone.
    Message(Payload),
    /// Unasked: the connection is good for longer, or shorter, than was said.
    Refreshed {
        /// From now; `None`: for ever.
        expires_in: Option<Duration>,
    },
    /// Unasked: the connection ends. For transports that cannot say so themselves.
    Disconnect(CloseReason),
}

/// What a client learns when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Its id.
    pub client: ClientId,
    /// The server's version.
    pub version: &'static str,
    /// How long until it must refresh its token; `None`: never.
    pub expires_in: Option<Duration>,
    /// From the user's backend.
    pub data: Payload,
    /// The channels that it hears without having asked for them.
    pub subs: Vec<(Channel, Subscribed)>,
    /// How often a ping comes, to the second.
    pub ping_interval: Duration,
    /// Whether it must answer pings.
    pub pong: bool,
    /// How it is addressed by requests apart from its connection; a secret.
    pub session: Option<Arc<str>>,
    /// The node that such requests are for.
    pub node: Option<Arc<str>>,
}

/// What a client learns when it is subscribed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// How long until it must refresh its token; `None`: never.
    pub expires_in: Option<Duration>,
    /// Where it is in the stream, if its position is watched. After a recovery: where it was, so that the publications
    /// take it to where the stream is.
    pub position: Option<Position>,
    /// Whether it can recover from there.
    pub recoverable: bool,
    /// Whether it has got all that it missed, if it asked for that.
    pub recovered: Option<bool>,
    /// What it missed, oldest first.
    pub publications: Vec<Publication>,
    /// Publications may be differences from the one before.
    pub delta: bool,
    /// From the user's backend.
    pub data: Payload,
}

/// What the server says to everyone in a channel, unasked.
#[derive(Debug, Clone, Copy)]
pub enum Push<'a> {
    /// A publication in a channel.
    Publication(&'a Channel, &'a Publication),
    /// The same for those who read differences: as one from the publication before, where that is given and shorter, else
    /// whole. The difference is Fossil's (see `delta`).
    Delta(&'a Channel, &'a Publication, Option<&'a [u8]>),
    /// Somebody came.
    Join(&'a Channel, &'a ClientInfo),
    /// Somebody left.
    Leave(&'a Channel, &'a ClientInfo),
}

/// Why the server ends a subscription. Codes from 2500 on tell the client to subscribe again by itself; those below,
/// to stay away. 2000 to 2099 and 2500 to 2599 are the protocol's, the others from 2000 to 2999 belong to applications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeReason {
    /// The number.
    pub code: u16,
    /// For people.
    pub text: Cow<'static, str>,
}

impl UnsubscribeReason {
    /// A backend asked for it.
    pub const SERVER: Self = Self::new(2000, "server unsubscribe");
    /// The client may have missed something: it subscribes again and recovers.
    pub const INSUFFICIENT_STATE: Self = Self::new(2500, "insufficient state");
    /// The subscription's token ran out and was not renewed.
    pub const EXPIRED: Self = Self::new(2501, "subscription expired");

    const fn new(code: u16, text: &'static str) -> Self {
        Self {
            code,
            text: Cow::Borrowed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_subscription_has_the_protocols_code_and_a_text() {
        for (reason, code) in [
            (UnsubscribeReason::SERVER, 2000),
            (UnsubscribeReason::INSUFFICIENT_STATE, 2500),
            (UnsubscribeReason::EXPIRED, 2501),
        ] {
            assert_eq!(reason.code, code);
            assert!(!reason.text.is_empty());
        }
    }
}
