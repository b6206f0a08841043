//! The way a client is reached, as far as it matters to the rules.

use std::sync::Arc;

/// What a session has to know of the way its client is reached.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Its clients never answer pings, because they cannot.
    pub mute: bool,
    /// What requests apart from the connection address it by: told to the client.
    pub session: Option<Arc<str>>,
    /// The node that such requests are for: told to the client.
    pub node: Option<Arc<str>>,
}
