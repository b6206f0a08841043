//! What a client asks for, whatever format it asks in.

use tidings_core::{Payload, Position, filter};

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
    Connect(Box<Connect>),
    /// Hear a channel.
    Subscribe(Box<Subscribe>),
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
        payload: Payload,
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
    /// Something that the user's backend answers.
    Rpc {
        /// What is called; may be empty.
        method: String,
        /// With what.
        payload: Payload,
    },
    /// A newer token for a connection that would expire.
    Refresh {
        /// The token.
        token: String,
    },
    /// A newer token for a subscription that would expire.
    SubRefresh {
        /// The channel.
        channel: String,
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
    /// For the user's backend.
    pub data: Payload,
    /// What the client calls itself, for people.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// Channels that it heard before without asking for them, and where it was in them.
    pub subs: Vec<Subscribe>,
    /// What a browser cannot set as headers, for the user's backend.
    pub headers: Vec<(String, String)>,
}

/// `subscribe`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// The channel.
    pub channel: String,
    /// A JWT for this channel; empty: none.
    pub token: String,
    /// For the user's backend.
    pub data: Payload,
    /// It was there before, at this position; an empty epoch: of whatever stream.
    pub recover: Option<Position>,
    /// It wants to be told where it is and when it misses something.
    pub positioned: bool,
    /// It wants to be able to recover.
    pub recoverable: bool,
    /// It wants to hear of members coming and going.
    pub join_leave: bool,
    /// How it can read differences; empty: not at all.
    pub delta: String,
    /// Which publications it wants; `None`: all.
    pub filter: Option<filter::Node>,
    /// If what it missed cannot be had, the subscribe shall fail.
    pub reject_unrecovered: bool,
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
                Request::Connect(connect) => connect.size(),
                Request::Subscribe(subscribe) => subscribe.size(),
                Request::Publish { channel, payload } => channel.len() + payload.data.len(),
                Request::Rpc { method, payload } => method.len() + payload.data.len(),
                Request::Unsubscribe { channel }
                | Request::Presence { channel }
                | Request::PresenceStats { channel } => channel.len(),
                Request::History(history) => history.channel.len() + epoch(history.since.as_ref()),
                Request::Refresh { token } => token.len(),
                Request::SubRefresh { channel, token } => channel.len() + token.len(),
                Request::Send | Request::Pong | Request::NotOffered | Request::Unknown => 0,
            }
    }
}

impl Connect {
    fn size(&self) -> usize {
        let subs: usize = self.subs.iter().map(Subscribe::size).sum();
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| size_of::<(String, String)>() + name.len() + value.len())
            .sum();
        let texts = self.token.len() + self.data.data.len() + self.name.len() + self.version.len();
        size_of::<Self>() + texts + subs + headers
    }
}

impl Subscribe {
    fn size(&self) -> usize {
        let texts = self.channel.len() + self.token.len() + self.data.data.len() + self.delta.len();
        size_of::<Self>() + texts + epoch(self.recover.as_ref()) + self.filter.as_ref().map_or(0, node)
    }
}

fn epoch(position: Option<&Position>) -> usize {
    position.map_or(0, |position| position.epoch.len())
}

fn node(it: &filter::Node) -> usize {
    let vals: usize = it.vals.iter().map(|val| size_of::<String>() + val.len()).sum();
    let texts = it.op.len() + it.key.len() + it.cmp.len() + it.val.len();
    size_of::<filter::Node>() + texts + vals + it.nodes.iter().map(node).sum::<usize>()
}
