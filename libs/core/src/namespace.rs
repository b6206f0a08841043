//! What a channel offers and who may do what in it: options by namespace.
//!
//! Names and meanings are Centrifugo's where the meaning is the same; every permission is off by default.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Channel, Format};

/// The options of all channels with one prefix: `[[namespace]]` in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// The part of a channel's name before the first `:`; empty for channels without one.
    pub name: String,
    /// Keep who is there.
    #[serde(default)]
    pub presence: bool,
    /// Others hear of members coming and going, where they ask for it. Only with `presence`.
    #[serde(default)]
    pub join_leave: bool,
    /// They hear of it unasked.
    #[serde(default)]
    pub force_push_join_leave: bool,
    /// How many publications each channel keeps; 0: none. Only with `history_ttl`.
    #[serde(default)]
    pub history_size: u32,
    /// How long each channel keeps them; 0: not at all. Only with `history_size`.
    #[serde(default, with = "humantime_serde")]
    pub history_ttl: Duration,
    /// Subscribers that ask for it are told where they are in the stream, and that they miss something. Only with history.
    #[serde(default)]
    pub allow_positioning: bool,
    /// They are told unasked.
    #[serde(default)]
    pub force_positioning: bool,
    /// Subscribers that ask for it get what they missed when they come back. Only with history.
    #[serde(default)]
    pub allow_recovery: bool,
    /// They get it unasked.
    #[serde(default)]
    pub force_recovery: bool,
    /// What coming back means.
    #[serde(default)]
    pub force_recovery_mode: RecoveryMode,
    /// How publications may be sent as differences from the one before, to subscribers that ask for it. Only with history.
    #[serde(default)]
    pub allowed_delta_types: Vec<DeltaType>,
    /// Subscribers may ask for only those publications whose tags match a filter.
    #[serde(default)]
    pub allow_tags_filter: bool,
    /// What backends publish in a trace has its `traceparent` as a tag, so that clients can go on with the trace. Who may
    /// listen sees the trace's id.
    #[serde(default)]
    pub traceparent_tag: bool,
    /// A channel `name#42,43` is open to the users 42 and 43, and only to them.
    #[serde(default)]
    pub allow_user_limited_channels: bool,
    /// The user's backend decides who may subscribe (`clients.proxy.subscribe`).
    #[serde(default)]
    pub subscribe_proxy_enabled: bool,
    /// The user's backend decides what clients may publish (`clients.proxy.publish`).
    #[serde(default)]
    pub publish_proxy_enabled: bool,
    /// The user's backend decides whether a subscription that expires goes on (`clients.proxy.sub_refresh`).
    #[serde(default)]
    pub sub_refresh_proxy_enabled: bool,
    /// Clients with a user may subscribe.
    #[serde(default)]
    pub allow_subscribe_for_client: bool,
    /// Clients without a user may subscribe too.
    #[serde(default)]
    pub allow_subscribe_for_anonymous: bool,
    /// What clients may publish, where they may.
    #[serde(default)]
    pub publication_data_format: DataFormat,
    /// Clients with a user may publish.
    #[serde(default)]
    pub allow_publish_for_client: bool,
    /// Clients without a user may publish too.
    #[serde(default)]
    pub allow_publish_for_anonymous: bool,
    /// Clients subscribed to the channel may publish to it.
    #[serde(default)]
    pub allow_publish_for_subscriber: bool,
    /// Clients with a user may ask who is there.
    #[serde(default)]
    pub allow_presence_for_client: bool,
    /// Clients without a user may ask too.
    #[serde(default)]
    pub allow_presence_for_anonymous: bool,
    /// Clients subscribed to the channel may ask who is there in it.
    #[serde(default)]
    pub allow_presence_for_subscriber: bool,
    /// Clients with a user may read what the channel has kept.
    #[serde(default)]
    pub allow_history_for_client: bool,
    /// Clients without a user may read it too.
    #[serde(default)]
    pub allow_history_for_anonymous: bool,
    /// Clients subscribed to the channel may read it.
    #[serde(default)]
    pub allow_history_for_subscriber: bool,
}

/// What a subscriber gets that comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMode {
    /// Everything that it missed, or word that this is not possible.
    #[default]
    Stream,
    /// The newest publication, if it has not got that.
    Cache,
}

/// How a publication is written as a difference from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaType {
    /// The delta format of the Fossil version control system.
    Fossil,
}

/// What the data of clients' publications has to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// JSON, which every subscriber can be given.
    #[default]
    Json,
    /// Anything. What is not JSON ends the connections of subscribers that speak JSON alone.
    Binary,
}

/// Options of a namespace, decided anew for one client in one channel. `None`: as the namespace has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether the client is seen in the channel.
    pub presence: Option<bool>,
    /// Whether others hear of it coming and going.
    pub join_leave: Option<bool>,
    /// Whether it hears of others coming and going, unasked.
    pub force_push_join_leave: Option<bool>,
    /// Whether it recovers what it missed, unasked.
    pub force_recovery: Option<bool>,
    /// Whether its position is watched, unasked.
    pub force_positioning: Option<bool>,
}

/// What a channel keeps of its publications: the newest, as far as both limits allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The most publications.
    pub size: NonZeroU32,
    /// How old they may be.
    pub ttl: Duration,
}

impl Namespace {
    /// What its channels keep; `None`: nothing.
    #[must_use]
    pub fn retention(&self) -> Option<Retention> {
        let size = NonZeroU32::new(self.history_size)?;
        (!self.history_ttl.is_zero()).then_some(Retention {
            size,
            ttl: self.history_ttl,
        })
    }

    /// Whether clients may publish data of this format, where they may publish at all.
    #[must_use]
    pub fn takes(&self, format: Format) -> bool {
        format == Format::Json || self.publication_data_format == DataFormat::Binary
    }

    /// An option that is set without another that it builds on, and which.
    fn lacks(&self) -> Option<(&'static str, &'static str)> {
        const HISTORY: &str = "`history_size` and `history_ttl`";
        let stream = [
            (self.allow_positioning, "allow_positioning"),
            (self.force_positioning, "force_positioning"),
            (self.allow_recovery, "allow_recovery"),
            (self.force_recovery, "force_recovery"),
            (!self.allowed_delta_types.is_empty(), "allowed_delta_types"),
        ];
        let without_history = self.retention().is_none();
        let lacking = stream.into_iter().find(|(set, _)| *set && without_history);
        match lacking {
            Some((_, option)) => Some((option, HISTORY)),
            None if self.join_leave && !self.presence => Some(("join_leave", "`presence`")),
            None if self.force_push_join_leave && !self.join_leave => {
                Some(("force_push_join_leave", "`join_leave`"))
            }
            None => None,
        }
    }

    /// Everything is on and allowed, with a short history: what `tidings dev` gives to channels that nobody configured.
    #[must_use]
    pub fn open(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            presence: true,
            join_leave: true,
            force_push_join_leave: false,
            history_size: 100,
            history_ttl: Duration::from_secs(600),
            allow_positioning: true,
            force_positioning: false,
            allow_recovery: true,
            force_recovery: false,
            force_recovery_mode: RecoveryMode::Stream,
            allowed_delta_types: vec![DeltaType::Fossil],
            allow_tags_filter: true,
            traceparent_tag: false,
            allow_user_limited_channels: true,
            subscribe_proxy_enabled: false,
            publish_proxy_enabled: false,
            sub_refresh_proxy_enabled: false,
            publication_data_format: DataFormat::Json,
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_client: true,
            allow_publish_for_anonymous: true,
            allow_publish_for_subscriber: true,
            allow_presence_for_client: true,
            allow_presence_for_anonymous: true,
            allow_presence_for_subscriber: true,
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            allow_history_for_subscriber: true,
        }
    }
}

/// All configured namespaces.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    by_name: HashMap<String, Namespace>,
    undeclared: Option<Namespace>,
}

/// Why a list of namespaces cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two entries have one name.
    #[error("namespace {name:?} is configured twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name that no channel can have, or options that cannot go together.
    #[error("namespace {name:?}: {why}")]
    Impossible {
        /// The name.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl Namespaces {
    /// Checks a list as a whole.
    ///
    /// # Errors
    /// When a name stands twice or cannot be part of a channel name.
    pub fn new(list: Vec<Namespace>) -> Result<Self, Error> {
        let mut by_name = HashMap::with_capacity(list.len());
        for namespace in list {
            let name = namespace.name.clone();
            if name.contains(':') || name.starts_with('$') {
                let why = "must not have ':' in it or '$' before it".to_owned();
                return Err(Error::Impossible { name, why });
            }
            if let Err(why) = Channel::parse(&format!("{name}:")) {
                return Err(Error::Impossible {
                    name,
                    why: why.to_string(),
                });
            }
            if (namespace.history_size == 0) != namespace.history_ttl.is_zero() {
                let why = "history needs both `history_size` and `history_ttl`".to_owned();
                return Err(Error::Impossible { name, why });
            }
            if let Some((option, needs)) = namespace.lacks() {
                let why = format!("`{option}` needs {needs}");
                return Err(Error::Impossible { name, why });
            }
            if by_name.insert(name.clone(), namespace).is_some() {
                return Err(Error::Twice { name });
            }
        }
        Ok(Self {
            by_name,
            undeclared: None,
        })
    }

    /// The same, and every channel of a namespace that is not configured is open to all.
    #[must_use]
    pub fn with_undeclared_open(mut self) -> Self {
        self.undeclared = Some(Namespace::open(""));
        self
    }

    /// Whether `what` is so of any of them.
    pub fn any(&self, what: impl FnMut(&Namespace) -> bool) -> bool {
        self.by_name.values().chain(&self.undeclared).any(what)
    }

    /// The options of a channel; `None` when its namespace is not configured. A channel without a namespace
    /// has the options of the one named "".
    #[must_use]
    pub fn of(&self, channel: &Channel) -> Option<&Namespace> {
        self.by_name
            .get(channel.namespace().unwrap_or_default())
            .or(self.undeclared.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Namespace {
        Namespace {
            presence: false,
            join_leave: false,
            ..Namespace::open(name)
        }
    }

    #[test]
    fn a_channel_has_the_options_of_its_namespace_and_no_others() {
        let namespaces = Namespaces::new(vec![named("tasks"), named("")]).unwrap();
        let of = |name| {
            namespaces
                .of(&Channel::parse(name).unwrap())
                .map(|n| n.name.clone())
        };
        assert_eq!(of("tasks:1").as_deref(), Some("tasks"));
        assert_eq!(of("$tasks:1").as_deref(), Some("tasks"));
        assert_eq!(of("tasks").as_deref(), Some(""));
        assert_eq!(of("users:1"), None);
    }

    #[test]
    fn undeclared_namespaces_are_open_only_where_that_was_asked_for() {
        let channel = Channel::parse("anything:1").unwrap();
        let closed = Namespaces::default();
        assert!(closed.of(&channel).is_none());
        assert!(closed.with_undeclared_open().of(&channel).is_some());
    }

    #[test]
    fn a_list_with_an_impossible_name_is_refused() {
        assert_eq!(
            Namespaces::new(vec![named("a"), named("a")]).unwrap_err(),
            Error::Twice { name: "a".into() }
        );
        assert!(matches!(
            Namespaces::new(vec![named("a:b")]),
            Err(Error::Impossible { .. })
        ));
        assert!(matches!(
            Namespaces::new(vec![named("a{b")]),
            Err(Error::Impossible { .. })
        ));
    }
}
