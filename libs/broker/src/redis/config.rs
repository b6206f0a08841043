//! The `[redis]` section of the configuration.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{RedisUrl, sentinel::Sentinel};
use crate::Error;

/// Which Redis, and how long to wait for it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `redis://` or, with TLS, `rediss://`: where Redis is, unless Sentinels know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<RedisUrl>,
    /// Who knows where Redis is, in place of `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<Sentinel>,
    /// Some nodes of a Redis Cluster, in place of `url`: the others are found by them. All have one user and one password, those
    /// of the first that is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<RedisUrl>,
    /// The certificates in PEM by which servers are known with TLS, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate in PEM, for a Redis that asks for one, with `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// The key of our own certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// What every key and channel name in Redis begins with, so that several installations can share one; by default
    /// `tidings`.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// How long one attempt to connect may take; by default 2 s.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a command may take, everything included; by default 1 s.
    #[serde(default = "default_command_timeout", with = "humantime_serde")]
    pub command_timeout: Duration,
    /// How often a command that could not be sent is tried again within its timeout; by default 3. A command that was
    /// sent is never repeated: it may have taken effect.
    #[serde(default = "default_max_retries")]
    pub max_retries: u32,
    /// The most connections for commands of others than the bus, which has two of its own; by default 16.
    #[serde(default = "default_pool_size")]
    pub pool_size: NonZeroUsize,
}

impl Config {
    /// The defaults for the Redis at `url`.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            url: Some(url),
            sentinel: None,
            cluster: Vec::new(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            prefix: default_prefix(),
            connect_timeout: default_connect_timeout(),
            command_timeout: default_command_timeout(),
            max_retries: default_max_retries(),
            pool_size: default_pool_size(),
        }
    }

    /// Where Redis is, to be shown: passwords are masked.
    #[must_use]
    pub fn place(&self) -> String {
        let all = |nodes: &[RedisUrl]| {
            let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
            nodes.join(", ")
        };
        match (&self.sentinel, &self.url) {
            (Some(Sentinel { master, nodes, .. }), _) => {
                format!("{master:?} of the Sentinels {}", all(nodes))
            }
            (None, Some(url)) => url.to_string(),
            (None, None) if self.cluster.is_empty() => "nowhere".to_owned(),
            (None, None) => format!("the Cluster of {}", all(&self.cluster)),
        }
    }

    /// Whether the values can be meant. Connects to nothing.
    ///
    /// # Errors
    /// [`Error::Setting`], which names the first key that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |key, why| Err(Error::Setting { key, why });
        match (&self.url, &self.sentinel) {
            (None, None) if self.cluster.is_empty() => {
                return wrong(
                    "redis.url",
                    "is missing, and so are redis.sentinel and redis.cluster; set one of them",
                );
            }
            (Some(_), Some(_)) => {
                return wrong("redis.url", "and redis.sentinel are both set; set one of them");
            }
            (Some(_), None) | (None, Some(_)) if !self.cluster.is_empty() => {
                return wrong(
                    "redis.cluster",
                    "and redis.url or redis.sentinel are both set; set one of them",
                );
            }
            (None, Some(sentinel)) if sentinel.master.is_empty() => {
                return wrong("redis.sentinel.master", "is empty");
            }
            (None, Some(sentinel)) if sentinel.nodes.is_empty() => {
                return wrong("redis.sentinel.nodes", "is empty; nobody knows where Redis is");
            }
            _ => {}
        }
        let mut databases = self.cluster.iter().map(RedisUrl::connection_info);
        if databases.any(|info| info.is_ok_and(|info| info.redis_settings().db() != 0)) {
            return wrong(
                "redis.cluster",
                "names a database other than 0, and a Cluster has no other",
            );
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return wrong(
                "redis.certificate_file",
                "and redis.key_file belong together; set both or none",
            );
        }
        let files = [&self.ca_file, &self.certificate_file];
        if files.into_iter().any(Option::is_some) && !self.tls() {
            return wrong(
                "redis.ca_file",
                "or redis.certificate_file is set, and no address begins with rediss://",
            );
        }
        if self.prefix.is_empty() {
            return wrong("redis.prefix", "is empty");
        }
        if !self
            .prefix
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}'))
        {
            return wrong(
                "redis.prefix",
                "may have only printable ASCII without space, '{' and '}'",
            );
        }
        if self.connect_timeout.is_zero() {
            return wrong("redis.connect_timeout", "is zero; nothing could ever connect");
        }
        if self.command_timeout.is_zero() {
            return wrong("redis.command_timeout", "is zero; no command could ever succeed");
        }
        Ok(())
    }

    /// Whether anything is reached by TLS.
    fn tls(&self) -> bool {
        let by_url = self.url.iter().chain(&self.cluster).any(RedisUrl::tls);
        let mut sentinels = self.sentinel.iter();
        by_url || sentinels.any(|all| all.tls_name.is_some() || all.nodes.iter().any(RedisUrl::tls))
    }
}

fn default_prefix() -> String {
    "tidings".to_owned()
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(2)
}

fn default_command_timeout() -> Duration {
    Duration::from_secs(1)
}

fn default_max_retries() -> u32 {
    3
}

fn default_pool_size() -> NonZeroUsize {
    const { NonZeroUsize::new(16).expect("16 is not zero") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_url_has_to_be_said() {
        let config: Config = serde_json::from_str(r#"{"url": "redis://cache"}"#).unwrap();
        assert_eq!(config.prefix, "tidings");
        assert_eq!(config.command_timeout, Duration::from_secs(1));
        config.check().unwrap();
    }

    #[test]
    fn unknown_keys_and_bad_addresses_are_refused_by_name() {
        let check = |json, expected: &str| {
            let error = serde_json::from_str::<Config>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(r#"{"url": "redis://cache", "prefx": ""}"#, "prefx");
        check(r#"{"url": "http://cache"}"#, "redis://");
        check(r#"{"url": "redis://cache", "pool_size": 0}"#, "nonzero");
    }

    #[test]
    fn redis_is_at_one_address_or_where_sentinels_say() {
        let read = |json| serde_json::from_str::<Config>(json).unwrap();
        let check = |json, expected: &str| {
            let error = read(json).check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let config = read(r#"{"sentinel": {"master": "main", "nodes": ["redis://:hunter2@s1:26379"]}}"#);
        config.check().unwrap();
        let shown = r#""main" of the Sentinels redis://:***@s1:26379"#;
        assert_eq!(config.place(), shown);
        check("{}", "redis.url is missing");
        check(
            r#"{"sentinel": {"master": "", "nodes": []}}"#,
            "redis.sentinel.master",
        );
        check(
            r#"{"sentinel": {"master": "m", "nodes": []}}"#,
            "redis.sentinel.nodes",
        );
        check(
            r#"{"url": "redis://a", "sentinel": {"master": "m", "nodes": ["redis://a"]}}"#,
            "both set",
        );
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused_by_key() {
        let config = Config::new(RedisUrl::parse("redis://cache").unwrap());
        let check = |config: Config, key: &str| {
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        };
        for prefix in ["", "a b", "a{b", "é"] {
            let prefix = prefix.to_owned();
            check(
                Config {
                    prefix,
                    ..config.clone()
                },
                "redis.prefix",
            );
        }
        let zero = Duration::ZERO;
        check(
            Config {
                connect_timeout: zero,
                ..config.clone()
            },
            "redis.connect_timeout",
        );
        check(
            Config {
                command_timeout: zero,
                ..config
            },
            "redis.command_timeout",
        );
    }

    #[test]
    fn the_password_is_not_printed() {
        let config = Config::new(RedisUrl::parse("redis://me:hunter2@cache").unwrap());
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    }
}
