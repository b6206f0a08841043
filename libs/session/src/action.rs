//! What a session asks of its owner, and what the owner answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidings_core::{Channel, ClientInfo, Filter, Overrides, Payload, Position, Publication};
use tidings_protocol::{CloseReason, Error, Reply, command::Connect};

/// Something to do. Actions are carried out in the order they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the client.
    Reply(Reply),
    /// Find out who the client is: from its token, or without one from the user's backend or from nothing at all. Answer
    /// with [`Answer::Authenticated`].
    Authenticate {
        /// The command's id.
        id: u32,
        /// What the client shows.
        connect: Box<Connect>,
    },
    /// Find out whether a newer token is the same user's; answer with [`Answer::Authenticated`].
    Refresh {
        /// The command's id.
        id: u32,
        /// Never empty.
        token: String,
    },
    /// Ask the user's backend whether the connection, which has expired, goes on; answer with [`Answer::Renewed`].
    Renew {
        /// Whose it is.
        info: ClientInfo,
    },
    /// Find out whether the client may subscribe; answer with [`Answer::Authorized`].
    Authorize {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
        /// Who asks.
        info: ClientInfo,
        /// What decides.
        by: Evidence,
    },
    /// Find out whether a subscription goes on: the client shows a newer token (answer with [`Answer::Authorized`] too), or
    /// it has expired and the user's backend decides (command id 0).
    Reauthorize {
        /// The command's id; 0: nobody asked.
        id: u32,
        /// The channel.
        channel: Channel,
        /// Whose subscription it is.
        info: ClientInfo,
        /// What decides.
        by: Evidence,
    },
    /// Take up interest in the channel; answer with [`Answer::Subscribed`] when the bus has confirmed it and `read` is
    /// done. Sooner or later exactly one [`Action::Leave`] undoes it, whatever the answer, and also when none comes.
    Subscribe {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
        /// What the client has to know of the stream.
        read: Read,
    },
    /// The client hears the channel from here on: everything after the [`Place`] that the owner answered.
    Enter {
        /// The channel.
        channel: Channel,
        /// What of it.
        hears: Hears,
        /// What the others may see of it; `None`: it is not seen.
        presence: Option<Seen>,
    },
    /// The client wants the channel no more, whether it ever entered or not.
    Leave {
        /// The channel.
        channel: Channel,
        /// It was seen in it.
        presence: bool,
    },
    /// Publish; answer with [`Answer::Published`].
    Publish {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
        /// What.
        payload: Payload,
        /// Who.
        info: ClientInfo,
        /// The user's backend is asked first.
        proxied: bool,
    },
    /// Find out who is in the channel; answer with [`Answer::Presence`].
    Presence {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
    },
    /// Find out how many are in the channel; answer with [`Answer::PresenceStats`].
    PresenceStats {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
    },
    /// Read what the channel has kept; answer with [`Answer::History`].
    History {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
        /// Which part of it.
        query: Query,
    },
    /// Have the user's backend answer; answer with [`Answer::Rpc`].
    Rpc {
        /// The command's id.
        id: u32,
        /// What is called.
        method: String,
        /// With what.
        payload: Payload,
        /// Who.
        info: ClientInfo,
    },
    /// End the connection. The last action of every session.
    Close(CloseReason),
}

/// The outcome of slow work. Every request gets exactly one, in any order; one that comes after the session
/// was closed is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Action::Authenticate`] and [`Action::Refresh`].
    Authenticated {
        /// The command's id.
        id: u32,
        /// Who it is, or why nobody.
        result: Result<Box<Identity>, Refusal>,
    },
    /// To [`Action::Renew`].
    Renewed {
        /// How it goes on, or why not.
        result: Result<Renewal, Refusal>,
    },
    /// To [`Action::Authorize`] and [`Action::Reauthorize`].
    Authorized {
        /// The command's id; 0: nobody asked.
        id: u32,
        /// The channel.
        channel: Channel,
        /// How the channel treats the client, or why it may not be there.
        result: Result<Box<Grant>, Refusal>,
    },
    /// To [`Action::Subscribe`].
    Subscribed {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
        /// What was read once the bus had confirmed.
        result: Result<Place, Error>,
    },
    /// To [`Action::Publish`].
    Published {
        /// The command's id.
        id: u32,
        /// Whether the broker has it.
        result: Result<(), Refusal>,
    },
    /// To [`Action::Presence`].
    Presence {
        /// The command's id.
        id: u32,
        /// The members.
        result: Result<Vec<ClientInfo>, Error>,
    },
    /// To [`Action::PresenceStats`].
    PresenceStats {
        /// The command's id.
        id: u32,
        /// Clients, and different users among them.
        result: Result<(u32, u32), Error>,
    },
    /// To [`Action::History`].
    History {
        /// The command's id.
        id: u32,
        /// The publications, in the order asked for, and where the stream is now.
        result: Result<(Vec<Publication>, Position), Error>,
    },
    /// To [`Action::Rpc`].
    Rpc {
        /// The command's id.
        id: u32,
        /// The backend's answer.
        result: Result<Payload, Refusal>,
    },
}

impl Answer {
    /// Whether a client's command waits for it.
    pub(crate) fn is_to_command(&self) -> bool {
        match self {
            Self::Renewed { .. } => false,
            Self::Authorized { id, .. } | Self::Subscribed { id, .. } => *id != 0,
            _ => true,
        }
    }
}

/// What decides whether a client may be in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A token for the channel, never empty.
    Token(String),
    /// The user's backend, which is shown this.
    Backend(Payload),
}

/// What of a stream a client has to know when it enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Nothing.
    Nothing,
    /// Where it is.
    Position,
    /// Where it is, and everything after this position, as far as it is kept.
    Since(Position),
    /// Where it is, and the newest publication.
    Latest,
}

/// Where a client enters a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the stream is: what comes after is heard live. `None` where there is no stream or it was not asked for.
    pub position: Option<Position>,
    /// What was asked for, oldest first, none of it after `position`. It need not be all, nor the same epoch's.
    pub publications: Vec<Publication>,
    /// The provisional epochs, separated by commas, whose positions are positions in this stream: those that were given
    /// shortly before its first publication. Empty where none are known.
    pub provisional: String,
}

impl Place {
    /// Whether `at` is a position in the stream that the client enters ([`Position::is_in`]), or names no epoch.
    #[must_use]
    pub fn is_of(&self, at: &Position) -> bool {
        let Some(top) = &self.position else {
            return false;
        };
        at.epoch.is_empty() || at.is_in(&top.epoch, &self.provisional)
    }
}

/// What a client hears of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hears {
    /// Its position is watched: it is told when it misses something.
    pub positioned: bool,
    /// Members' coming and going.
    pub joins: bool,
    /// Publications as differences from the one before.
    pub delta: Option<Base>,
    /// Only these publications; `None`: all. Those who read differences get all, or the chain would break.
    pub filter: Option<Box<Filter>>,
}

/// What a client that reads differences has to apply them to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Nothing yet: the next publication comes whole.
    None,
    /// The last publication of the channel.
    Last,
}

/// How a client is seen in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As whom.
    pub info: ClientInfo,
    /// Others hear of it coming and going.
    pub announced: bool,
}

/// Which part of a stream to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The most publications; 0: only the position is asked for.
    pub limit: u32,
    /// Next to this position, which itself is left out; a position of another epoch cannot be answered.
    pub since: Option<Position>,
    /// Newest first.
    pub reverse: bool,
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The person; empty: anonymous.
    pub user: Arc<str>,
    /// JSON that others may see; empty: none.
    pub info: Bytes,
    /// For how long, and who sees to it that it goes on.
    pub expiry: Option<Expiry>,
    /// What the client gets as it connects.
    pub data: Payload,
    /// Channels that the client hears without asking for them.
    pub channels: Vec<(Channel, Grant)>,
}

/// How a channel treats one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// For how long, and who sees to it that it goes on.
    pub expiry: Option<Expiry>,
    /// JSON that others in the channel may see; empty: none.
    pub info: Bytes,
    /// What the client gets as it subscribes.
    pub data: Payload,
    /// Where the channel's own options do not count.
    pub overrides: Overrides,
}

/// When something runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// From now.
    pub after: Duration,
    /// Who sees to it that it goes on.
    pub renewed_by: RenewedBy,
}

/// Who sees to it that something goes on when it runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewedBy {
    /// The client, with a newer token.
    Client,
    /// The server, which asks the user's backend.
    Backend,
}

/// What the user's backend says of a connection that has expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewal {
    /// How much longer; `None`: for ever.
    pub expires_in: Option<Duration>,
    /// JSON that others may see from now on; `None`: as before.
    pub info: Option<Bytes>,
}

impl Identity {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            user: "".into(),
            info: Bytes::new(),
            expiry: None,
            data: Payload::default(),
            channels: Vec::new(),
        }
    }
}

/// Why something is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The token was good once.
    Expired,
    /// The token never was.
    Invalid,
    /// The token is good, but for another user, client or channel.
    Mismatch,
    /// It could not be checked just now.
    Unavailable,
    /// The user's backend, or a limit, says no: the command fails.
    Error(Error),
    /// The user's backend, or a limit, says no: the connection ends.
    Close(CloseReason),
}
