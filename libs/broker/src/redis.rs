//! The bus between processes: Redis pub/sub, and Redis streams for who comes late.
//!
//! Two ways lead to Redis. Commands (publishing, and what is kept there) go through a pool of connections. Reading
//! the bus has a connection of its own per subscriber, because a pooled connection cannot be subscribed; it lives on
//! one thread per process, together with the monitor that tells a process without subscribers how Redis is.
//!
//! In reading order:
//!
//! - where Redis is: [`Config`] and [`RedisUrl`], `place`, `sentinel`; `servers`, which is one `node` or a `cluster` of them, of which
//!   `slots` and `topology` say which has what;
//! - what is in it: `streams`, `keys`, `script` and `scripts/`, `format`; [`Pool`], for others that keep something there, and `primaries`, its
//!   processes one by one;
//! - what it may have lost: `generation`, `suspected`, `evidence` and `audit`;
//! - commands: `publish`, what is published and what becomes of it; `writes`, whether Redis takes any; `commands`, the pool, and `line`, how many callers share one connection of it; `waiting`, publications while Redis is
//!   unavailable; `ordered`, those of one caller in order;
//! - subscriptions: `link`, one dedicated connection; `reader`, what a subscriber does with it, and `spread`, with several of them;
//! - how it is: `monitor`, `health`, `metrics`, `peer`, and `examine` for `tidings doctor`;
//! - `thread`, where the dedicated connections live.

mod audit;
mod cluster;
mod commands;
mod config;
mod connection;
mod evidence;
mod examine;
mod format;
mod generation;
mod health;
mod keys;
mod line;
mod link;
mod metrics;
mod monitor;
mod node;
mod ordered;
mod peer;
mod place;
mod primaries;
mod publish;
mod reader;
mod script;
mod sentinel;
mod servers;
mod slots;
mod spread;
mod streams;
mod suspected;
mod thread;
mod topology;
pub mod url;
mod waiting;
mod writes;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use redis::{ParsingError, Value};
use tidings_core::{Channel, Position, Retention};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use self::{
    commands::Ask, evidence::Evidence, health::Health, keys::Keys, metrics::Kind, node::Nodes, peer::Peer,
    script::Call, servers::Servers, streams::Streams, suspected::Suspected, thread::Thread, waiting::Waiting,
};
use crate::{Error, History, Query, Sink, Status, To, Watermark, topic::Topic};
pub use config::Config;
pub use connection::{Connection, Pool};
pub use examine::{Finding, PERMISSIONS, Verdict, examine};
pub use keys::channel_name;
pub(crate) use ordered::Ordered;
pub use primaries::KeyScan;
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
    evidence: Evidence,
    /// Raised when Redis may have lost something.
    suspected: Arc<Suspected>,
    health: Arc<Health>,
    /// Notified of each new connection of a monitor.
    connected: Arc<Notify>,
    thread: Thread,
}

impl Bus {
    pub(crate) fn start(config: &Config) -> Result<Arc<Self>, Error> {
        config.check()?;
        let peer = Peer::new(config)?;
        let health = Arc::new(Health::new(peer.name().clone()));
        let suspected = Arc::<Suspected>::default();
        let connected = Arc::new(Notify::new());
        let thread = Thread::start().map_err(|error| Error::Thread(Arc::new(error)))?;
        let nodes = Nodes {
            config: config.clone(),
            health: health.clone(),
            suspected: suspected.clone(),
            connected: connected.clone(),
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
            evidence: Evidence::default(),
            suspected,
            health,
            connected,
            thread,
        });
        bus.thread.spawn(audit::run(Arc::downgrade(&bus)));
        bus.thread.spawn(format::run(Arc::downgrade(&bus)));
        Ok(bus)
    }

    pub(crate) fn peer(&self) -> &str {
        self.peer.name()
    }

    pub(crate) fn prefix(&self) -> &str {
        self.keys.prefix()
    }

    pub(crate) fn pool(&self) -> Pool {
        self.servers.pool(self.health.clone())
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.health.metrics.register(registry);
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.health.status()
    }

    /// Whether whoever carries a channel is known to be away.
    pub(crate) fn is_away(&self, channel: &Channel) -> bool {
        self.health.refused().is_some() || self.servers.is_away(channel.as_str())
    }

    /// Sends one envelope to who listens to `channel`.
    pub(crate) async fn send(&self, channel: &Channel, envelope: &[u8]) -> Result<(), Error> {
        self.usable()?;
        let send = |_: Call<'_>| self.streams.send(channel, envelope);
        let ask = Ask::one(Kind::Publish, envelope.len());
        self.servers.ask_one(ask, channel.as_str(), send).await.map(drop)
    }

    /// Tells nodes something; how many heard it.
    pub(crate) async fn tell(&self, to: To<'_>, message: &[u8]) -> Result<u64, Error> {
        self.usable()?;
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
        known: Option<&Watermark>,
    ) -> Result<History, Error> {
        self.usable()?;
        let read = |call: Call<'_>| {
            let evidence = known.map(evidence::text).unwrap_or_default();
            self.streams.read(channel, retention, query, &evidence, call)
        };
        let kind = if query.limit > 0 {
            Kind::History
        } else {
            Kind::Read
        };
        let ask = Ask {
            streams: true,
            ..Ask::one(kind, 0)
        };
        let answer = self.servers.ask_one(ask, channel.as_str(), read).await?;
        self.understand(answer, streams::history)
    }

    pub(crate) async fn positions(
        &self,
        asked: &[(&Channel, Option<&Watermark>)],
    ) -> Vec<Result<Position, Error>> {
        let channels: Vec<&Channel> = asked.iter().map(|(channel, _)| *channel).collect();
        let evidence = |index: usize| asked[index].1.map(evidence::text).unwrap_or_default();
        self.compare(&channels, evidence).await
    }

    /// Where streams are, each compared with evidence of it as it is when the question leaves.
    async fn compare(
        &self,
        channels: &[&Channel],
        evidence: impl Fn(usize) -> String + Send + Sync,
    ) -> Vec<Result<Position, Error>> {
        if let Err(error) = self.usable() {
            return vec![Err(error); channels.len()];
        }
        let position =
            |index: usize, call: Call<'_>| self.streams.position(channels[index], &evidence(index), call);
        let ask = Ask {
            count: channels.len(),
            streams: true,
            ..Ask::one(Kind::Read, 0)
        };
        let answers = self
            .servers
            .ask(ask, |index| channels[index].as_str(), position)
            .await;
        let answers = answers.into_iter();
        let histories = answers.map(|answer| self.understand(answer?, streams::history));
        histories.map(|history| Ok(history?.top)).collect()
    }

    pub(crate) async fn remove(&self, channel: &Channel) -> Result<(), Error> {
        self.usable()?;
        let remove = |call: Call<'_>| self.streams.remove(channel, call);
        let ask = Ask::one(Kind::Publish, 0);
        self.servers
            .ask_one(ask, channel.as_str(), remove)
            .await
            .map(drop)
    }

    /// # Errors
    /// The nodes of this Redis speak another format.
    fn usable(&self) -> Result<(), Error> {
        match self.health.refused() {
            Some(reason) => Err(Error::Away { reason }),
            None => Ok(()),
        }
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
        let request = reader::Request {
            topic,
            wanted,
            is_moved: false,
            reply,
        };
        self.requests.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}
