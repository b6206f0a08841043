//! The bus between processes: Redis pub/sub.
//!
//! Two ways lead to Redis. Commands (publishing, and what others keep there) go through a pool of connections. Reading
//! the bus has a connection of its own per subscriber, because a pooled connection cannot be subscribed; it lives on
//! one thread per process, together with the monitor that tells a process without subscribers how Redis is.
//!
//! In reading order: [`Config`] and [`RedisUrl`]; `keys`, the names in Redis; `commands`, the pool; `link`, one
//! dedicated connection; `reader`, what a subscriber does with it; `monitor` and `health`, how Redis is; `thread`.

mod commands;
mod config;
mod health;
mod keys;
mod link;
mod monitor;
mod reader;
mod thread;
pub mod url;

use std::sync::Arc;

use tidings_core::Channel;
use tokio::sync::{mpsc, oneshot, watch};

use self::{commands::Commands, health::Health, keys::Keys, link::Connector, reader::Reader, thread::Thread};
use crate::{Error, Sink, Status};
pub use config::Config;
pub use url::RedisUrl;

/// Requests that wait for a subscriber's connection; more wait in their callers.
const REQUESTS: usize = 1024;

/// What a process has of one Redis. The thread ends when this is dropped, and all tasks with it.
pub(crate) struct Bus {
    peer: Arc<str>,
    keys: Keys,
    commands: Commands,
    connector: Connector,
    health: Arc<Health>,
    thread: Thread,
}

impl Bus {
    pub(crate) fn start(config: &Config) -> Result<Arc<Self>, Error> {
        config.check()?;
        let peer: Arc<str> = config.url.to_string().into();
        let health = Arc::new(Health::new(peer.clone()));
        let commands = Commands::new(config, peer.clone(), health.clone())?;
        let connector = Connector::new(config, peer.clone())?;
        let thread = Thread::start().map_err(|error| Error::Thread(Arc::new(error)))?;
        thread.spawn(monitor::run(connector.clone(), health.part()));
        Ok(Arc::new(Self {
            peer,
            keys: Keys::new(&config.prefix),
            commands,
            connector,
            health,
            thread,
        }))
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn prefix(&self) -> &str {
        self.keys.prefix()
    }

    pub(crate) fn pool(&self) -> deadpool_redis::Pool {
        self.commands.pool()
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.health.status()
    }

    /// Sends one message to each of `channels`; one result per channel, in order.
    pub(crate) async fn send(&self, channels: &[Channel], message: &[u8]) -> Vec<Result<(), Error>> {
        let names: Vec<String> = channels
            .iter()
            .map(|channel| self.keys.channel(channel))
            .collect();
        self.commands.publish(&names, message).await
    }

    pub(crate) async fn send_one(&self, channel: &Channel, message: &[u8]) -> Result<(), Error> {
        let sent = self.send(std::slice::from_ref(channel), message).await;
        sent.into_iter().collect()
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

    pub(crate) async fn subscribe(&self, channel: &Channel) -> Result<(), Error> {
        self.request(channel, true).await
    }

    pub(crate) async fn unsubscribe(&self, channel: &Channel) -> Result<(), Error> {
        self.request(channel, false).await
    }

    async fn request(&self, channel: &Channel, wanted: bool) -> Result<(), Error> {
        let ended = || Error::away(&self.bus.peer, "the thread that reads the bus has ended");
        let (reply, answer) = oneshot::channel();
        let request = reader::Request {
            channel: channel.clone(),
            wanted,
            reply,
        };
        self.requests.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}
