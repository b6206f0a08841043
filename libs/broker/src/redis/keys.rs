//! Names in Redis: `{prefix}:ch:{NAME}` and the like, where the braces around NAME are the hash tag of Redis Cluster, so
//! that all of a channel is in one place.

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
        self.name("ch", channel)
    }

    /// The stream's entries.
    pub(super) fn stream(&self, channel: &Channel) -> String {
        self.name("stream", channel)
    }

    /// Where the stream is.
    pub(super) fn top(&self, channel: &Channel) -> String {
        self.name("top", channel)
    }

    /// The answer of the publish that is called `key`.
    pub(super) fn once(&self, channel: &Channel, key: &str) -> String {
        format!("{}:once:{{{channel}}}:{key}", self.prefix)
    }

    fn name(&self, kind: &str, channel: &Channel) -> String {
        format!("{}:{kind}:{{{channel}}}", self.prefix)
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
    fn all_of_a_channel_has_its_name_as_the_hash_tag() {
        let keys = Keys::new("tidings");
        let channel = Channel::parse("tasks:1").unwrap();
        assert_eq!(keys.stream(&channel), "tidings:stream:{tasks:1}");
        assert_eq!(keys.top(&channel), "tidings:top:{tasks:1}");
        assert_eq!(keys.once(&channel, "{7} a"), "tidings:once:{tasks:1}:{7} a");
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
