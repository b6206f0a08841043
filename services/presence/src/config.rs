//! The `[presence]` table.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::store::{Options, Per};

/// Where presence is, and how long it waits before it believes that somebody is gone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The internal door's address, when the role runs here. Default `0.0.0.0:9001`.
    pub listen: SocketAddr,
    /// Where gateways and fanout find presence when it does not run in their process: `http://presence:9001`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the gateway that runs here is called by presence: a [`GatewayId`](crate::member::GatewayId) that is the same after a
    /// restart, and no other's at any time. A gateway that comes back under it after a crash replaces its old self at
    /// once; without, under a name of its own each time, its old members stay until their lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// How long a gateway's members outlive its last heartbeat, 1 s to 10 min. Gateways ask for it when they
    /// attach. Shorter notices a dead gateway sooner; longer forgives longer pauses. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// Whether each client of a user joins and leaves as others hear of it (`"client"`), or the user with its first and
    /// last (`"user"`). Default `"client"`.
    pub per: Per,
    /// How long after it a leave is announced, unless who left is back: hides page reloads and restarts of gateways where
    /// `per` is `"user"`. At most an hour. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub leave_delay: Duration,
    /// How long it is kept when a user was last there; 0 s: not at all. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub last_seen: Duration,
    /// How many joins and leaves are kept for those who watch, about; 0: nobody can. Default 100,000.
    pub log: usize,
    /// In a channel with more members than this nobody is announced to the others one by one, which would be a message to
    /// each about each; 0: everywhere everyone is. Default 1,000.
    pub crowd: usize,
    /// How often those who watch are told how many have come and gone in such a channel. 100 ms to 10 min. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub crowd_interval: Duration,
}

/// The longest `leave_delay`.
pub const LEAVE_DELAY: Duration = Duration::from_secs(60 * 60);

/// What `crowd_interval` may be.
pub const CROWD_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

impl Config {
    /// How the store behaves under this configuration.
    #[must_use]
    pub const fn options(&self) -> Options {
        Options {
            per: self.per,
            leave_delay: self.leave_delay,
            last_seen: self.last_seen,
            log: self.log,
            crowd: self.crowd,
            crowd_interval: self.crowd_interval,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let Options {
            per,
            leave_delay,
            last_seen,
            log,
            crowd,
            crowd_interval,
        } = Options::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9001)),
            url: None,
            gateway: None,
            lease: Duration::from_secs(10),
            per,
            leave_delay,
            last_seen,
            log,
            crowd,
            crowd_interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_says_nothing_is_the_default_and_a_full_one_is_itself() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        let full = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7001)),
            url: Some("http://presence:9001".to_owned()),
            gateway: Some("gateway-0".to_owned()),
            lease: Duration::from_millis(2500),
            per: Per::User,
            leave_delay: Duration::from_secs(5),
            last_seen: Duration::ZERO,
            log: 7,
            crowd: 8,
            crowd_interval: Duration::from_secs(9),
        };
        let text = toml::to_string(&full).unwrap();
        assert!(text.contains(r#"lease = "2s 500ms""#), "{text}");
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), full);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Config>("leese = '10s'").unwrap_err();
        assert!(error.to_string().contains("leese"), "{error}");
    }
}
