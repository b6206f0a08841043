//! The bus between processes: Redis pub/sub, and Redis streams for who comes late.
//!
//! Two ways lead to Redis. Commands (publishing, and what is kept there) go through a pool of connections. Reading
//! the bus has a connection of its own per subscriber, because a pooled connection cannot be subscribed; it lives on
//! one thread per process, together with the monitor that tells a process without subscribers how Redis is.
//!
//! In reading order: [`Config`] and [`RedisUrl`], `place` and `sentinel`, where Redis is; `servers`, which is one `node` or a `cluster` of them, of which
//! `slots` and `topology` say who has what; [`Pool`], for who keeps something else there; `streams`, what is in Redis, `keys`, how it is called there, and
//! `script` and `scripts/`, what is done with it; `generation`, what Redis may have lost, `acknowledged` and `audit`, what it must not have; `commands`, the pool, and `line`, how many share one connection of it; `waiting`, what is
//! published while Redis is away;
//! `peer`, who is asked, and how its words are shown; `metrics`, how that goes; `link`, one dedicated connection; `reader`, what a subscriber does with it, and `spread`, with several of them; `monitor` and `health`, how Redis is;
//! `thread`.

mod acknowledged;
mod audit;
mod cluster;
mod commands;
mod config;
mod connection;
mod examine;
mod generation;
mod health;
mod keys;
mod line;
mod link;
mod metrics;
mod monitor;
mod node;
mod peer;
mod place;
mod reader;
mod script;
mod sentinel;
mod servers;
mod slots;
mod spread;
mod streams;
mod thread;
mod topology;
pub mod url;
mod waiting;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use redis::{ParsingError, Value};
use tidings_core::{Channel, Position, Retention};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};

use self::{
    acknowledged::Acknowledged,
    commands::{Ask, Failure},
    health::Health,
    keys::Keys,
    metrics::Kind,
    node::Nodes,
    peer::Peer,
    script::Call,
    servers::Servers,
    streams::Streams,
    thread::Thread,
    waiting::Waiting,
};
use crate::{Error, History, Published, Query, Sink, Status, Target, To, topic::Topic};
pub use config::Config;
pub use connection::{Connection, Pool};
pub use examine::{Finding, PERMISSIONS, Verdict, examine};
pub use keys::channel_name;
pub use sentinel::Sentinel;
pub use url::RedisUrl;

/// Requests that wait for a subscriber's connection; more wait in their callers.
const REQUESTS: usize = 1024;

/// What a process has of one Redis. The thread ends when this is dropped, and all tasks with it.
pub(crate) struct Bus {
    peer: Peer,
    keys: Keys,
    streams: Streams,
    servers: Servers,
    /// How long a command may take.
    timeout: Duration,
    waiting: Waiting,
    acknowledged: Acknowledged,
    /// Told when Redis may have lost something.
    suspicion: Arc<Notify>,
    health: Arc<Health>,
    thread: Thread,
}

impl Bus {
    pub(crate) fn start(config: &Config) -> Result<Arc<Self>, Error> {
        config.check()?;
        let peer = Peer::new(config)?;
        let health = Arc::new(Health::new(peer.name().clone()));
        let suspicion = Arc::new(Notify::new());
        let thread = Thread::start().map_err(|error| Error::Thread(Arc::new(error)))?;
        let nodes = Nodes {
            config: config.clone(),
            health: health.clone(),
            suspicion: suspicion.clone(),
            spawner: thread.spawner(),
        };
        let servers = Servers::start(config, &peer, nodes, &thread)?;
        let keys = Keys::new(&config.prefix);
        let bus = Arc::new(Self {
            peer,
            streams: Streams::new(keys.clone(), servers.publish()),
            keys,
            servers,
            timeout: config.command_timeout,
            waiting: Waiting::default(),
            acknowledged: Acknowledged::default(),
            suspicion,
            health,
            thread,
        });
        bus.thread.spawn(audit::run(Arc::downgrade(&bus)));
        Ok(bus)
    }

    pub(crate) fn peer(&self) -> &str {
        self.peer.name()
    }

    pub(crate) fn prefix(&self) -> &str {
        self.keys.prefix()
    }

    pub(crate) fn pool(&self) -> Pool {
        self.servers.pool()
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.health.metrics.register(registry);
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.health.status()
    }

    /// Whether whoever carries a channel is known to be away.
    pub(crate) fn is_away(&self, channel: &Channel) -> bool {
        self.servers.is_away(channel.as_str())
    }

    /// Sends one envelope to where each of `targets` asks; one result per target, in order.
    pub(crate) async fn publish(&self, targets: &[Target], envelope: &[u8]) -> Vec<Result<Published, Error>> {
        let deadline = Instant::now() + self.timeout;
        let results = self.attempt(targets, envelope, deadline).await.into_iter();
        results.map(|result| result.map_err(Error::from)).collect()
    }

    /// The same, by the deadline or the command timeout, whichever is first. A result that cannot be understood is no
    /// reason to try again.
    async fn attempt(
        &self,
        targets: &[Target],
        envelope: &[u8],
        deadline: Instant,
    ) -> Vec<Result<Published, Failure>> {
        let known: Vec<Option<Position>> = targets.iter().map(|target| self.known(target)).collect();
        let ask = Ask {
            count: targets.len(),
            streams: targets.iter().any(|target| target.retention.is_some()),
            deadline: Some(deadline),
            ..Ask::one(Kind::Publish, envelope.len())
        };
        let publish = |index: usize, call: Call<'_>| {
            let known = known[index].as_ref();
            self.streams.publish(&targets[index], envelope, known, call)
        };
        let answers = self
            .servers
            .ask(ask, |index| targets[index].channel.as_str(), publish)
            .await;
        let answers = answers.into_iter().zip(targets).map(|(answer, target)| {
            let published = self.understand(answer?, streams::published);
            let published = published.map_err(|error| Failure {
                undone: false,
                ..Failure::undone(error)
            })?;
            if let Some(position) = &published.position {
                self.acknowledged.remember(&target.channel, position);
            }
            Ok(published)
        });
        answers.collect()
    }

    /// What is known of the stream that `target` is to be kept in.
    fn known(&self, target: &Target) -> Option<Position> {
        target.retention?;
        self.acknowledged.of(&target.channel)
    }

    /// Sends one envelope to who listens to `channel`.
    pub(crate) async fn send(&self, channel: &Channel, envelope: &[u8]) -> Result<(), Error> {
        let send = |_: Call<'_>| self.streams.send(channel, envelope);
        let ask = Ask::one(Kind::Publish, envelope.len());
        self.servers.ask_one(ask, channel.as_str(), send).await.map(drop)
    }

    /// Tells nodes something; how many heard it.
    pub(crate) async fn tell(&self, to: To<'_>, message: &[u8]) -> Result<u64, Error> {
        let name = self.keys.topic(&to.into());
        let tell = |_: Call<'_>| self.streams.tell(&name, message);
        let ask = Ask::one(Kind::Publish, message.len());
        let answer = self.servers.ask_one(ask, &name, tell).await?;
        self.understand(answer, redis::from_redis_value)
    }

    pub(crate) async fn read(
        &self,
        channel: &Channel,
        retention: Retention,
        query: Query,
        known: Option<&Position>,
    ) -> Result<History, Error> {
        let read = |call: Call<'_>| self.streams.read(channel, retention, query, known, call);
        let ask = Ask {
            streams: true,
            ..Ask::one(Kind::Read, 0)
        };
        let answer = self.servers.ask_one(ask, channel.as_str(), read).await?;
        self.understand(answer, streams::history)
    }

    pub(crate) async fn positions(
        &self,
        asked: &[(&Channel, Option<&Position>)],
    ) -> Vec<Result<Position, Error>> {
        let position = |index: usize, call: Call<'_>| {
            let (channel, known) = asked[index];
            self.streams.position(channel, known, call)
        };
        let ask = Ask {
            count: asked.len(),
            streams: true,
            ..Ask::one(Kind::Read, 0)
        };
        let answers = self
            .servers
            .ask(ask, |index| asked[index].0.as_str(), position)
            .await;
        let answers = answers.into_iter();
        let histories = answers.map(|answer| self.understand(answer?, streams::history));
        histories.map(|history| Ok(history?.top)).collect()
    }

    pub(crate) async fn remove(&self, channel: &Channel) -> Result<(), Error> {
        let remove = |_: Call<'_>| self.streams.remove(channel);
        let ask = Ask::one(Kind::Publish, 0);
        self.servers
            .ask_one(ask, channel.as_str(), remove)
            .await
            .map(drop)
    }

    fn understand<T>(
        &self,
        answer: Value,
        read: impl Fn(Value) -> Result<T, ParsingError>,
    ) -> Result<T, Error> {
        read(answer).map_err(|why| Error::Answer {
            peer: self.peer.name().clone(),
            why,
        })
    }
}

/// What one subscriber wants: the handle of its [`Reader`](reader::Reader), which ends with the last clone.
#[derive(Clone)]
pub(crate) struct Interest {
    requests: mpsc::Sender<reader::Request>,
    bus: Arc<Bus>,
}

impl Interest {
    pub(crate) fn new(bus: Arc<Bus>, sink: Arc<dyn Sink>) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        bus.servers
            .read(bus.keys.clone(), sink, &bus.health, receiver, &bus.thread);
        Self { requests, bus }
    }

    pub(crate) async fn want(&self, topic: Topic) -> Result<(), Error> {
        self.request(topic, true).await
    }

    pub(crate) async fn release(&self, topic: Topic) -> Result<(), Error> {
        self.request(topic, false).await
    }

    async fn request(&self, topic: Topic, wanted: bool) -> Result<(), Error> {
        let ended = || self.bus.peer.away("the thread that reads the bus has ended");
        let (reply, answer) = oneshot::channel();
        let request = reader::Request { topic, wanted, reply };
        self.requests.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}
