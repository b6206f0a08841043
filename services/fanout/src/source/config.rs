//! What an operator says about sources: `[[source]]`.

use std::{collections::HashSet, fmt::Display, time::Duration};

use serde::{Deserialize, Serialize};
use tidings_auth::{Key, keys};

use super::{postgres, redis};

/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// The shortest and the longest idempotency window.
const WINDOWS: (Duration, Duration) = (
    Duration::from_secs(10 * 60),
    Duration::from_secs(7 * 24 * 60 * 60),
);

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
    /// How long a repeat of an event is known, from the first publish on, 10 min to 7 days: each event takes memory of the
    /// bus for so long, in each of its channels. Retries during a longer outage may deliver an event twice. Default 24 h.
    #[serde(default = "default_window", with = "humantime_serde")]
    pub idempotency_window: Duration,
    /// `[source.redis]`: a Redis stream. Either this or `postgres` has to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<redis::Config>,
    /// `[source.postgres]`: an outbox in PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<postgres::Config>,
}

/// Where a source takes its events from.
pub enum Origin<'c> {
    /// A Redis stream.
    Redis(&'c redis::Config),
    /// An outbox in PostgreSQL.
    Postgres(&'c postgres::Config),
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
        if !(WINDOWS.0..=WINDOWS.1).contains(&config.idempotency_window) {
            return Err(config.wrong("idempotency_window", "is out of range; set it from 10m to 7d"));
        }
        let checked = match config.origin()? {
            Origin::Redis(redis) => redis.check(has_redis, config.idempotency_window),
            Origin::Postgres(postgres) => postgres.check(),
        };
        checked.map_err(|(key, why)| config.wrong(key, why))?;
    }
    Ok(())
}

impl Config {
    /// Where its events come from.
    ///
    /// # Errors
    /// When it does not say so, or says two places.
    pub fn origin(&self) -> Result<Origin<'_>, Error> {
        match (&self.redis, &self.postgres) {
            (Some(redis), None) => Ok(Origin::Redis(redis)),
            (None, Some(postgres)) => Ok(Origin::Postgres(postgres)),
            (Some(_), Some(_)) => Err(self.wrong(
                "redis",
                "and `source.postgres` are both there; make two sources of them",
            )),
            (None, None) => Err(self.wrong(
                "redis",
                "is missing, and so is `source.postgres`; add one of them",
            )),
        }
    }

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

fn default_window() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Config {
        let redis = r#"{ "stream": "orders", "url": "redis://:hunter2@cache" }"#;
        Config {
            name: name.to_owned(),
            events: None,
            channels: None,
            idempotency_window: default_window(),
            redis: Some(serde_json::from_str(redis).unwrap()),
            postgres: None,
        }
    }

    fn outbox() -> Config {
        let postgres = r#"{ "url": "postgres://me:hunter2@localhost/shop" }"#;
        Config {
            redis: None,
            postgres: Some(serde_json::from_str(postgres).unwrap()),
            ..source("a")
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
        fn redis(config: &mut Config) -> &mut redis::Config {
            config.redis.as_mut().unwrap()
        }
        let with = |change: fn(&mut Config)| {
            let mut config = source("a");
            change(&mut config);
            config
        };
        refused(with(|it| redis(it).url = None), "`source.redis.url`");
        refused(
            with(|it| redis(it).url = Some("http://:hunter2@x".to_owned().into())),
            "`source.redis.url`",
        );
        refused(with(|it| redis(it).stream.clear()), "`source.redis.stream`");
        refused(with(|it| redis(it).group.clear()), "`source.redis.group`");
        refused(with(|it| redis(it).batch = 0), "`source.redis.batch`");
        refused(with(|it| redis(it).attempts = 0), "`source.redis.attempts`");
        refused(
            with(|it| redis(it).claim_after = Duration::from_secs(2 * 60 * 60)),
            "`source.redis.claim_after`",
        );
        refused(
            with(|it| {
                it.idempotency_window = Duration::from_secs(10 * 60);
                redis(it).claim_after = Duration::from_secs(6 * 60);
            }),
            "`source.redis.claim_after` is more than half of `source.idempotency_window`",
        );
        for window in [Duration::from_secs(60), Duration::from_secs(8 * 24 * 60 * 60)] {
            let mut config = source("a");
            config.idempotency_window = window;
            refused(config, "`source.idempotency_window`");
        }
        refused(
            with(|it| redis(it).dead_letter = Some("orders".to_owned())),
            "`source.redis.dead_letter`",
        );
        refused(
            with(|it| it.channels = Some(vec!["a**b".to_owned()])),
            "`source.channels`",
        );
    }

    #[test]
    fn events_come_from_one_place() {
        assert_eq!(check(&[outbox()], false), Ok(()));
        let both = Config {
            redis: source("a").redis,
            ..outbox()
        };
        refused(both, "`source.redis` and `source.postgres` are both there");
        let none = Config {
            postgres: None,
            ..outbox()
        };
        refused(none, "`source.redis` is missing, and so is `source.postgres`");
    }

    #[test]
    fn a_value_of_an_outbox_that_cannot_be_meant_is_named_by_its_key() {
        let wrong = |change: fn(&mut postgres::Config), part| {
            let mut config = outbox();
            change(config.postgres.as_mut().unwrap());
            refused(config, part);
        };
        wrong(
            |it| it.url = "mysql://:hunter2@db".to_owned().into(),
            "`source.postgres.url`",
        );
        wrong(|it| it.table = "a b".to_owned(), "`source.postgres.table`");
        wrong(|it| it.batch = 0, "`source.postgres.batch`");
        wrong(|it| it.poll = Duration::ZERO, "`source.postgres.poll`");
        wrong(|it| it.attempts = 0, "`source.postgres.attempts`");
        wrong(
            |it| it.ca_file = Some("/nowhere".into()),
            "`source.postgres.ca_file`",
        );
        fn tls(config: &mut postgres::Config) {
            config.url = "postgres://me:hunter2@db/shop".to_owned().into();
        }
        wrong(
            |it| {
                tls(it);
                it.ca_file = Some("/nowhere".into());
            },
            "`source.postgres.ca_file` /nowhere cannot be read",
        );
        wrong(
            |it| {
                tls(it);
                it.key_file = Some("/nowhere".into());
            },
            "`source.postgres.certificate_file` and `source.postgres.key_file` belong together",
        );
    }

    #[test]
    fn the_nodes_redis_is_used_where_it_has_one() {
        let mut config = source("a");
        config.redis.as_mut().unwrap().url = None;
        assert_eq!(check(&[config], true), Ok(()));
    }
}
