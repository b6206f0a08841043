//! What a client asks for, whatever format it asks in.

use bytes::Bytes;
use tidings_core::{Format, Position};

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Chosen by the client and echoed in the reply; not checked for being unique. 0 in a pong and in `send`.
    pub id: u32,
    /// What is asked.
    pub request: Request,
}

/// What is asked. Channel names are as the client wrote them: the session checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Who the client is. The first command of every connection.
    Connect(Connect),
    /// Hear a channel.
    Subscribe(Subscribe),
    /// Hear it no more.
    Unsubscribe {
        /// The channel.
        channel: String,
    },
    /// Say something in a channel.
    Publish {
        /// The channel.
        channel: String,
        /// What to say.
        data: Bytes,
        /// What `data` is.
        format: Format,
    },
    /// Who is in a channel.
    Presence {
        /// The channel.
        channel: String,
    },
    /// How many are in a channel.
    PresenceStats {
        /// The channel.
        channel: String,
    },
    /// What a channel has kept.
    History(History),
    /// A newer token for a connection that would expire.
    Refresh {
        /// The token.
        token: String,
    },
    /// A message for the server that expects no reply.
    Send,
    /// The answer to a ping.
    Pong,
    /// A command of the protocol that this server does not offer.
    NotOffered,
    /// No command at all.
    Unknown,
}

/// `connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connect {
    /// A JWT; empty: none.
    pub token: String,
    /// What the client calls itself, for people.
    pub name: String,
}

/// `subscribe`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// The channel.
    pub channel: String,
}

/// `history`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The channel.
    pub channel: String,
    /// The most publications; 0: only the position is asked for; negative: as many as the server gives.
    pub limit: i32,
    /// Next to this position, which itself is left out.
    pub since: Option<Position>,
    /// Newest first.
    pub reverse: bool,
}

impl Command {
    /// About how many bytes it holds while it waits for its turn.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + match &self.request {
                Request::Connect(connect) => connect.token.len() + connect.name.len(),
                Request::Subscribe(subscribe) => subscribe.channel.len(),
                Request::Publish { channel, data, .. } => channel.len() + data.len(),
                Request::Unsubscribe { channel }
                | Request::Presence { channel }
                | Request::PresenceStats { channel } => channel.len(),
                Request::History(history) => {
                    history.channel.len() + history.since.as_ref().map_or(0, |since| since.epoch.len())
                }
                Request::Refresh { token } => token.len(),
                Request::Send | Request::Pong | Request::NotOffered | Request::Unknown => 0,
            }
    }
}
