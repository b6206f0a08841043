//! The store in Redis. No key is touched for a client that merely stays. `docs/presence.md` shows each with redis-cli.
//!
//! | key | type | what |
//! |---|---|---|
//! | `tidings:gateways` | sorted set | each [`Lease`], by the time it ends in Unix milliseconds of Redis' own clock; 0: ended on purpose |
//! | `tidings:gateway:{LEASE}:users` | set | `user:USER` and, of who has none, `client:CLIENT`, with members under the lease, to find these when it ends |
//! | `tidings:user:{USER}`, `tidings:client:{CLIENT}` | hash | `CHANNEL CLIENT` → serial of the lease; serial → how many; `seen` → when the last of them went |
//! | `tidings:presence:{CHANNEL}` | hash | client id → serial of the lease, since when, `+` when it is announced; a line feed; the encoded info |
//! | `tidings:presence:{CHANNEL}:leases`, `:users` | hash | serial, and user → how many members |
//! | `tidings:presence:{CHANNEL}:order` | sorted set | the client ids, once they are more than 1,000 |
//! | `tidings:presence:{CHANNEL}:announced` | hash | user → how many announced members, where users are announced once |
//! | `tidings:presence:{CHANNEL}:leaving` | hash | whose leave is announced later: when, and the info |
//! | `tidings:presence:{CHANNEL}:quiet` | set | who came when the channel was a crowd, and was not announced |
//! | `tidings:leaving` | sorted set | `CHANNEL CLIENT` by when to look for leaves to announce in the channel |
//! | `tidings:presence-log` | stream | the newest joins and leaves of all channels |
//!
//! Joins and leaves are announced in `tidings:ch:{CHANNEL}` by the script that writes and removes members, in the same
//! step: the two cannot come apart, whoever dies when, and of all who remove a member at once only the one that did it
//! announces it. After the fact, by whoever won the removal, a leave would be lost with a replica that dies in between,
//! and could overtake the join of the same member's next stay. What remains is Redis itself: a failover that loses its
//! newest writes may have a leave announced that is then made, and announced, again.
//!
//! But for the log, no command and no script touches two hash tags, so every key may live on another node of a Redis Cluster,
//! where there is no log. What has to happen together is put in an order instead: a user is named in its lease's set, and the place among the
//! user's, before the member is written, and these go after it. A crash in between leaves a name too many, which whoever
//! looks a user up compares with the members and the sweep removes; never a
//! member that nobody finds again, with one exception: a write that comes after its lease was swept, by a writer that
//! then does not live to end the lease again. What it wrote is never visible, but stays.

mod entry;
mod leaving;
mod log;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::{collections::HashMap, sync::Arc, time::Duration};

use redis::{FromRedisValue, Pipeline, Script};
use tidings_broker::redis::{Pool, channel_name};
use tidings_core::{Channel, ClientId};

use super::{Error, Options, Which};
use crate::member::{GatewayId, Lease};

/// How long one exchange may take, so that a Redis that hangs becomes an error while callers still wait.
const TIMEOUT: Duration = Duration::from_millis(1500);

#[derive(Clone)]
pub(super) struct Redis {
    pool: Pool,
    keys: Keys,
    scripts: Arc<Scripts>,
    options: Options,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("keys", &self.keys)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    fn gateways(&self) -> String {
        format!("{}:gateways", self.prefix)
    }

    fn presence(&self, channel: &Channel) -> String {
        format!("{}:presence:{{{channel}}}", self.prefix)
    }

    /// What is kept of a channel beside its members.
    fn beside(&self, channel: &Channel, what: &str) -> String {
        format!("{}:presence:{{{channel}}}:{what}", self.prefix)
    }

    /// Where joins and leaves are announced.
    fn bus(&self, channel: &Channel) -> String {
        channel_name(&self.prefix, channel)
    }

    /// Who has members under a lease.
    fn users(&self, lease: &Lease) -> String {
        format!("{}:gateway:{{{lease}}}:users", self.prefix)
    }

    /// Where somebody is.
    fn places(&self, who: &Who) -> String {
        match who {
            Who::User(user) => format!("{}:user:{{{user}}}", self.prefix),
            Who::Client(client) => format!("{}:client:{{{client}}}", self.prefix),
        }
    }

    /// When to look for leaves to announce.
    fn leaving(&self) -> String {
        format!("{}:leaving", self.prefix)
    }

    fn log(&self) -> String {
        format!("{}:presence-log", self.prefix)
    }
}

/// Whose places are kept together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    User(Arc<str>),
    /// It has no user.
    Client(ClientId),
}

impl Who {
    fn new(user: &str, client: ClientId) -> Self {
        if user.is_empty() {
            Self::Client(client)
        } else {
            Self::User(user.into())
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        match std::str::from_utf8(text).ok()?.split_once(':')? {
            ("user", user) => Some(Self::User(user.into())),
            ("client", client) => ClientId::parse(client).map(Self::Client),
            _ => None,
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{user}"),
            Self::Client(client) => write!(f, "client:{client}"),
        }
    }
}

struct Scripts {
    attach: Script,
    renew: Script,
    supersede: Script,
    leases: Script,
    apply: Script,
    places: Script,
    page: Script,
    stats: Script,
    look: Script,
    due: Script,
    looked: Script,
    settle: Script,
}

/// The text of those that pipelines load by themselves.
const APPLY: &str = concat!(include_str!("redis/field.lua"), include_str!("redis/apply.lua"));
const PLACES: &str = include_str!("redis/places.lua");
const SETTLE: &str = concat!(include_str!("redis/field.lua"), include_str!("redis/settle.lua"));

impl Redis {
    /// On a Cluster there is no log.
    pub(super) fn new(pool: Pool, prefix: &str, mut options: Options) -> Self {
        if pool.is_cluster() {
            options.log = 0;
        }
        let scripts = Scripts {
            attach: Script::new(include_str!("redis/attach.lua")),
            renew: Script::new(include_str!("redis/renew.lua")),
            supersede: Script::new(include_str!("redis/supersede.lua")),
            leases: Script::new(include_str!("redis/leases.lua")),
            apply: Script::new(APPLY),
            places: Script::new(PLACES),
            page: Script::new(include_str!("redis/page.lua")),
            stats: Script::new(include_str!("redis/stats.lua")),
            look: Script::new(include_str!("redis/look.lua")),
            due: Script::new(include_str!("redis/due.lua")),
            looked: Script::new(include_str!("redis/looked.lua")),
            settle: Script::new(SETTLE),
        };
        Self {
            pool,
            keys: Keys {
                prefix: prefix.into(),
            },
            scripts: Arc::new(scripts),
            options,
        }
    }

    pub(super) async fn attach(&self, gateway: &GatewayId, length: Duration) -> Result<Lease, Error> {
        let serial = self
            .on_leases(&self.scripts.attach, &[gateway.as_str(), &millis(length)])
            .await?;
        Ok(Lease {
            gateway: gateway.clone(),
            serial,
        })
    }

    pub(super) async fn renew(&self, lease: &Lease, length: Duration) -> Result<bool, Error> {
        self.on_leases(&self.scripts.renew, &[&lease.to_string(), &millis(length)])
            .await
    }

    pub(super) async fn supersede(&self, lease: &Lease) -> Result<(), Error> {
        self.on_leases(&self.scripts.supersede, &[&lease.to_string()])
            .await
    }

    pub(super) async fn end(&self, lease: &Lease) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("ZADD")
            .arg(self.keys.gateways())
            .arg(0)
            .arg(lease.to_string())
            .ignore();
        self.send(&pipeline).await
    }

    pub(super) async fn leases(&self, which: Which) -> Result<Vec<Lease>, Error> {
        let which = match which {
            Which::Live => "live",
            Which::Ended => "ended",
        };
        let leases: Vec<String> = self.on_leases(&self.scripts.leases, &[which]).await?;
        Ok(leases.iter().filter_map(|text| Lease::parse(text)).collect())
    }

    /// The gateways whose leases live, by the leases' serials.
    async fn live(&self) -> Result<HashMap<u64, GatewayId>, Error> {
        let live = self.leases(Which::Live).await?;
        Ok(live
            .into_iter()
            .map(|lease| (lease.serial, lease.gateway))
            .collect())
    }

    async fn on_leases<T: FromRedisValue>(&self, script: &Script, args: &[&str]) -> Result<T, Error> {
        self.run(script, &[self.keys.gateways()], args).await
    }

    /// Runs one script.
    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&str],
    ) -> Result<T, Error> {
        let exchange = async {
            let mut connection = self.pool.get().await.map_err(unavailable)?;
            let mut call = script.prepare_invoke();
            for key in keys {
                call.key(key);
            }
            for arg in args {
                call.arg(arg);
            }
            call.invoke_async(&mut connection).await.map_err(unavailable)
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(unavailable)?
    }

    async fn send<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Error> {
        let exchange = async {
            let mut connection = self.pool.get().await.map_err(unavailable)?;
            pipeline.query_async(&mut connection).await.map_err(unavailable)
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(unavailable)?
    }
}

/// A pipeline that loads a script first: that costs microseconds a batch, and a Redis that was restarted needs no second
/// exchange.
fn loading(script: &str) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SCRIPT").arg("LOAD").arg(script).ignore();
    pipeline
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}

fn millis(length: Duration) -> String {
    length.as_millis().to_string()
}
