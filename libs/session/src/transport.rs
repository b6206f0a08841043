//! The way a client is reached, as far as it matters to the rules.

use std::sync::Arc;

use tidings_core::Channel;

/// What a session has to know of the way its client is reached.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Its clients never answer pings, because they cannot.
    pub mute: bool,
    /// What requests apart from the connection address it by: told to the client.
    pub session: Option<Arc<str>>,
    /// The node that such requests are for: told to the client.
    pub node: Option<Arc<str>>,
    /// Its client hears this one channel and no other, and cannot be told which channel something is of, nor that it
    /// hears the channel no more: then the connection ends.
    pub only: Option<Channel>,
}
