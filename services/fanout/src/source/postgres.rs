//! A table of PostgreSQL as a source: a transactional outbox, whose rows are published in the order of their partition
//! and deleted.
//!
//! The table's partitions are shared out over 64 lanes. A node takes a lane by an advisory lock of its session, reads what
//! is there, publishes, deletes, and lets go of the lane: so a partition is in one node's hands at a time, nodes share the
//! work without knowing of each other, and what a dead node had is free as soon as its session has ended. Should a node
//! not know yet that its session is gone, two publish the same rows in the same order, and the bus knows repeats: whoever
//! is first with a row, its predecessors were published.
//!
//! [`place`] and `tls` connect, [`table`] speaks SQL, [`row`] makes an event of a row, [`lane`] publishes those of one lane,
//! [`blocked`] remembers partitions that wait, and [`relay`] decides when. `examine` looks at it for `tidings doctor`.

mod blocked;
mod examine;
mod lane;
pub(super) mod place;
pub(super) mod relay;
mod row;
mod table;
mod tls;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tidings_core::Secret;

pub use self::examine::examine;

/// The most rows that are read of a lane at once.
const MAX_BATCH: u16 = 1000;

/// `[source.postgres]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `postgres://user:password@host:5432/database`. With TLS, unless the host is this machine or the URL says
    /// `?sslmode=disable`.
    pub url: Secret,
    /// The certificates in PEM by which the server is known, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate in PEM, for a server that asks for one, with `key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// The key of our own certificate, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The table, or `schema.table`. Default `tidings_outbox`.
    #[serde(default = "default_table")]
    pub table: String,
    /// The most rows that are read of a lane at once, 1 to 1000. Default 100.
    #[serde(default = "default_batch")]
    pub batch: u16,
    /// How often rows are looked for that no notification told of, 50 ms to 1 min. Default 1 s.
    #[serde(default = "default_poll", with = "humantime_serde")]
    pub poll: Duration,
    /// How often a row is tried that is refused, though not for good, before it is set aside; 1 to 1000. Default 5.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
}

impl Config {
    /// The key below `source` that is wrong, and why. Reads the files that are named, and connects to nothing.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        place::Place::new(self)?;
        table::Name::parse(&self.table).map_err(|why| ("postgres.table", why))?;
        if !(1..=MAX_BATCH).contains(&self.batch) {
            let why = format!("is {}; set it from 1 to {MAX_BATCH}", self.batch);
            return Err(("postgres.batch", why));
        }
        if !(Duration::from_millis(50)..=Duration::from_secs(60)).contains(&self.poll) {
            return Err((
                "postgres.poll",
                "is out of range; set it from 50ms to 1m".to_owned(),
            ));
        }
        if !(1..=1000).contains(&self.attempts) {
            let why = format!("is {}; set it from 1 to 1000", self.attempts);
            return Err(("postgres.attempts", why));
        }
        Ok(())
    }
}

fn default_table() -> String {
    "tidings_outbox".to_owned()
}

fn default_batch() -> u16 {
    100
}

fn default_poll() -> Duration {
    Duration::from_secs(1)
}

fn default_attempts() -> u32 {
    5
}
