//! One dedicated connection that notices when it is lost, even if nobody says so.
//!
//! RESP3 with a callback for pushed messages: they are handed on by the task that reads the socket, with no queue in
//! between.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use parking_lot::Mutex;
use redis::{
    Client, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::sync::Notify;

use super::{
    peer::Peer,
    place::Place,
    sentinel::{self, HostAndPort, Sentinels},
};
use crate::{Error, error::is_temporary};

/// How long a connection may be idle before it is asked whether it is alive. Together with the command timeout, the
/// time within which a connection that died without a word is noticed.
const PROBE: Duration = Duration::from_secs(2);

/// How long to wait before each attempt to connect anew: from 50 ms to half a second, with jitter, forever. Short, because
/// nothing tells when a Redis is back.
pub(super) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(250)) // jitter adds up to as much again
        .without_max_times()
        .with_jitter()
        .build()
}

/// Told when a node of a Cluster does not have a slot that it was thought to have.
pub(super) type Elsewhere = Arc<dyn Fn() + Send + Sync>;

/// Makes links to one Redis.
#[derive(Clone)]
pub(super) struct Connector {
    client: Client,
    place: Place,
    peer: Peer,
    /// Where channels are those of the node's own slots.
    shard: Option<Elsewhere>,
}

impl Connector {
    pub(super) fn new(place: Place, peer: Peer) -> Result<Self, Error> {
        let info = place.info();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings));
        Ok(Self {
            client: client.map_err(|error| peer.error(&error))?,
            place,
            peer,
            shard: None,
        })
    }

    /// The same for the channels of a node's own slots (Redis 7: sharded pub/sub).
    pub(super) fn in_shard(&self, elsewhere: Elsewhere) -> Self {
        Self {
            shard: Some(elsewhere),
            ..self.clone()
        }
    }

    /// Who is connected to.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Connects within the connect timeout. `on_message` gets the Redis channel and the value of every message,
    /// on the task that reads the socket.
    pub(super) async fn connect(
        &self,
        on_message: impl Fn(&[u8], Bytes) + Send + Sync + 'static,
    ) -> Result<Link, RedisError> {
        let lost = Arc::new(Notify::new());
        let heard = Arc::new(AtomicBool::new(false));
        let leaving = Arc::new(Mutex::new(HashSet::new()));
        let moved = Arc::new(AtomicBool::new(false));
        let on_push = {
            let (lost, heard, leaving, moved) = (lost.clone(), heard.clone(), leaving.clone(), moved.clone());
            let elsewhere = self.shard.clone();
            move |push: PushInfo| -> Result<(), std::convert::Infallible> {
                heard.store(true, Relaxed);
                match push.kind {
                    PushKind::Message | PushKind::SMessage => {
                        if let Ok([Value::BulkString(name), Value::BulkString(value)]) =
                            <[Value; 2]>::try_from(push.data)
                        {
                            on_message(&name, value.into());
                        }
                    }
                    PushKind::SUnsubscribe => {
                        let name = push.data.first();
                        // Unless it was asked for, the slot has gone elsewhere. What answers what is not certain after that.
                        if !matches!(name, Some(Value::BulkString(name)) if leaving.lock().remove(name)) {
                            elsewhere.iter().for_each(|elsewhere| elsewhere());
                            moved.store(true, Relaxed);
                            lost.notify_one();
                        }
                    }
                    PushKind::Disconnection => lost.notify_one(),
                    _ => {}
                }
                Ok(())
            }
        };
        let config = self.place.connection().set_push_sender(on_push);
        let primary = match self.place.sentinels() {
            Some(sentinels) => Some((sentinels.clone(), sentinels.primary().await?)),
            None => None,
        };
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        if primary.is_some() {
            sentinel::expect_primary(&mut connection).await?;
        }
        Ok(Link {
            connection,
            primary,
            shard: self.shard.clone(),
            leaving,
            moved,
            lost,
            heard,
        })
    }

    /// The reason of an outage, with the name of the peer.
    pub(super) fn away(&self, why: &RedisError) -> String {
        self.peer.away(why).to_string()
    }

    /// What a command that failed means to who asked for it.
    pub(super) fn error(&self, why: &RedisError) -> Error {
        self.peer.error(why)
    }
}

/// A live connection, as far as anyone knows. Dropping it closes it.
pub(super) struct Link {
    connection: MultiplexedConnection,
    /// Where it leads, and who can say whether that is still the primary.
    primary: Option<(Arc<Sentinels>, HostAndPort)>,
    /// Where channels are those of the node's own slots.
    shard: Option<Elsewhere>,
    /// The names of such channels that are about to be left.
    leaving: Arc<Mutex<HashSet<Vec<u8>>>>,
    /// A slot has gone elsewhere, which ends the connection.
    moved: Arc<AtomicBool>,
    lost: Arc<Notify>,
    /// Whether anything was pushed since the flag was last cleared.
    heard: Arc<AtomicBool>,
}

impl Link {
    /// Changes what is subscribed, in one round trip unless Redis refuses something: the names that it refuses, and
    /// why. An error is the end of the connection.
    pub(super) async fn change(
        &self,
        subscribe: &[String],
        unsubscribe: &[String],
    ) -> Result<HashMap<String, RedisError>, RedisError> {
        if let Some(elsewhere) = &self.shard {
            self.leaving
                .lock()
                .extend(unsubscribe.iter().map(|name| name.clone().into_bytes()));
            let (subscribed, unsubscribed) = tokio::join!(
                refused_in_shard(&self.connection, "SSUBSCRIBE", subscribe),
                refused_in_shard(&self.connection, "SUNSUBSCRIBE", unsubscribe),
            );
            // Where it was refused, the server has nothing to confirm; the next time that it ends a subscription, that is news.
            let mut leaving = self.leaving.lock();
            for name in unsubscribe {
                leaving.remove(name.as_bytes());
            }
            drop(leaving);
            let mut refused = subscribed?;
            if refused.values().any(is_elsewhere) {
                elsewhere();
            }
            // Nothing comes from where the slot is not.
            refused.extend(unsubscribed?.into_iter().filter(|(_, why)| !is_elsewhere(why)));
            return Ok(refused);
        }
        let (subscribed, unsubscribed) = tokio::join!(
            refused(&self.connection, true, subscribe),
            refused(&self.connection, false, unsubscribe),
        );
        let mut refused = subscribed?;
        refused.extend(unsubscribed?);
        Ok(refused)
    }

    /// Whether the connection ends because a slot has gone elsewhere. Nothing is wrong with the node then.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.load(Relaxed)
    }

    /// Returns when the connection is lost, and why. May be cancelled and called again.
    pub(super) async fn lost(&mut self) -> RedisError {
        loop {
            tokio::select! {
                () = self.lost.notified() => return closed(),
                why = self.left() => return why,
                () = tokio::time::sleep(PROBE) => {}
            }
            if let Err(why) = self.probe().await {
                return why;
            }
        }
    }

    /// Returns once the primary is elsewhere, and why that ends the connection.
    async fn left(&self) -> RedisError {
        match &self.primary {
            Some((sentinels, primary)) => sentinels.left(primary).await,
            None => std::future::pending().await,
        }
    }

    /// Asks the peer for a sign of life. A message is one too: behind a flood of them the answer may be late.
    async fn probe(&mut self) -> Result<(), RedisError> {
        self.heard.store(false, Relaxed);
        match redis::cmd("PING").exec_async(&mut self.connection).await {
            Err(why) if why.is_timeout() && self.heard.load(Relaxed) => Ok(()),
            answer => answer,
        }
    }
}

/// Subscribes to names, or unsubscribes, and finds those for which that is refused. One bad name has Redis refuse all
/// that come with it, so what is refused is tried again in halves.
async fn refused(
    connection: &MultiplexedConnection,
    wanted: bool,
    names: &[String],
) -> Result<HashMap<String, RedisError>, RedisError> {
    let mut connection = connection.clone();
    let mut refused = HashMap::new();
    let mut parts = vec![names];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        // By these calls alone: each name is confirmed by itself, which a plain command does not wait for.
        let answer = if wanted {
            connection.subscribe(part).await
        } else {
            connection.unsubscribe(part).await
        };
        match (part, answer) {
            (_, Ok(())) => {}
            (_, Err(why)) if is_temporary(&why) => return Err(why),
            ([name], Err(why)) => {
                refused.insert(name.clone(), why);
            }
            (_, Err(_)) => parts.extend(<[_; 2]>::from(part.split_at(part.len() / 2))),
        }
    }
    Ok(refused)
}

/// The same in a shard, where each name is asked for by itself: those of one command have to be in one slot.
async fn refused_in_shard(
    connection: &MultiplexedConnection,
    command: &str,
    names: &[String],
) -> Result<HashMap<String, RedisError>, RedisError> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let mut commands = redis::Pipeline::with_capacity(names.len());
    for name in names {
        commands.cmd(command).arg(name);
    }
    let mut connection = connection.clone();
    let answers: Vec<Result<Value, RedisError>> =
        commands.ignore_errors().query_async(&mut connection).await?;
    let mut refused = HashMap::new();
    for (name, answer) in names.iter().zip(answers) {
        match answer {
            Ok(_) => {}
            Err(why) if is_temporary(&why) && !is_elsewhere(&why) => return Err(why),
            Err(why) => {
                refused.insert(name.clone(), why);
            }
        }
    }
    Ok(refused)
}

/// Whether a node of a Cluster says that it does not have the slot.
pub(super) fn is_elsewhere(why: &RedisError) -> bool {
    matches!(
        why.kind(),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain)
    )
}

fn closed() -> RedisError {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection was closed by the other side",
    )
    .into()
}
