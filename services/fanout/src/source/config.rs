//! What an operator says about sources: `[[source]]`.

use std::{collections::HashSet, fmt::Display};

use serde::{Deserialize, Serialize};
use tidings_auth::{Key, keys};

use super::redis;

/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// One `[[source]]`: where events are taken from, and what they may do.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is called in metrics, logs and errors: letters, digits, `-` and `_`.
    pub name: String,
    /// Event types that it may publish, as globs (`task.*`). Absent: all. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Channels that it may publish to, as globs (`tasks:*`). Absent: all. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// `[source.redis]`: a Redis stream.
    pub redis: redis::Config,
}

/// Why a list of sources cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One could not be told from others.
    #[error("source number {number}: `source.name` is not 1 to {MAX_NAME} letters, digits, '-' and '_'")]
    Name {
        /// Its place in the list, from 1.
        number: usize,
    },
    /// Two have one name.
    #[error("source {name:?} is configured twice; give each a `source.name` of its own")]
    SameName {
        /// The name.
        name: String,
    },
    /// A value of one that cannot be meant.
    #[error("source {name:?}: `source.{key}` {why}")]
    Value {
        /// The source.
        name: String,
        /// The key below `source`.
        key: &'static str,
        /// What is wrong with it: the text goes on from the key.
        why: String,
    },
}

/// Checks all of them, connecting to nothing. `has_redis`: whether the node has a Redis of its own.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(configs: &[Config], has_redis: bool) -> Result<(), Error> {
    let mut names = HashSet::new();
    for (index, config) in configs.iter().enumerate() {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=MAX_NAME).contains(&config.name.len()) || !config.name.bytes().all(letters) {
            return Err(Error::Name { number: index + 1 });
        }
        if !names.insert(&config.name) {
            return Err(Error::SameName {
                name: config.name.clone(),
            });
        }
        config.key()?;
        let checked = config.redis.check(has_redis);
        checked.map_err(|(key, why)| config.wrong(key, why))?;
    }
    Ok(())
}

impl Config {
    /// Whose its events are. The name is none that an API key's bearer shares by chance: repeats are known by it.
    pub(super) fn key(&self) -> Result<Key, Error> {
        let name = format!("source:{}", self.name);
        Key::inside(&name, self.events.clone(), self.channels.clone()).map_err(|error| match error {
            keys::Error::Pattern { list, source, .. } => self.wrong(list, format!("has no glob: {source}")),
            error => self.wrong("name", error),
        })
    }

    pub(super) fn wrong(&self, key: &'static str, why: impl Display) -> Error {
        Error::Value {
            name: self.name.clone(),
            key,
            why: why.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(name: &str) -> Config {
        let redis = r#"{ "stream": "orders", "url": "redis://:hunter2@cache" }"#;
        Config {
            name: name.to_owned(),
            events: None,
            channels: None,
            redis: serde_json::from_str(redis).unwrap(),
        }
    }

    #[track_caller]
    fn refused(config: Config, part: &str) {
        let error = check(&[config], false).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn each_source_has_a_name_of_its_own() {
        assert_eq!(check(&[source("a"), source("b")], false), Ok(()));
        assert_eq!(check(&[source("a b")], false), Err(Error::Name { number: 1 }));
        let twice = check(&[source("a"), source("a")], false);
        assert_eq!(twice, Err(Error::SameName { name: "a".to_owned() }));
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_named_by_its_key() {
        let with = |change: fn(&mut Config)| {
            let mut config = source("a");
            change(&mut config);
            config
        };
        refused(with(|it| it.redis.url = None), "`source.redis.url`");
        refused(
            with(|it| it.redis.url = Some("http://:hunter2@x".to_owned().into())),
            "`source.redis.url`",
        );
        refused(with(|it| it.redis.stream.clear()), "`source.redis.stream`");
        refused(with(|it| it.redis.group.clear()), "`source.redis.group`");
        refused(with(|it| it.redis.batch = 0), "`source.redis.batch`");
        refused(with(|it| it.redis.attempts = 0), "`source.redis.attempts`");
        refused(
            with(|it| it.redis.claim_after = Duration::from_secs(600)),
            "`source.redis.claim_after`",
        );
        refused(
            with(|it| it.redis.dead_letter = Some("orders".to_owned())),
            "`source.redis.dead_letter`",
        );
        refused(
            with(|it| it.channels = Some(vec!["a**b".to_owned()])),
            "`source.channels`",
        );
    }

    #[test]
    fn the_nodes_redis_is_used_where_it_has_one() {
        let mut config = source("a");
        config.redis.url = None;
        assert_eq!(check(&[config], true), Ok(()));
    }
}
