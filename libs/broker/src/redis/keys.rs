//! Names in Redis: `{prefix}:ch:{NAME}`, where the braces around NAME are the hash tag of Redis Cluster.

use std::sync::Arc;

use tidings_core::Channel;

/// Builds and reads the names of one prefix.
#[derive(Clone)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The Redis channel that carries `channel`.
    pub(super) fn channel(&self, channel: &Channel) -> String {
        format!("{}:ch:{{{channel}}}", self.prefix)
    }

    /// The channel that a Redis channel carries; `None` when it is not of our making.
    pub(super) fn parse_channel(&self, name: &[u8]) -> Option<Channel> {
        let name = std::str::from_utf8(name).ok()?;
        let name = name
            .strip_prefix(&*self.prefix)?
            .strip_prefix(":ch:{")?
            .strip_suffix('}')?;
        Channel::parse(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_found_again_in_its_name() {
        let keys = Keys::new("tidings");
        let channel = Channel::parse("tasks:1").unwrap();
        assert_eq!(keys.channel(&channel), "tidings:ch:{tasks:1}");
        assert_eq!(keys.parse_channel(b"tidings:ch:{tasks:1}"), Some(channel));
    }

    #[test]
    fn other_names_are_not_ours() {
        let keys = Keys::new("tidings");
        for name in [
            "tidings:ch:{}",
            "tidings:ch:tasks:1",
            "other:ch:{tasks:1}",
            "tidings:ch:{a b}",
            "",
        ] {
            assert_eq!(keys.parse_channel(name.as_bytes()), None, "{name}");
        }
        assert_eq!(keys.parse_channel(b"tidings:ch:{\xff}"), None);
    }
}
