//! Where the primary is, by the word of the Sentinels (Redis: "Guidelines for Redis clients with support for Redis
//! Sentinel"): asked at each connect, and by each dedicated connection again while it lives.

use std::{collections::HashSet, io, net::SocketAddr, sync::Arc};

use futures_util::future::{FutureExt as _, join_all, select_ok};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, RedisFuture, aio::MultiplexedConnection, io::AsyncDNSResolver,
};
use serde::{Deserialize, Serialize};
use tidings_core::Secret;

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

/// Who can be asked where the primary is.
pub(super) struct Sentinels {
    master: String,
    /// By the name that can be shown.
    nodes: Vec<(String, ConnectionInfo)>,
    connection: AsyncConnectionConfig,
}

impl Sentinels {
    pub(super) fn new(
        master: &str,
        nodes: Vec<(String, ConnectionInfo)>,
        connection: AsyncConnectionConfig,
    ) -> Self {
        Self {
            master: master.to_owned(),
            nodes,
            connection,
        }
    }

    /// Where the primary is: what the first Sentinel says that answers and knows. All are asked at once, so that those
    /// which are away cost no time.
    pub(super) async fn primary(&self) -> Result<(String, u16), RedisError> {
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

    async fn ask(&self, info: ConnectionInfo) -> Result<(String, u16), RedisError> {
        let client = Client::open(info)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&self.connection);
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer: Option<(String, u16)> = question.query_async(&mut connecting.await?).await?;
        answer.ok_or_else(|| unknown(format!("it watches no {:?}", self.master)))
    }

    /// Whether the primary is still where a connection leads. While no Sentinel can be asked it is.
    pub(super) async fn still(&self, primary: &(String, u16)) -> Result<(), RedisError> {
        match self.primary().await {
            Ok(now) if now != *primary => Err(unknown(format!("the primary is at {}:{} now", now.0, now.1))),
            _ => Ok(()),
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

/// An error that passes by itself.
fn unknown(why: String) -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, why).into()
}
