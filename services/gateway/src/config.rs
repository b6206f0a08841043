//! The clients' door: `[clients]` in the configuration.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use tidings_auth::token;

use crate::{addresses::Proxies, backend, origin::Origins};

/// What clients may do and how much of it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Pages that may connect, by their origins: `https://app.example.com`, `https://*.example.com`, or `*` for all. A client
    /// that sends no `Origin` is no browser and is let in.
    pub allowed_origins: Vec<String>,
    /// The proxies in front of us, as networks (`10.0.0.0/8`) or addresses: their `X-Forwarded-For` says where a client is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// Clients without a token are let in, as nobody.
    pub allow_anonymous: bool,
    /// No permission is checked. Only `tidings dev` sets it.
    pub insecure: bool,
    /// How tokens are checked.
    pub token: token::Config,
    /// How subscription tokens are checked; absent: as connection tokens are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_token: Option<token::Config>,
    /// Every client with a user hears `NAMESPACE:#USER` without asking; with "", it is `#USER`. Absent: none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personal_namespace: Option<String>,
    /// What the user's backend decides, and where it is.
    pub proxy: backend::Config,
    /// What one client may use.
    pub limits: Limits,
    /// Threads that hold connections; absent: one per processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<NonZeroUsize>,
}

/// What one client may use: `[clients.limits]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one message from a client.
    pub message_size: ByteSize,
    /// Channels per client.
    pub channels: usize,
    /// Commands per second and client; four seconds' worth may come at once.
    pub commands_per_second: u32,
    /// Connections of this node.
    pub connections: usize,
    /// Connections of one user to this node; who has none is not counted.
    pub connections_per_user: usize,
    /// Connections from one address, or from one /64 network of IPv6, to this node.
    pub connections_per_address: usize,
    /// Bytes that may wait for a client that reads slowly.
    pub outbox: ByteSize,
    /// How often clients are pinged; longer than `pong_timeout`.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// How long they may take to answer.
    #[serde(with = "humantime_serde")]
    pub pong_timeout: Duration,
    /// How long they may take to say who they are.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 8000).into(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            allow_anonymous: false,
            insecure: false,
            token: token::Config::default(),
            subscription_token: None,
            personal_namespace: None,
            proxy: backend::Config::default(),
            limits: Limits::default(),
            cores: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: ByteSize::kib(64),
            channels: 128,
            commands_per_second: 50,
            connections: 100_000,
            connections_per_user: 32,
            connections_per_address: 1000,
            outbox: ByteSize::mib(1),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// A value that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Error {
    /// The key's full name.
    pub key: Cow<'static, str>,
    /// What is wrong, and what to do.
    pub why: String,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |key, why: &str| Err(wrong(key)(why));
        self.origins()?;
        self.proxies()?;
        self.proxy.check()?;
        let limits = &self.limits;
        if limits.message_size.0 == 0 || limits.message_size > ByteSize::mib(64) {
            return fail("clients.limits.message_size", "must be between 1B and 64MiB");
        }
        if limits.outbox < limits.message_size {
            return fail(
                "clients.limits.outbox",
                "must not be smaller than clients.limits.message_size",
            );
        }
        for (key, value) in [
            ("clients.limits.channels", limits.channels),
            ("clients.limits.connections", limits.connections),
            ("clients.limits.connections_per_user", limits.connections_per_user),
            (
                "clients.limits.connections_per_address",
                limits.connections_per_address,
            ),
        ] {
            if value == 0 {
                return fail(key, "must be at least 1");
            }
        }
        if limits.commands_per_second == 0 {
            return fail("clients.limits.commands_per_second", "must be at least 1");
        }
        if limits.ping_interval < Duration::from_secs(1) {
            return fail("clients.limits.ping_interval", "must be at least 1s");
        }
        if limits.pong_timeout >= limits.ping_interval || limits.pong_timeout.is_zero() {
            return fail(
                "clients.limits.pong_timeout",
                "must be shorter than clients.limits.ping_interval, and not 0",
            );
        }
        if limits.connect_timeout.is_zero() {
            return fail("clients.limits.connect_timeout", "must be longer than 0");
        }
        if self
            .cores
            .is_some_and(|cores| cores.get() > crate::interest::MOST_CORES)
        {
            return fail("clients.cores", "must be at most 64");
        }
        Ok(())
    }

    pub(crate) fn origins(&self) -> Result<Origins, Error> {
        Origins::new(&self.allowed_origins).map_err(wrong("clients.allowed_origins"))
    }

    pub(crate) fn proxies(&self) -> Result<Proxies, Error> {
        Proxies::new(&self.trusted_proxies).map_err(wrong("clients.trusted_proxies"))
    }
}

fn wrong<E: ToString>(key: &'static str) -> impl Fn(E) -> Error {
    move |why| Error {
        key: key.into(),
        why: why.to_string(),
    }
}
