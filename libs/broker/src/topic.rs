//! What a subscriber can want of the bus: a channel, or what nodes are told.

use std::{fmt, sync::Arc};

use tidings_core::Channel;

/// Whom a node tells something, and what it listens to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// The node of this name, which it chose itself: unique, printable ASCII without spaces.
    Node(&'a str),
    /// Every node that listens to this.
    All,
}

/// One thing that a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// What is said in a channel.
    Channel(Channel),
    /// What the node of this name is told.
    Node(Arc<str>),
    /// What all nodes are told.
    All,
}

impl From<&Channel> for Topic {
    fn from(channel: &Channel) -> Self {
        Self::Channel(channel.clone())
    }
}

impl From<To<'_>> for Topic {
    fn from(to: To<'_>) -> Self {
        match to {
            To::Node(name) => Self::Node(name.into()),
            To::All => Self::All,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => write!(f, "channel {channel}"),
            Self::Node(name) => write!(f, "what node {name} is told"),
            Self::All => f.write_str("what all nodes are told"),
        }
    }
}
