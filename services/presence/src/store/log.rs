//! The log: the newest joins and leaves of all channels, for those who follow them.

use std::{fmt, sync::Arc};

use tidings_core::{Channel, ClientId};

/// A member came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// It came.
    pub joined: bool,
    /// Where.
    pub channel: Channel,
    /// Which connection.
    pub client: ClientId,
    /// Whose; empty: nobody's.
    pub user: Arc<str>,
    /// How many were in the channel then, when they were a crowd.
    pub crowd: Option<u32>,
}

/// A place in the log; later ones are greater. The least is before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Unix milliseconds: in Redis of the event, in memory of the log's beginning.
    pub(super) ms: u64,
    /// Counts within it.
    pub(super) seq: u64,
}

impl Position {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }
}

/// `MS-SEQ`, as Redis writes the ids of a stream.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}
