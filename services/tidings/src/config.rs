//! The whole configuration: each component's own, composed, loaded and checked before anything starts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_auth::{Minter, Verifier, token};
use tidings_broker as broker;
use tidings_core::{Namespace, Namespaces};
use tidings_fanout as fanout;
use tidings_gateway as gateway;
use tidings_presence as presence;
use tidings_runtime::{
    config::{self, Source},
    operators,
};

use crate::{doors::Doors, failure::Failure, grpc, platform, roles::Roles};

/// Variables with our prefix that are no configuration: the tools' credentials, and what the tests read.
pub(crate) const RESERVED: &[&str] = &[
    "TIDINGS_API_KEY",
    "TIDINGS_TOKEN",
    "TIDINGS_BIN",
    "TIDINGS_REQUIRE_NODE",
    "TIDINGS_REQUIRE_POSTGRES",
    "TIDINGS_REQUIRE_REDIS",
];

/// The table of the keys of connection tokens.
pub(crate) const TOKEN: &str = "clients.token";

/// The table of the keys of subscription tokens, where they have some of their own.
pub(crate) const SUBSCRIPTION_TOKEN: &str = "clients.subscription_token";

/// Everything that can be configured. `tidings.example.toml` shows the keys.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The bus between nodes. Absent: the embedded broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<broker::redis::Config>,
    /// The clients' door.
    pub(crate) clients: gateway::Config,
    /// The backends' door.
    pub(crate) backends: fanout::Config,
    /// The operators' door.
    pub(crate) operators: operators::Config,
    /// Where presence is, and how patient.
    pub(crate) presence: presence::Config,
    /// How a node leaves.
    pub(crate) drain: Drain,
    /// What channels offer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) namespace: Vec<Namespace>,
    /// Which channels hear of which events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) route: Vec<fanout::Route>,
    /// Where events are taken from that no backend sends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) source: Vec<fanout::source::Config>,
}

/// How a node leaves: `[drain]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Drain {
    /// Clients are closed a few at a time over this long, so that they do not all come back at once. Default 20 s.
    #[serde(with = "humantime_serde")]
    pub(crate) over: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            over: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// Reads the file and the environment. What is wrong whatever the process will do is said here.
    pub(crate) fn load(source: &Source) -> Result<Self, Failure> {
        let mut config = Self::read(source)?;
        config.redis = platform::redis(config.redis, &source.environment)?;
        config.place(Doors::load(source)?);
        config.check()?;
        config
            .routes()?
            .check(&config.namespaces()?)
            .map_err(Failure::usage)?;
        Ok(config)
    }

    /// The same for `tidings dev`: open to everyone on this machine, and to nobody else. Redis is not used, whatever
    /// the file or the platform says of it, and no events are taken from elsewhere: they are other people's.
    pub(crate) fn load_for_dev(source: &Source) -> Result<Self, Failure> {
        let mut config = Self::read(source)?;
        config.redis = None;
        config.source.clear();
        config.place(Doors::load(source)?.on_loopback());
        config.check()?;
        config.clients.insecure = true;
        config.clients.allow_anonymous = true;
        config.clients.allowed_origins = vec!["*".to_owned()];
        config.backends.insecure = true;
        config.backends.tls().map_err(Failure::usage)?;
        // Nobody but the developer waits.
        config.drain.over = Duration::ZERO;
        Ok(config)
    }

    fn read(source: &Source) -> Result<Self, Failure> {
        Ok(config::load(&Source {
            reserved: RESERVED,
            ..source.clone()
        })?)
    }

    /// Puts the doors where they are to be.
    fn place(&mut self, doors: Doors) {
        self.clients.listen = doors.clients;
        self.backends.listen = doors.backends;
        self.operators.listen = doors.operators;
        self.presence.listen = doors.presence;
    }

    fn check(&self) -> Result<(), Failure> {
        if let Some(redis) = &self.redis {
            redis.check().map_err(Failure::usage)?;
        }
        self.clients.check().map_err(Failure::usage)?;
        self.clients
            .proxy
            .serve(&self.namespace)
            .map_err(Failure::usage)?;
        self.verifier()?;
        self.subscription_verifier()?;
        match self.backends.check() {
            // Only some roles need one: see `require`.
            Ok(_) | Err(fanout::config::Error::NoKeys) => {}
            Err(error) => return Err(Failure::usage(error)),
        }
        self.namespaces()?;
        self.personal_namespace()?;
        self.routes()?;
        fanout::source::check(&self.source, self.redis.is_some()).map_err(Failure::usage)?;
        if !presence::member::LEASE.contains(&self.presence.lease) {
            return Err(Failure::usage(
                "`presence.lease`: expected a duration from 1s to 10m",
            ));
        }
        if self.presence.leave_delay > presence::config::LEAVE_DELAY {
            return Err(Failure::usage(
                "`presence.leave_delay`: expected a duration up to 1h",
            ));
        }
        if !presence::config::CROWD_INTERVAL.contains(&self.presence.crowd_interval) {
            return Err(Failure::usage(
                "`presence.crowd_interval`: expected a duration from 100ms to 10m",
            ));
        }
        if let Some(gateway) = &self.presence.gateway {
            presence::member::GatewayId::parse(gateway)
                .map_err(|error| Failure::usage(format!("`presence.gateway`: {error}")))?;
        }
        if let Some(url) = &self.presence.url {
            grpc::endpoint(url).map_err(|error| Failure::usage(format!("`presence.url`: {error}")))?;
        }
        Ok(())
    }

    /// Says what is missing for a process that runs `roles` and lets nobody in unasked.
    pub(crate) fn require(&self, roles: Roles) -> Result<(), Failure> {
        for (insecure, key) in [
            (self.clients.insecure, "clients"),
            (self.backends.insecure, "backends"),
        ] {
            if insecure {
                let why =
                    format!("`{key}.insecure` lets everyone in, and is for `tidings dev` alone: remove it");
                return Err(Failure::usage(why));
            }
        }
        let needs = |what: &str| Err(Failure::usage(format!("`tidings {}` needs {what}", roles.name())));
        if self.redis.is_none() && !roles.all() {
            return needs("Redis: set `redis.url`, or REDIS_URL in the environment");
        }
        if roles.gateway && self.verifier()?.is_none() && self.clients.proxy.connect.is_none() {
            return needs(
                "a way to know clients: set `clients.token.hmac_secret` to at least 32 random bytes, or \
                 `clients.token.public_key_file`, or `clients.token.jwks_url`, or have your backend decide with \
                 `clients.proxy.connect`",
            );
        }
        if roles.gateway && !roles.presence && self.presence.url.is_none() {
            return needs("to know where presence is: set `presence.url`, such as http://presence:9001");
        }
        if roles.fanout && self.backends.key.is_empty() {
            return needs("an API key to ask for: add a [[backends.key]] with a `name` and a `key`");
        }
        if roles.fanout {
            self.backends.tls().map_err(Failure::usage)?;
        }
        Ok(())
    }

    /// Which channels hear of which events.
    pub(crate) fn routes(&self) -> Result<fanout::Routes, Failure> {
        fanout::Routes::compile(&self.route).map_err(Failure::usage)
    }

    /// What channels offer.
    pub(crate) fn namespaces(&self) -> Result<Namespaces, Failure> {
        Namespaces::new(self.namespace.clone()).map_err(Failure::usage)
    }

    /// Whether the channels that users are to hear unasked are in a namespace that there is.
    fn personal_namespace(&self) -> Result<(), Failure> {
        match &self.clients.personal_namespace {
            Some(name) if self.namespace.iter().all(|namespace| namespace.name != *name) => {
                Err(Failure::usage(format!(
                    "`clients.personal_namespace`: there is no [[namespace]] with the name {name:?}; add it, with the \
                     options of these channels"
                )))
            }
            _ => Ok(()),
        }
    }

    /// What checks connection tokens; `None` when no key is configured.
    pub(crate) fn verifier(&self) -> Result<Option<Verifier>, Failure> {
        self.clients.token.verifier().map_err(token_failure(TOKEN))
    }

    /// What checks subscription tokens; `None` when they have no keys of their own.
    pub(crate) fn subscription_verifier(&self) -> Result<Option<Verifier>, Failure> {
        let Some(keys) = &self.clients.subscription_token else {
            return Ok(None);
        };
        let verifier = keys.verifier().map_err(token_failure(SUBSCRIPTION_TOKEN))?;
        let verifier = verifier.ok_or_else(|| {
            Failure::usage(format!(
                "`{SUBSCRIPTION_TOKEN}` has no key: set its `hmac_secret`, `public_key_file` or `jwks_url`, or remove it to \
                 check subscription tokens by the keys of `clients.token`"
            ))
        })?;
        Ok(Some(verifier))
    }

    /// What signs connection tokens; `None` when there is no secret to sign with.
    pub(crate) fn minter(&self) -> Result<Option<Minter>, Failure> {
        self.clients.token.minter().map_err(token_failure(TOKEN))
    }

    /// What signs subscription tokens; `None` when there is no secret to sign with.
    pub(crate) fn subscription_minter(&self) -> Result<Option<Minter>, Failure> {
        match &self.clients.subscription_token {
            Some(keys) => keys.minter().map_err(token_failure(SUBSCRIPTION_TOKEN)),
            None => self.minter(),
        }
    }
}

fn token_failure(table: &str) -> impl FnOnce(token::config::Error) -> Failure + '_ {
    move |error| Failure::usage(format!("`{table}.{}`: {}", error.key, error.why))
}

#[cfg(test)]
mod tests;
