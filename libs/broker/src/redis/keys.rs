//! Names in Redis: `{prefix}:ch:{NAME}` and the like, where the braces around NAME are the hash tag of Redis Cluster, so
//! that all of a channel is in one place.

use std::sync::Arc;

use tidings_core::Channel;

use crate::topic::Topic;

/// The Redis channel that carries `channel` among the nodes of `prefix`; what is said there is a
/// `tidings.bus.v1.Envelope`, by the command that [`Pool::publish`](super::Pool::publish) says. For scripts that change something and have to
/// announce it in the same step; everyone else has a [`Publisher`](crate::Publisher).
#[must_use]
pub fn channel_name(prefix: &str, channel: &Channel) -> String {
    name(prefix, "ch", channel)
}

fn name(prefix: &str, kind: &str, channel: &Channel) -> String {
    format!("{prefix}:{kind}:{{{channel}}}")
}

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
        channel_name(&self.prefix, channel)
    }

    /// The Redis channel that carries `topic`.
    pub(super) fn topic(&self, topic: &Topic) -> String {
        match topic {
            Topic::Channel(channel) => self.channel(channel),
            Topic::Node(name) => format!("{}:control:{name}", self.prefix),
            Topic::All => format!("{}:control", self.prefix),
        }
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
    pub(super) fn probe(&self, channel: &Channel) -> String {
        format!("{}:probe:{{{channel}}}", self.prefix)
    }

    pub(super) fn once(&self, channel: &Channel, key: &str) -> String {
        format!("{}:once:{{{channel}}}:{key}", self.prefix)
    }

    fn name(&self, kind: &str, channel: &Channel) -> String {
        name(&self.prefix, kind, channel)
    }

    /// The topic that a Redis channel carries; `None` when it is not of our making.
    pub(super) fn parse_topic(&self, name: &[u8]) -> Option<Topic> {
        let name = std::str::from_utf8(name).ok()?.strip_prefix(&*self.prefix)?;
        if let Some(name) = name.strip_prefix(":ch:{") {
            return Channel::parse(name.strip_suffix('}')?).ok().map(Topic::Channel);
        }
        match name.strip_prefix(":control")? {
            "" => Some(Topic::All),
            name => Some(Topic::Node(name.strip_prefix(':')?.into())),
        }
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
        assert_eq!(
            keys.parse_topic(b"tidings:ch:{tasks:1}"),
            Some(Topic::Channel(channel))
        );
    }

    #[test]
    fn a_node_is_found_again_in_its_name() {
        let keys = Keys::new("tidings");
        for (topic, name) in [
            (Topic::Node("a:7".into()), "tidings:control:a:7"),
            (Topic::All, "tidings:control"),
        ] {
            assert_eq!(keys.topic(&topic), name);
            assert_eq!(keys.parse_topic(name.as_bytes()), Some(topic));
        }
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
            "tidings:controls",
            "other:control",
            "",
        ] {
            assert_eq!(keys.parse_topic(name.as_bytes()), None, "{name}");
        }
        assert_eq!(keys.parse_topic(b"tidings:ch:{\xff}"), None);
    }
}
