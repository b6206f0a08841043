//! A Redis stream as a source: its entries are shared by all nodes that read it in one consumer group.
//!
//! [`place`] connects, [`stream`] speaks to Redis, [`entry`] makes an event of an entry, [`in_flight`] keeps those that are not
//! done with in their order, [`round`] chooses those that are tried, and [`consumer`] decides what is done with each. `examine` looks at it for `tidings doctor`.

pub(super) mod consumer;
mod entry;
mod examine;
mod in_flight;
pub(super) mod place;
mod round;
mod stream;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_broker::redis::RedisUrl;
use tidings_core::Secret;

pub use self::examine::examine;

/// The most entries that are read and published at a time.
const MAX_BATCH: usize = 1000;

/// `[source.redis]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `redis://` or, with TLS, `rediss://`: where the stream is, unless it is in the node's own Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The key of the stream.
    pub stream: String,
    /// The consumer group, which all nodes share; created where there is none. Default `tidings`.
    #[serde(default = "default_group")]
    pub group: String,
    /// Where a group that is created begins. Default `oldest`.
    #[serde(default)]
    pub begin: Begin,
    /// The most entries that one node reads and publishes at a time, 1 to 1000. Default 100.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// How long an entry may be in the hands of a node that does not confirm it before another one takes it over; 1 s to 1 h,
    /// and at most half of the idempotency window, within which a repeat is known as one. Default 30 s.
    #[serde(default = "default_claim_after", with = "humantime_serde")]
    pub claim_after: Duration,
    /// How often an entry is tried that is refused, though not for good, or whose node dies, before it is set aside; 1 to
    /// 1000. Default 5.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// The stream that entries are set aside in. Default: `stream` with `:dead` behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}

/// Where a new group begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// With the oldest entry that there is.
    #[default]
    Oldest,
    /// With what is added from then on.
    Newest,
}

impl Config {
    /// The key below `source` that is wrong, and why.
    /// `window`: how long a repeat is known.
    pub(super) fn check(&self, has_redis: bool, window: Duration) -> Result<(), (&'static str, String)> {
        let wrong = |key, why: &str| Err((key, why.to_owned()));
        match &self.url {
            Some(url) => {
                let address = RedisUrl::parse(url.expose());
                address.map_err(|why| ("redis.url", format!("is wrong: {why}")))?;
            }
            None if has_redis => {}
            None => {
                return wrong(
                    "redis.url",
                    "is missing, and the node has no Redis of its own; set it, or `redis.url`",
                );
            }
        }
        if self.stream.is_empty() {
            return wrong("redis.stream", "is empty");
        }
        if self.group.is_empty() {
            return wrong("redis.group", "is empty");
        }
        if !(1..=MAX_BATCH).contains(&self.batch) {
            return Err((
                "redis.batch",
                format!("is {}; set it from 1 to {MAX_BATCH}", self.batch),
            ));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(60 * 60)).contains(&self.claim_after) {
            return wrong("redis.claim_after", "is out of range; set it from 1s to 1h");
        }
        if self.claim_after > window / 2 {
            return wrong(
                "redis.claim_after",
                "is more than half of `source.idempotency_window`; set it lower",
            );
        }
        if !(1..=1000).contains(&self.attempts) {
            return Err((
                "redis.attempts",
                format!("is {}; set it from 1 to 1000", self.attempts),
            ));
        }
        match &self.dead_letter {
            Some(name) if name.is_empty() => wrong("redis.dead_letter", "is empty"),
            Some(name) if *name == self.stream => {
                wrong("redis.dead_letter", "is the stream itself; name another")
            }
            _ => Ok(()),
        }
    }

    fn dead_letter(&self) -> String {
        let default = || format!("{}:dead", self.stream);
        self.dead_letter.clone().unwrap_or_else(default)
    }
}

fn default_group() -> String {
    "tidings".to_owned()
}

fn default_batch() -> usize {
    100
}

fn default_claim_after() -> Duration {
    Duration::from_secs(30)
}

fn default_attempts() -> u32 {
    5
}
