//! The store in Redis: three kinds of keys, none of them touched for a client that merely stays.
//!
//! | key | type | what |
//! |---|---|---|
//! | `tidings:gateways` | sorted set | each [`Lease`], by the time it ends in Unix milliseconds of Redis' own clock; 0: ended on purpose |
//! | `tidings:presence:{CHANNEL}` | hash | client id → the lease it is under, since when, `+` when it is announced; a line feed; the encoded info |
//! | `tidings:gateway:{LEASE}:members` | set | `CHANNEL CLIENT` of what was written under the lease, to find it when the lease ends |
//!
//! Joins and leaves are announced in `tidings:ch:{CHANNEL}` by the script that writes and removes members, in the same
//! step: the two cannot come apart, whoever dies when, and of all who remove a member at once only the one that did it
//! announces it. After the fact, by whoever won the removal, a leave would be lost with a replica that dies in between,
//! and could overtake the join of the same member's next stay. What remains is Redis itself: a failover that loses its
//! newest writes may have a leave announced that is then made, and announced, again.
//!
//! No command and no script touches two hash tags, so every key may live on another node of a cluster. What
//! has to happen together is put in an order instead: a member is named in its lease's set before it is
//! written, and removed before it is taken out of the set. A crash in between leaves a name too many, never a
//! member that nobody finds again, with one exception: a write that comes after its lease was swept, by a writer that
//! then does not live to end the lease again. What it wrote is never visible, but stays.

mod entry;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use deadpool_redis::Pool;
use redis::{FromRedisValue, Pipeline, Script};
use tidings_broker::redis::{PUBLISH, channel_name};
use tidings_core::{Channel, ClientId};

use super::{Applied, Changes, Error, Page, SWEEP_PAGE, Stats, Swept, Which};
use crate::member::{GatewayId, Lease, MemberId};

/// How long one exchange may take, so that a Redis that hangs becomes an error while callers still wait.
const TIMEOUT: Duration = Duration::from_millis(1500);

#[derive(Clone)]
pub(super) struct Redis {
    pool: Pool,
    keys: Keys,
    scripts: Arc<Scripts>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("keys", &self.keys)
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

    /// Where joins and leaves are announced.
    fn bus(&self, channel: &Channel) -> String {
        channel_name(&self.prefix, channel)
    }

    fn members(&self, lease: &Lease) -> String {
        format!("{}:gateway:{{{lease}}}:members", self.prefix)
    }
}

/// Each with one key, so that it runs where that key lives.
struct Scripts {
    attach: Script,
    renew: Script,
    supersede: Script,
    leases: Script,
    apply: Script,
}

/// Its text too: a pipeline has to load it by itself.
const APPLY: &str = include_str!("redis/apply.lua");

impl Redis {
    pub(super) fn new(pool: Pool, prefix: &str) -> Self {
        let scripts = Scripts {
            attach: Script::new(include_str!("redis/attach.lua")),
            renew: Script::new(include_str!("redis/renew.lua")),
            supersede: Script::new(include_str!("redis/supersede.lua")),
            leases: Script::new(include_str!("redis/leases.lua")),
            apply: Script::new(APPLY),
        };
        Self {
            pool,
            keys: Keys {
                prefix: prefix.into(),
            },
            scripts: Arc::new(scripts),
        }
    }

    pub(super) async fn attach(&self, gateway: &GatewayId, length: Duration) -> Result<Lease, Error> {
        let serial = self
            .run(&self.scripts.attach, &[gateway.as_str(), &millis(length)])
            .await?;
        Ok(Lease {
            gateway: gateway.clone(),
            serial,
        })
    }

    pub(super) async fn renew(&self, lease: &Lease, length: Duration) -> Result<bool, Error> {
        self.run(&self.scripts.renew, &[&lease.to_string(), &millis(length)])
            .await
    }

    pub(super) async fn supersede(&self, lease: &Lease) -> Result<(), Error> {
        self.run(&self.scripts.supersede, &[&lease.to_string()]).await
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
        let leases: Vec<String> = self.run(&self.scripts.leases, &[which]).await?;
        Ok(leases.iter().filter_map(|text| Lease::parse(text)).collect())
    }

    pub(super) async fn apply(&self, lease: &Lease, changes: Changes) -> Result<Applied, Error> {
        let (mut comers, mut goers) = (Vec::new(), Vec::new());
        for (channel, members) in &changes {
            for (client, member) in members {
                let names = if member.is_some() { &mut comers } else { &mut goers };
                names.push(entry::name(channel, *client));
            }
        }
        self.index("SADD", lease, &comers).await?;
        let applied = self.write(lease, &changes).await?;
        self.index("SREM", lease, &goers).await?;
        Ok(applied)
    }

    pub(super) async fn sweep(&self, lease: &Lease) -> Result<Swept, Error> {
        let mut pipeline = redis::pipe();
        // Random ones: replicas that sweep the same lease mostly meet different members.
        pipeline
            .cmd("SRANDMEMBER")
            .arg(self.keys.members(lease))
            .arg(SWEEP_PAGE);
        let (names,): (Vec<Vec<u8>>,) = self.send(&pipeline).await?;
        if names.is_empty() {
            return Ok(Swept {
                left: Vec::new(),
                done: self.forget(lease).await?,
            });
        }
        let mut changes = Changes::new();
        // A name that cannot be read is nobody's: it only goes out of the set.
        for MemberId { channel, client } in names.iter().filter_map(|name| entry::parse_name(name)) {
            changes.entry(channel).or_default().insert(client, None);
        }
        let left = self.write(lease, &changes).await?.left;
        self.index("SREM", lease, &names).await?;
        Ok(Swept { left, done: false })
    }

    /// Takes a swept lease off the list; `false` when a late write has come in between.
    async fn forget(&self, lease: &Lease) -> Result<bool, Error> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("ZREM")
            .arg(self.keys.gateways())
            .arg(lease.to_string())
            .ignore();
        self.send::<()>(&pipeline).await?;
        // A late writer writes first and puts the lease on the list again afterwards. Looking only now, either
        // its write is seen here, or its lease is listed after it was taken off, provided that the writer lives on.
        let mut pipeline = redis::pipe();
        pipeline.cmd("EXISTS").arg(self.keys.members(lease));
        let (written,): (bool,) = self.send(&pipeline).await?;
        if written {
            self.end(lease).await?;
        }
        Ok(!written)
    }

    pub(super) async fn members(
        &self,
        channel: &Channel,
        after: Option<ClientId>,
        limit: usize,
    ) -> Result<Page, Error> {
        let mut visible = self.visible(channel).await?;
        // Sorted as text, which is how client ids sort.
        let rest = match after {
            Some(after) => visible.split_off(after.to_string().as_bytes()),
            None => visible,
        };
        let mut rest = rest
            .iter()
            .filter_map(|(client, value)| entry::decode(channel, client, value))
            .filter(|(member, _)| after.is_none_or(|after| member.info.client > after));
        let members = rest.by_ref().take(limit).collect();
        Ok(Page {
            members,
            more: rest.next().is_some(),
        })
    }

    pub(super) async fn stats(&self, channel: &Channel) -> Result<Stats, Error> {
        let visible = self.visible(channel).await?;
        let members = visible
            .iter()
            .filter_map(|(client, value)| entry::decode(channel, client, value));
        Ok(Stats::count(members.map(|(member, _)| member.info.user)))
    }

    /// A channel's entries under leases that live.
    async fn visible(&self, channel: &Channel) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut live = self.live().await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.keys.presence(channel));
        let (mut entries,): (BTreeMap<Vec<u8>, Vec<u8>>,) = self.send(&pipeline).await?;
        let is_live = |live: &HashSet<Vec<u8>>, value: &[u8]| {
            entry::lease(value).is_some_and(|lease| live.contains(lease))
        };
        if !entries.values().all(|value| is_live(&live, value)) {
            // A dead gateway's, or those of one that attached again between the two reads: they must not vanish.
            live.extend(self.live().await?);
            entries.retain(|_, value| is_live(&live, value));
        }
        Ok(entries)
    }

    async fn live(&self) -> Result<HashSet<Vec<u8>>, Error> {
        Ok(self
            .leases(Which::Live)
            .await?
            .iter()
            .map(|lease| lease.to_string().into_bytes())
            .collect())
    }

    /// Writes and removes members, and announces it, one script call per channel, all in one exchange.
    async fn write(&self, lease: &Lease, changes: &Changes) -> Result<Applied, Error> {
        if changes.is_empty() {
            return Ok(Applied::default());
        }
        let lease = lease.to_string();
        let mut pipeline = redis::pipe();
        // Costs microseconds a batch, and a Redis that was restarted needs no second exchange.
        pipeline.cmd("SCRIPT").arg("LOAD").arg(APPLY).ignore();
        for (channel, members) in changes {
            pipeline
                .cmd("EVALSHA")
                .arg(self.scripts.apply.get_hash())
                .arg(1)
                .arg(self.keys.presence(channel))
                .arg(&lease)
                .arg(PUBLISH)
                .arg(self.keys.bus(channel));
            for (client, member) in members {
                let value = member
                    .as_ref()
                    .map(|member| entry::encode(&lease, member))
                    .unwrap_or_default();
                pipeline.arg(client.to_string()).arg(value);
            }
        }
        let answers: Vec<(Vec<i8>, String)> = self.send(&pipeline).await?;
        if let Some((channel, (_, why))) = changes.keys().zip(&answers).find(|(_, (_, why))| !why.is_empty())
        {
            tracing::error!(
                channel.name = %channel,
                "Redis does not let joins and leaves be announced: {why}; allow its user `{PUBLISH}` to {}",
                self.keys.bus(channel)
            );
        }

        let ids = changes.iter().flat_map(|(channel, members)| {
            members.keys().map(|client| MemberId {
                channel: channel.clone(),
                client: *client,
            })
        });
        let mut applied = Applied::default();
        for (id, effect) in ids.zip(answers.into_iter().flat_map(|(effects, _)| effects)) {
            match effect {
                1 => applied.joined.push(id),
                -1 => applied.left.push(id),
                _ => {}
            }
        }
        Ok(applied)
    }

    /// Adds names to a lease's set, or takes them out.
    async fn index(&self, command: &str, lease: &Lease, names: &[Vec<u8>]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline
            .cmd(command)
            .arg(self.keys.members(lease))
            .arg(names)
            .ignore();
        self.send(&pipeline).await
    }

    /// Runs a script on the leases.
    async fn run<T: FromRedisValue>(&self, script: &Script, args: &[&str]) -> Result<T, Error> {
        let exchange = async {
            let mut connection = self.pool.get().await.map_err(unavailable)?;
            let mut call = script.key(self.keys.gateways());
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

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}

fn millis(length: Duration) -> String {
    length.as_millis().to_string()
}
