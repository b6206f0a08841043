//! What can be chosen about who is announced, and for how long things are kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who joins and leaves, as others hear of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Every client.
    #[default]
    Client,
    /// A user, with its first client, and with its last. A client without a user is announced by itself.
    User,
}

/// How a store behaves. All replicas need the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Who is announced once.
    pub per: Per,
    /// How long after it a leave is announced, unless who left is back. Zero: at once.
    pub leave_delay: Duration,
    /// How long it is kept when a user was last there. Zero: not at all.
    pub last_seen: Duration,
    /// How many joins and leaves the log has, about. Zero: there is none.
    pub log: usize,
    /// A channel with more members is a crowd: who comes there is counted, not announced. Zero: none is.
    pub crowd: usize,
    /// How often those who watch are told the counts of crowds.
    pub crowd_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            per: Per::Client,
            leave_delay: Duration::ZERO,
            last_seen: Duration::from_secs(24 * 60 * 60),
            log: 100_000,
            crowd: 1_000,
            crowd_interval: Duration::from_secs(1),
        }
    }
}
