//! The bus between processes: Redis pub/sub, and Redis streams for who comes late.
//!
//! Two ways lead to Redis. Commands (publishing, and what is kept there) go through a pool of connections. Reading
//! the bus has a connection of its own per subscriber, because a pooled connection cannot be subscribed; it lives on
//! one thread per process, together with the monitor that tells a process without subscribers how Redis is.
//!
//! In reading order: [`Config`] and [`RedisUrl`], `place` and `sentinel`, where Redis is; `streams`, what is in Redis, `keys`, how it is called there, and
//! `script` and `scripts/`, what is done with it; `generation`, what Redis may have lost, `acknowledged` and `audit`, what it must not have; `commands`, the pool, and `line`, how many share one connection of it; `waiting`, what is
//! published while Redis is away;
//! `peer`, who is asked, and how its words are shown; `metrics`, how that goes; `link`, one dedicated connection; `reader`, what a subscriber does with it; `monitor` and `health`, how Redis is;
//! `thread`.

mod acknowledged;
mod audit;
mod commands;
mod config;
mod examine;
mod generation;
mod health;
mod keys;
mod line;
mod link;
mod metrics;
mod monitor;
mod peer;
mod place;
mod reader;
mod script;
mod sentinel;
mod streams;
mod thread;
pub mod url;
mod waiting;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use redis::{ParsingError, Value};
use tidings_core::{Channel, Position, Retention};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};

use self::{
    acknowledged::Acknowledged,
    commands::{Commands, Failure},
    health::Health,
    keys::Keys,
    link::Connector,
    peer::Peer,
    place::Place,
    reader::Reader,
    script::Call,
    streams::Streams,
    thread::Thread,
    waiting::Waiting,
};
use crate::{Error, History, Published, Query, Sink, Status, Target, To, topic::Topic};
pub use config::Config;
pub use examine::{Finding, PERMISSIONS, Verdict, examine};
pub use keys::channel_name;
pub use sentinel::Sentinel;
pub use streams::PUBLISH;
pub use url::RedisUrl;

/// Requests that wait for a subscriber's connection; more wait in their callers.
const REQUESTS: usize = 1024;

/// What a process has of one Redis. The thread ends when this is dropped, and all tasks with it.
pub(crate) struct Bus {
    peer: Peer,
    keys: Keys,
    streams: Streams,
    commands: Commands,
    waiting: Waiting,
    acknowledged: Acknowledged,
    /// Told when Redis may have lost something.
    suspicion: Arc<Notify>,
    connector: Connector,
    health: Arc<Health>,
    thread: Thread,
}

impl Bus {
    pub(crate) fn start(config: &Config) -> Result<Arc<Self>, Error> {
        config.check()?;
        let peer = Peer::new(config)?;
        let place = Place::new(config)?;
        let health = Arc::new(Health::new(peer.name().clone()));
        let suspicion = Arc::new(Notify::new());
        let commands = Commands::new(config, &place, peer.clone(), health.clone(), suspicion.clone())?;
        let connector = Connector::new(place, peer.clone())?;
        let thread = Thread::start().map_err(|error| Error::Thread(Arc::new(error)))?;
        thread.spawn(monitor::run(connector.clone(), health.part(), suspicion.clone()));
        let keys = Keys::new(&config.prefix);
        let bus = Arc::new(Self {
            peer,
            streams: Streams::new(keys.clone()),
            keys,
            commands,
            waiting: Waiting::default(),
            acknowledged: Acknowledged::default(),
            suspicion,
            connector,
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

    pub(crate) fn pool(&self) -> deadpool_redis::Pool {
        self.commands.pool()
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.health.metrics.register(registry);
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.health.status()
    }

    /// Sends one envelope to where each of `targets` asks; one result per target, in order.
    pub(crate) async fn publish(&self, targets: &[Target], envelope: &[u8]) -> Vec<Result<Published, Error>> {
        let deadline = Instant::now() + self.commands.timeout();
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
        let publish = |index: usize, call: Call<'_>| {
            let known = known[index].as_ref();
            self.streams.publish(&targets[index], envelope, known, call)
        };
        let kept = targets.iter().any(|target| target.retention.is_some());
        let answers = self
            .commands
            .ask(
                &self.commands.publishing,
                targets.len(),
                envelope.len(),
                kept,
                Some(deadline),
                publish,
            )
            .await;
        let understand = |answer| {
            let published = self.understand(answer, streams::published);
            published.map_err(|error| Failure { error, undone: false })
        };
        let answers = answers.into_iter().zip(targets).map(|(answer, target)| {
            let published = understand(answer?)?;
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
        let answer = self
            .commands
            .ask_one(&self.commands.publishing, envelope.len(), false, send)
            .await;
        answer.map(drop)
    }

    /// Tells nodes something; how many heard it.
    pub(crate) async fn tell(&self, to: To<'_>, message: &[u8]) -> Result<u64, Error> {
        let name = self.keys.topic(&to.into());
        let tell = |_: Call<'_>| self.streams.tell(&name, message);
        let (publishing, bytes) = (&self.commands.publishing, message.len());
        let answer = self.commands.ask_one(publishing, bytes, false, tell).await?;
        self.understand(answer, redis::from_redis_value)
    }

    pub(crate) async fn read(
        &self,
        channel: &Channel,
        retention: Retention,
        query: Query,
    ) -> Result<History, Error> {
        let read = |call: Call<'_>| self.streams.read(channel, retention, query, call);
        let reading = &self.commands.reading;
        let answer = self.commands.ask_one(reading, 0, true, read).await?;
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
        let reading = &self.commands.reading;
        let answers = self
            .commands
            .ask(reading, asked.len(), 0, true, None, position)
            .await;
        let answers = answers.into_iter();
        let histories = answers.map(|answer| self.understand(answer?, streams::history));
        histories.map(|history| Ok(history?.top)).collect()
    }

    pub(crate) async fn remove(&self, channel: &Channel) -> Result<(), Error> {
        let remove = |_: Call<'_>| self.streams.remove(channel);
        let publishing = &self.commands.publishing;
        let answer = self.commands.ask_one(publishing, 0, false, remove).await;
        answer.map(drop)
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

/// What one subscriber wants: the handle of its [`Reader`], which ends with the last clone.
#[derive(Clone)]
pub(crate) struct Interest {
    requests: mpsc::Sender<reader::Request>,
    bus: Arc<Bus>,
}

impl Interest {
    pub(crate) fn new(bus: Arc<Bus>, sink: Arc<dyn Sink>) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let reader = Reader::new(
            bus.connector.clone(),
            bus.keys.clone(),
            sink,
            bus.health.part(),
            receiver,
        );
        bus.thread.spawn(reader.run());
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
