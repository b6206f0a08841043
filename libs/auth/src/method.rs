//! What a backend can ask for at its door, as the scopes of API keys have it: one word for each thing that is done, whatever
//! the call is that does it.

use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Events and bare data are published, in whatever way.
    Publish,
    /// Connections are subscribed to a channel.
    Subscribe,
    /// And unsubscribed.
    Unsubscribe,
    /// Connections end.
    Disconnect,
    /// They are good for longer, or for shorter.
    Refresh,
    /// They are told something.
    Send,
    /// Who is there: lists, numbers, users, joins and leaves as they come.
    Presence,
    /// What a channel has kept.
    History,
    /// A channel keeps nothing of what it has.
    HistoryRemove,
    /// Which nodes there are.
    Info,
    /// To which channels clients are subscribed.
    Channels,
}

impl Method {
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Disconnect => "disconnect",
            Self::Refresh => "refresh",
            Self::Send => "send",
            Self::Presence => "presence",
            Self::History => "history",
            Self::HistoryRemove => "history_remove",
            Self::Info => "info",
            Self::Channels => "channels",
        }
    }
}
