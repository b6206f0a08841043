//! Where the primary is, by the word of the Sentinels (Redis: "Guidelines for Redis clients with support for Redis
//! Sentinel"). Each is asked four times a second. Once more than half of those configured name another primary, no connection
//! to the former one is used any more: the former one may take itself for the primary for many seconds, and whatever it
//! acknowledges then is lost.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Acquire, Ordering::Release},
    },
    time::Duration,
};

use futures_util::future::{FutureExt as _, join_all, select_ok};
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, RedisFuture, aio::MultiplexedConnection, io::AsyncDNSResolver,
};
use serde::{Deserialize, Serialize};
use tidings_core::Secret;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{RedisUrl, examine::Findings, peer::Peer, url};

/// The `redis.sentinel` table: a Redis whose primary changes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// The name under which the Sentinels watch the primary.
    pub master: String,
    /// The Sentinels, such as `redis://s1:26379`, each with a user and a password if it asks for one of its own.
    pub nodes: Vec<RedisUrl>,
    /// The user of Redis itself, which the Sentinels' addresses say nothing of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password of Redis itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The database, by default 0.
    #[serde(default)]
    pub db: u32,
    /// The host name that the certificates of all Redis nodes are for. Where it is set, they are reached by TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_name: Option<String>,
}

impl Sentinel {
    /// How to connect to the primary, wherever it is.
    pub(super) fn primary(&self) -> Result<ConnectionInfo, url::Error> {
        // The host is a name for errors and certificates; the resolver answers it.
        let addr = match &self.tls_name {
            Some(name) => ConnectionAddr::TcpTls {
                host: name.clone(),
                port: 0,
                insecure: false,
                tls_params: None,
            },
            None => ConnectionAddr::Tcp(self.master.clone(), 0),
        };
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(self.db));
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        let info = addr.into_connection_info().map_err(|_| url::Error::Host)?;
        Ok(info.set_redis_settings(settings))
    }
}

/// How often each Sentinel is asked. With what one question takes it is the time within which nothing is sent to a former
/// primary any more.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long one question may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where a server is.
pub(super) type HostAndPort = (String, u16);

/// All Sentinels, and what most of them say.
pub(super) struct Sentinels {
    master: String,
    /// By the name that can be shown.
    nodes: Vec<(String, ConnectionInfo)>,
    connection: AsyncConnectionConfig,
    /// What each Sentinel last said; `None`: it does not answer.
    said: Mutex<Vec<Option<HostAndPort>>>,
    /// Where the primary is by the word of more than half of them; `None`: not known yet.
    primary: watch::Sender<Option<HostAndPort>>,
    switches: AtomicU64,
    switched: Mutex<Option<std::time::Instant>>,
}

impl Sentinels {
    pub(super) fn new(
        master: &str,
        nodes: Vec<(String, ConnectionInfo)>,
        connection: AsyncConnectionConfig,
    ) -> Self {
        Self {
            master: master.to_owned(),
            said: Mutex::new(vec![None; nodes.len()]),
            nodes,
            connection,
            primary: watch::Sender::new(None),
            switches: AtomicU64::default(),
            switched: Mutex::default(),
        }
    }

    /// Asks all Sentinels, each again and again. Runs forever.
    pub(super) async fn watch(self: Arc<Self>) {
        join_all((0..self.nodes.len()).map(|at| self.watch_one(at))).await;
    }

    async fn watch_one(&self, at: usize) {
        let (_, info) = &self.nodes[at];
        loop {
            if let Ok(Ok(mut connection)) = timeout(TIMEOUT, self.connect(info.clone())).await {
                while let Ok(Ok(primary)) = timeout(TIMEOUT, self.ask_on(&mut connection)).await {
                    self.learn(at, Some(primary));
                    sleep(INTERVAL).await;
                }
            }
            self.learn(at, None);
            sleep(INTERVAL).await;
        }
    }

    /// Takes in what a Sentinel says. The primary is another once more than half of all say so; while fewer answer, it is
    /// where it was.
    fn learn(&self, at: usize, primary: Option<HostAndPort>) {
        let mut said = self.said.lock();
        said[at] = primary;
        let named = |it: &&HostAndPort| {
            let votes = said.iter().flatten().filter(|other| other == it).count();
            2 * votes > said.len()
        };
        let Some(now) = said.iter().flatten().find(named) else {
            return;
        };
        self.primary.send_if_modified(|known| {
            if known.as_ref() == Some(now) {
                return false;
            }
            if let Some(before) = known.replace(now.clone()) {
                tracing::info!(redis.from = %shown(&before), redis.to = %shown(now), "the Sentinels have named another primary");
                *self.switched.lock() = Some(Instant::now().into_std());
                self.switches.fetch_add(1, Release);
            }
            true
        });
    }

    /// How often another primary was named. What was connected to before must not be used any more.
    pub(super) fn switches(&self) -> u64 {
        self.switches.load(Acquire)
    }

    /// Whether another primary was named since then.
    pub(super) fn switched_since(&self, then: std::time::Instant) -> bool {
        self.switched.lock().is_some_and(|switched| then <= switched)
    }

    /// Where the primary is: by the word of most Sentinels, or while that is not known, of the first that answers and
    /// knows. All are asked at once, so that those which do not answer cost no time.
    pub(super) async fn primary(&self) -> Result<HostAndPort, RedisError> {
        if let Some(known) = self.primary.borrow().clone() {
            return Ok(known);
        }
        let asked = self.nodes.iter().map(|(name, info)| {
            async move {
                self.ask(info.clone())
                    .await
                    .map_err(|why| format!("Sentinel {name}: {why}"))
            }
            .boxed()
        });
        match select_ok(asked).await {
            Ok((primary, _)) => Ok(primary),
            Err(why) => Err(unknown(why)),
        }
    }

    async fn connect(&self, info: ConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
        let client = Client::open(info)?;
        client
            .get_multiplexed_async_connection_with_config(&self.connection)
            .await
    }

    async fn ask(&self, info: ConnectionInfo) -> Result<HostAndPort, RedisError> {
        self.ask_on(&mut self.connect(info).await?).await
    }

    async fn ask_on(&self, connection: &mut MultiplexedConnection) -> Result<HostAndPort, RedisError> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer: Option<HostAndPort> = question.query_async(connection).await?;
        answer.ok_or_else(|| unknown(format!("it watches no {:?}", self.master)))
    }

    /// Returns once the primary is elsewhere than where a connection leads, with that as an error. Runs forever while no
    /// Sentinel can be asked.
    pub(super) async fn left(&self, primary: &HostAndPort) -> RedisError {
        let mut named = self.primary.subscribe();
        let other = named.wait_for(|now| now.as_ref().is_some_and(|now| now != primary));
        match other.await.ok().and_then(|now| now.clone()) {
            Some(now) => unknown(format!("the primary is at {} now", shown(&now))),
            None => std::future::pending().await, // The sender is ours.
        }
    }

    /// Says which Sentinels can be asked, and whether they agree.
    pub(super) async fn examine(&self, peer: &Peer, found: &mut Findings) {
        let asked = self
            .nodes
            .iter()
            .map(async |(name, info)| (name, self.ask(info.clone()).await));
        let mut primaries = HashSet::new();
        for (name, answer) in join_all(asked).await {
            match answer {
                Ok((host, port)) => {
                    found.ok(format!(
                        "Sentinel {name} says that the primary is at {host}:{port}"
                    ));
                    primaries.insert((host, port));
                }
                Err(why) => found.warn(format!(
                    "Sentinel {name}: {}; start it, or remove it",
                    peer.away(why)
                )),
            }
        }
        if primaries.len() > 1 {
            found.warn("the Sentinels do not agree on the primary; they will, once a failover has ended");
        }
        if self.nodes.len() < 3 {
            found.warn(
                "fewer than three Sentinels are configured; when one is away, the others cannot decide",
            );
        }
    }

    /// What a connection asks for its address.
    pub(super) fn resolver(self: &Arc<Self>) -> Resolver {
        Resolver(self.clone())
    }
}

/// Asks the Sentinels in place of the name service.
pub(super) struct Resolver(Arc<Sentinels>);

impl AsyncDNSResolver for Resolver {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _: &'b str,
        _: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async {
            let (host, port) = self.0.primary().await?;
            let addresses = tokio::net::lookup_host((host, port)).await?;
            Ok(Box::new(addresses.collect::<Vec<_>>().into_iter()) as Box<_>)
        })
    }
}

/// Has the server say that it is the primary: a Sentinel's word may be old.
pub(super) async fn expect_primary(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let role: redis::Value = redis::cmd("ROLE").query_async(connection).await?;
    let parts: Vec<redis::Value> = redis::from_redis_value(role)?;
    let role = parts.into_iter().next().map(redis::from_redis_value::<String>);
    match role.transpose()?.as_deref() {
        Some("master") => Ok(()),
        _ => Err(unknown(
            "the server that the Sentinels name is no primary".to_owned(),
        )),
    }
}

fn shown((host, port): &HostAndPort) -> String {
    format!("{host}:{port}")
}

/// An error that passes by itself.
fn unknown(why: String) -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, why).into()
}
