//! What a session asks of its owner, and what the owner answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidings_core::{Channel, ClientInfo, Format, Position, Publication};
use tidings_protocol::{CloseReason, Error, Reply};

/// Something to do. Actions are carried out in the order they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the client.
    Reply(Reply),
    /// Find out whose token this is; answer with [`Answer::Authenticated`].
    Authenticate {
        /// The command's id.
        id: u32,
        /// Empty: the client showed none, and may.
        token: String,
    },
    /// Take up interest in the channel; answer with [`Answer::Subscribed`] when the bus has confirmed it. Sooner or
    /// later exactly one [`Action::Leave`] undoes it, whatever the answer, and also when none comes.
    Subscribe {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
    },
    /// The client hears the channel from here on.
    Enter {
        /// The channel.
        channel: Channel,
        /// What the others may see of it; `None`: the channel keeps no presence.
        presence: Option<ClientInfo>,
    },
    /// The client wants the channel no more, whether it ever entered or not.
    Leave {
        /// The channel.
        channel: Channel,
        /// It entered a channel that keeps presence.
        presence: bool,
    },
    /// Publish; answer with [`Answer::Published`].
    Publish {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
        /// What.
        data: Bytes,
        /// What `data` is.
        format: Format,
        /// Who.
        info: ClientInfo,
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
    /// End the connection. The last action of every session.
    Close(CloseReason),
}

/// The outcome of slow work. Every request gets exactly one, in any order; one that comes after the session
/// was closed is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Action::Authenticate`].
    Authenticated {
        /// The command's id.
        id: u32,
        /// Who it is, or why nobody.
        result: Result<Identity, Refusal>,
    },
    /// To [`Action::Subscribe`].
    Subscribed {
        /// The command's id.
        id: u32,
        /// The channel.
        channel: Channel,
        /// Whether the bus has confirmed.
        result: Result<(), Error>,
    },
    /// To [`Action::Publish`].
    Published {
        /// The command's id.
        id: u32,
        /// Whether the broker has it.
        result: Result<(), Error>,
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
    /// JSON from the token; empty: none.
    pub info: Bytes,
    /// How long the token is good for, from now; `None`: for ever.
    pub expires_in: Option<Duration>,
    /// Channels that the client hears without asking for them.
    pub channels: Vec<Channel>,
}

impl Identity {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            user: "".into(),
            info: Bytes::new(),
            expires_in: None,
            channels: Vec::new(),
        }
    }
}

/// Why a token makes nobody known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It was good once.
    Expired,
    /// It never was.
    Invalid,
    /// It could not be checked just now.
    Unavailable,
}
