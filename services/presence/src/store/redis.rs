//! The store in Redis. No key is touched for a client that merely stays. `docs/presence.md` shows each with redis-cli.
//!
//! | key | type | what |
//! |---|---|---|
//! | `tidings:{leases}` | hash | each [`Lease`] → when it ends in Unix milliseconds of Redis' own clock (0: ended on purpose), and its length; `answered`, `born`, `scrubbed`, `generations` |
//! | `tidings:{leases}:LEASE:users` | set | `user:USER` and, of who has none, `client:CLIENT`, with members under the lease, to find these when it ends; `at:CHANNEL CLIENT` where the user's own key could not be written |
//! | `tidings:user:{USER}`, `tidings:client:{CLIENT}` | hash | `CHANNEL CLIENT` → serial of the lease; serial → how many; `seen` → when the last of them went |
//! | `tidings:presence:{CHANNEL}` | hash | client id → serial of the lease, since when, `+` when it is announced; a line feed; the encoded info |
//! | `tidings:presence:{CHANNEL}:leases`, `:users` | hash | serial, and user → how many members |
//! | `tidings:presence:{CHANNEL}:order` | sorted set | the client ids, once they are more than 1,000 |
//! | `tidings:presence:{CHANNEL}:announced` | hash | user → how many announced members, where users are announced once |
//! | `tidings:presence:{CHANNEL}:leaving` | hash | whose leave is announced later: when, and the info |
//! | `tidings:presence:{CHANNEL}:quiet` | set | who came when the channel was a crowd, and was not announced |
//! | `tidings:{leases}:leaving` | sorted set | `CHANNEL CLIENT` by when to look for leaves to announce in the channel |
//! | `tidings:presence-log` | stream | the newest joins and leaves of all channels |
//!
//! Joins and leaves are announced in `tidings:ch:{CHANNEL}` by the script that writes and removes members, in the same
//! step: the two cannot come apart, whoever dies when, and of all who remove a member at once only the one that did it
//! announces it. After the fact, by whoever won the removal, a leave would be lost with a replica that dies in between,
//! and could overtake the join of the same member's next stay. What remains is Redis itself: a failover that loses its
//! newest writes may have a leave announced that is then made, and announced, again.
//!
//! But for the log, no command and no script touches two hash tags, so every key may live on another node of a Redis Cluster,
//! where there is no log. Each primary fails alone: what belongs to one that is unavailable is reported as failed, member by
//! member, and the rest is done. Only leases, and what finds their members again, have one slot for all; without it
//! nothing can be written. What has to happen together is put in an order instead: a user is named in its lease's set, and the place among the
//! user's, before the member is written, and these go after it. A crash in between leaves a name too many, which whoever
//! looks a user up compares with the members and the sweep removes; never a
//! member that nobody finds again, with one exception: a write that comes after its lease was swept, by a writer that
//! then does not live to end the lease again (`unconfirmed`). What it wrote is never visible, but stays until the next scrub.

mod announced;
mod entry;
mod leaving;
mod log;
mod read;
mod scrub;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tidings_broker::redis::{Pool, channel_name};
use tidings_core::{Channel, ClientId};

use super::{Ended, EndedAgain, Epoch, Error, Options, Renewed};
use crate::member::{GatewayId, Lease};

/// What a lease is taken for in a process that knows of none, in milliseconds: what it is by default.
const UNKNOWN_LEASE: u64 = 10_000;

/// How long one exchange may take, so that a Redis that hangs becomes an error while callers still wait.
const TIMEOUT: Duration = Duration::from_millis(1500);

#[derive(Clone)]
pub(super) struct Redis {
    pool: Pool,
    keys: Keys,
    scripts: Arc<Scripts>,
    options: Options,
    /// The longest lease that this process has been asked for, in milliseconds.
    longest: Arc<AtomicU64>,
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
    /// The leases. Everything under their hash tag is in one slot.
    fn leases(&self) -> String {
        format!("{}:{{leases}}", self.prefix)
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
        format!("{}:{lease}:users", self.leases())
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
        format!("{}:leaving", self.leases())
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
    end_again: Script,
    live: Script,
    ended: Script,
    generations: Script,
    apply: Script,
    places: Script,
    page: Script,
    announced: Script,
    stats: Script,
    look: Script,
    due: Script,
    looked: Script,
    settle: Script,
}

/// Puts the text of `judge.lua`, or of another script that is not one by itself, before a script.
macro_rules! script {
    ($($file:literal),+) => {
        Script::new(concat!($(include_str!(concat!("redis/", $file, ".lua"))),+))
    };
}

impl Scripts {
    fn new() -> Self {
        Self {
            attach: script!("judge", "attach"),
            renew: script!("judge", "renew"),
            supersede: script!("judge", "supersede"),
            end_again: script!("judge", "end_again"),
            live: script!("judge", "live"),
            ended: script!("judge", "ended"),
            generations: script!("judge", "generations"),
            apply: script!("field", "apply"),
            places: script!("places"),
            page: script!("page"),
            announced: script!("announced"),
            stats: script!("stats"),
            look: script!("look"),
            due: script!("due"),
            looked: script!("looked"),
            settle: script!("field", "settle"),
        }
    }
}

impl Redis {
    /// On a Cluster there is no log.
    pub(super) fn new(pool: Pool, prefix: &str, mut options: Options) -> Self {
        if pool.is_cluster() {
            options.log = 0;
        }
        Self {
            pool,
            keys: Keys {
                prefix: prefix.into(),
            },
            scripts: Arc::new(Scripts::new()),
            options,
            longest: Arc::default(),
        }
    }

    pub(super) async fn attach(
        &self,
        gateway: &GatewayId,
        length: Duration,
    ) -> Result<(Lease, Epoch), Error> {
        let in_ms = length.as_millis().try_into().unwrap_or(u64::MAX);
        self.longest.fetch_max(in_ms, Relaxed);
        let (serial, epoch) = self
            .on_leases(&self.scripts.attach, &[gateway.as_str(), &millis(length)])
            .await?;
        let lease = Lease {
            gateway: gateway.clone(),
            serial,
        };
        Ok((lease, Epoch(epoch)))
    }

    pub(super) async fn renew(&self, lease: &Lease, length: Duration) -> Result<Renewed, Error> {
        let answer: i64 = self
            .on_leases(&self.scripts.renew, &[&lease.to_string(), &millis(length)])
            .await?;
        Ok(match answer {
            1 => Renewed::Lives,
            0 => Renewed::Ended,
            _ => Renewed::Outdated,
        })
    }

    pub(super) async fn is_whole(&self) -> bool {
        self.pool.is_whole(TIMEOUT).await
    }

    pub(super) async fn supersede(&self, lease: &Lease) -> Result<(), Error> {
        self.on_leases(&self.scripts.supersede, &[&lease.to_string()])
            .await
    }

    pub(super) async fn end(&self, lease: &Lease) -> Result<(), Error> {
        let mut end = redis::cmd("HSET");
        end.arg(self.keys.leases()).arg(lease.to_string()).arg("0 0");
        self.one(None, end).await
    }

    pub(super) async fn end_again(&self, lease: &Lease) -> Result<EndedAgain, Error> {
        let was: u8 = self
            .on_leases(&self.scripts.end_again, &[&lease.to_string()])
            .await?;
        Ok(match was {
            0 => EndedAgain::Lives,
            1 => EndedAgain::WasOver,
            _ => EndedAgain::WasSwept,
        })
    }

    pub(super) async fn ended(&self) -> Result<Ended, Error> {
        let (leases, shortest, unscrubbed): (Vec<String>, u64, u64) =
            self.on_leases(&self.scripts.ended, &[&self.longest()]).await?;
        Ok(Ended {
            leases: leases.iter().filter_map(|text| Lease::parse(text)).collect(),
            shortest: (shortest > 0).then(|| Duration::from_millis(shortest)),
            unscrubbed: (unscrubbed > 0).then_some(Epoch(unscrubbed)),
        })
    }

    pub(super) async fn note_generations(&self) -> Result<(), Error> {
        let generations = self.pool.generations(TIMEOUT).await;
        if generations.is_empty() {
            return Ok(());
        }
        let args: Vec<&str> = generations.iter().map(String::as_str).collect();
        self.on_leases(&self.scripts.generations, &args).await
    }

    /// For how long a Redis that knows no leases may lack some, in milliseconds.
    fn longest(&self) -> String {
        let longest = match self.longest.load(Relaxed) {
            0 => UNKNOWN_LEASE,
            longest => longest,
        };
        longest.to_string()
    }

    async fn live(&self) -> Result<Live, Error> {
        let (live, complete): (Vec<String>, bool) =
            self.on_leases(&self.scripts.live, &[&self.longest()]).await?;
        Ok(Live {
            leases: live.iter().filter_map(|text| Lease::parse(text)).collect(),
            complete,
        })
    }

    async fn on_leases<T: FromRedisValue>(&self, script: &Script, args: &[&str]) -> Result<T, Error> {
        self.run(script, &[self.keys.leases()], args).await
    }

    /// Runs one script.
    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&str],
    ) -> Result<T, Error> {
        let mut call = script.call(keys);
        call.arg(args);
        self.one(Some(script), call).await
    }

    /// Sends one command, which may be a call of a script.
    async fn one<T: FromRedisValue>(&self, script: Option<&Script>, command: Cmd) -> Result<T, Error> {
        let answers: Vec<Result<T, Error>> = self.each(script, &[command]).await;
        answers
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(unavailable(std::io::Error::other("no answer"))))
    }

    /// Sends commands in one exchange, some of which may call a script, and gives the answer to each: in a Cluster those on
    /// a primary that is unavailable fail alone.
    async fn each<T: FromRedisValue>(
        &self,
        script: Option<&Script>,
        commands: &[Cmd],
    ) -> Vec<Result<T, Error>> {
        let code = script.map(|script| script.code);
        let answers = self.pool.each(commands, code, TIMEOUT).await;
        let typed = |answer: Value| T::from_redis_value(answer).map_err(unavailable);
        answers
            .into_iter()
            .map(|answer| answer.map_err(unavailable).and_then(typed))
            .collect()
    }

    /// Sends what fails or succeeds together.
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

/// The leases that live.
struct Live {
    leases: Vec<Lease>,
    /// Every gateway has had time to report its members.
    complete: bool,
}

impl Live {
    /// Whose they are, by their serials.
    fn gateways(self) -> HashMap<u64, GatewayId> {
        let gateways = self.leases.into_iter().map(|lease| (lease.serial, lease.gateway));
        gateways.collect()
    }
}

/// A script, known to Redis by its hash once it has run there.
struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// A call of it; the arguments follow.
    fn call(&self, keys: &[String]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len()).arg(keys);
        call
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}

fn millis(length: Duration) -> String {
    length.as_millis().to_string()
}
