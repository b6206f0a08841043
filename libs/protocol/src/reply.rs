//! What the server says, whatever format it says it in.

use std::time::Duration;

use tidings_core::{Channel, ClientId, ClientInfo, Position, Publication};

use crate::Error;

/// The answer to the command with this id, or a ping.
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
        result: Connected,
    },
    /// Publications of the channel may follow from here on.
    Subscribe {
        /// The command's id.
        id: u32,
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
    /// The newer token was taken.
    Refresh {
        /// The command's id.
        id: u32,
        /// How long the connection is good for; `None`: for ever.
        expires_in: Option<Duration>,
    },
    /// Are you there?
    Ping,
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
    /// How often a ping comes, to the second.
    pub ping_interval: Duration,
    /// The channels that it hears without having asked for them.
    pub channels: Vec<Channel>,
}

/// What the server says unasked.
#[derive(Debug, Clone, Copy)]
pub enum Push<'a> {
    /// A publication in a channel.
    Publication(&'a Channel, &'a Publication),
    /// Somebody came.
    Join(&'a Channel, &'a ClientInfo),
    /// Somebody left.
    Leave(&'a Channel, &'a ClientInfo),
}
