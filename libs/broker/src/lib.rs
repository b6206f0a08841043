//! How nodes tell each other: what is published on one node reaches the subscribers of all of them.
//!
//! A process has one [`Broker`] and takes three kinds of handles from it: a [`Publisher`] for whoever has something
//! to say, one [`Subscriber`] per gateway, whose [`Sink`] gets what the bus brings, and [`Streams`] for who comes late.
//! The bus is either Redis or, for a single process, memory; both keep the same promises, checked by one suite
//! (`tests/contract/`):
//!
//! - a publication reaches every subscriber that wants its channel and no other;
//! - a channel's publications reach all subscribers in one order;
//! - subscribing returns once the bus has confirmed it, so that a publication sent afterwards is received;
//! - nothing of a channel arrives after unsubscribing from it has returned;
//! - what a node is told reaches it, if it listens, and whoever told it hears how many did;
//! - delivery is at most once. What may have been lost is said by [`Incoming::Gap`], never hidden;
//! - what one caller publishes to one channel by one [`OrderedPublisher`] arrives in the order of its calls;
//! - what is kept is numbered in the order in which it is delivered, and no number is given twice under one epoch. There
//!   are no holes but at offset jumps, which say what they follow: after each restart and each failover of Redis, which may have
//!   lost its newest writes, a stream leaves out what may have been given. The epoch changes when something was lost that a
//!   publisher or a gateway can prove; what is still there goes on under the new epoch.
//!
//! In reading order: this file is what callers see, `topic` what can be wanted, and `stream` the words that are about streams; `memory` is the
//! bus of one process, [`redis`] the one between processes, `envelope` what travels on it.

mod envelope;
mod error;
mod memory;
pub mod redis;
mod stream;
#[cfg(feature = "test-util")]
pub mod test_util;
mod topic;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use prometheus_client::registry::Registry;
use tidings_core::{Channel, ClientInfo, Position, Publication, Retention};
use tokio::{sync::watch, time::Instant};

pub use error::Error;
pub use stream::{History, Once, Published, Query, REMEMBERED, Target, Version, WINDOW, Watermark};
pub use topic::To;

/// The version of what travels on the bus and of what is kept in Redis. Nodes of one prefix have to speak the same.
pub const FORMAT: u32 = 1;

/// The most bytes of one message to nodes.
pub const CONTROL: usize = 1 << 20;

/// What the bus brings to a subscriber.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is a publication; a box would cost each an allocation"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Something was published to a channel.
    Publication(Channel, Publication),
    /// A member came to a channel.
    Join(Channel, ClientInfo),
    /// A member left a channel.
    Leave(Channel, ClientInfo),
    /// What this node, or all of them, were told: a message as [`Publisher::tell`] got it. Anyone with access to the
    /// bus can send one.
    Control(Bytes),
    /// The bus may have lost something on every channel since the connection was lost. That can be before messages that
    /// came already: those of the new connection may come ahead of this.
    Gap,
}

/// Where a subscriber's messages go.
///
/// Any `Fn(Incoming)` is one.
pub trait Sink: Send + Sync + 'static {
    /// Takes one message, in the order of the bus. Called on the bus' own thread (memory: on the publisher's), so it
    /// must neither block nor call the broker: it hands the message on and returns.
    fn incoming(&self, incoming: Incoming);
}

impl<F: Fn(Incoming) + Send + Sync + 'static> Sink for F {
    fn incoming(&self, incoming: Incoming) {
        self(incoming);
    }
}

/// Whether the bus can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It answers, and every subscriber's interest is in force. A subscriber that has just been made does not count
    /// until it has connected, or failed to, for the first time.
    Up,
    /// It does not. The broker keeps trying; nothing needs to be done here.
    Away {
        /// Which peer, its password masked, and what is wrong with it.
        reason: String,
    },
}

/// A process' access to the bus. Cheap to clone; one per process.
///
/// The bus is left, and its thread ends, when the last of the broker and the handles made from it is dropped.
#[derive(Clone)]
pub struct Broker(Bus);

#[derive(Clone)]
enum Bus {
    Memory(Arc<memory::Bus>),
    Redis(Arc<redis::Bus>),
}

impl Broker {
    /// The embedded broker: all publishers and subscribers are in this process. Always [`Status::Up`].
    #[must_use]
    pub fn memory() -> Self {
        Self(Bus::Memory(Arc::default()))
    }

    /// A broker on Redis. It does not wait for Redis, which may be away now and come later: see
    /// [`status`](Self::status).
    ///
    /// # Errors
    /// When the configuration cannot be meant, or the system has no thread for the bus.
    pub fn redis(config: &redis::Config) -> Result<Self, Error> {
        redis::Bus::start(config).map(|bus| Self(Bus::Redis(bus)))
    }

    /// Makes what the bus asks of Redis known to `registry`: how much, how long it takes, what fails. Nothing for the
    /// embedded broker.
    pub fn register(&self, registry: &mut Registry) {
        if let Bus::Redis(bus) = &self.0 {
            bus.register(registry);
        }
    }

    /// A handle to publish with.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher(self.0.clone())
    }

    /// A handle to read streams with.
    #[must_use]
    pub fn streams(&self) -> Streams {
        Streams(self.0.clone())
    }

    /// A subscriber that wants nothing yet; `sink` gets what it will want.
    ///
    /// The bus keeps the sink until the last clone of the subscriber is dropped, so a sink that owns its subscriber
    /// keeps both alive for good.
    #[must_use]
    pub fn subscriber(&self, sink: Arc<dyn Sink>) -> Subscriber {
        Subscriber(match &self.0 {
            Bus::Memory(bus) => Interest::Memory(Arc::new(memory::Interest::new(bus.clone(), sink))),
            Bus::Redis(bus) => Interest::Redis(redis::Interest::new(bus.clone(), sink)),
        })
    }

    /// Whether the bus can be used, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        match &self.0 {
            Bus::Memory(bus) => bus.status(),
            Bus::Redis(bus) => bus.status(),
        }
    }

    /// Connections for commands, for whoever keeps something in the same Redis; `None` when embedded.
    #[must_use]
    pub fn redis_pool(&self) -> Option<redis::Pool> {
        match &self.0 {
            Bus::Memory(_) => None,
            Bus::Redis(bus) => Some(bus.pool()),
        }
    }

    /// What every Redis key and channel name begins with, before a `:`; `None` when embedded.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        match &self.0 {
            Bus::Memory(_) => None,
            Bus::Redis(bus) => Some(bus.prefix()),
        }
    }
}

/// A handle to publish with. Cheap to clone.
#[derive(Clone)]
pub struct Publisher(Bus);

impl Publisher {
    /// Publishes to all targets, pipelined. One result per target, in order. Places in streams are given here: the
    /// publication's own position is of no account.
    ///
    /// Returns within the command timeout, at once when the bus is known to be away. [`Error::Away`] leaves open
    /// whether the publication was sent; where the target has a key ([`Once`]), asking again is safe.
    /// [`Error::Refused`] may mean that a publication is kept and only its listeners were not allowed to hear it; then
    /// asking again with the same key gets the answer of a duplicate.
    pub async fn publish(
        &self,
        targets: &[Target],
        publication: &Publication,
    ) -> Vec<Result<Published, Error>> {
        match &self.0 {
            Bus::Memory(bus) => {
                let published = targets.iter().map(|target| Ok(bus.publish(target, publication)));
                published.collect()
            }
            Bus::Redis(bus) => bus.publish(targets, &envelope::publication(publication)).await,
        }
    }

    /// The same for whoever can wait for the bus: what could not be published is tried again until `deadline`, which may be
    /// long after the command timeout; `None`: within the command timeout. Nothing is published twice: targets that are
    /// kept get a key for it where they have none, and what is not kept, has no key and may have been sent is not tried
    /// again.
    ///
    /// [`Error::Away`] when the bus did not return in time, or when too much waits for it already (10,000 publishes,
    /// 64 MiB).
    pub async fn publish_within(
        &self,
        targets: &[Target],
        publication: &Publication,
        deadline: Option<Instant>,
    ) -> Vec<Result<Published, Error>> {
        match &self.0 {
            Bus::Memory(_) => self.publish(targets, publication).await,
            Bus::Redis(bus) => {
                let envelope = envelope::publication(publication);
                bus.publish_within(targets, &envelope, deadline).await
            }
        }
    }

    /// A handle for one caller whose publications have to keep their order in each channel.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn ordered(&self) -> OrderedPublisher {
        OrderedPublisher(match &self.0 {
            Bus::Memory(_) => Order::Memory(self.clone()),
            Bus::Redis(bus) => Order::Redis(redis::Ordered::new(bus.clone())),
        })
    }

    /// Whether it is known that nothing can be published to a channel now: whoever carries it is away. (In a Redis Cluster
    /// others may be well.)
    #[must_use]
    pub fn is_away(&self, channel: &Channel) -> bool {
        match &self.0 {
            Bus::Memory(_) => false,
            Bus::Redis(bus) => bus.is_away(channel),
        }
    }

    /// Announces that a member came.
    ///
    /// # Errors
    /// As those of [`publish`](Self::publish).
    pub async fn joined(&self, channel: &Channel, info: &ClientInfo) -> Result<(), Error> {
        match &self.0 {
            Bus::Memory(bus) => {
                bus.send(channel, Incoming::Join(channel.clone(), info.clone()));
                Ok(())
            }
            Bus::Redis(bus) => bus.send(channel, &envelope::join(info)).await,
        }
    }

    /// Announces that a member left.
    ///
    /// # Errors
    /// As those of [`publish`](Self::publish).
    pub async fn left(&self, channel: &Channel, info: &ClientInfo) -> Result<(), Error> {
        match &self.0 {
            Bus::Memory(bus) => {
                bus.send(channel, Incoming::Leave(channel.clone(), info.clone()));
                Ok(())
            }
            Bus::Redis(bus) => bus.send(channel, &envelope::leave(info)).await,
        }
    }

    /// Tells one node, or all that listen to what all are told, something of at most [`CONTROL`] bytes. Answers how many
    /// subscribers the bus handed it to, which need not have taken it in; none, when no such node listens.
    ///
    /// # Errors
    /// As those of [`publish`](Self::publish), and [`Error::TooLong`].
    pub async fn tell(&self, to: To<'_>, message: &Bytes) -> Result<u64, Error> {
        if message.len() > CONTROL {
            return Err(Error::TooLong { size: message.len() });
        }
        match &self.0 {
            Bus::Memory(bus) => Ok(bus.tell(to, message.clone())),
            Bus::Redis(bus) => bus.tell(to, message).await,
        }
    }
}

/// Publishes for one caller, in order: what it publishes to one channel arrives there in the order of the calls, through
/// retries, reconnects and redirects. Dropping it gives up what has no answer yet.
pub struct OrderedPublisher(Order);

enum Order {
    /// In memory a publish has ended before the next begins, and cannot fail.
    Memory(Publisher),
    Redis(redis::Ordered),
}

impl OrderedPublisher {
    /// Publishes as [`Publisher::publish_within`] does. The publication takes its place in the order of each target's
    /// channel before this returns; the future gives the answers, and need not be polled for the publication to be sent.
    ///
    /// A channel where a publication failed for good takes no later one: they are answered [`Error::Aborted`], until the one
    /// that failed is published again with its key ([`Once`]).
    pub fn publish(
        &self,
        targets: &[Target],
        publication: &Publication,
        deadline: Option<Instant>,
    ) -> BoxFuture<'static, Vec<Result<Published, Error>>> {
        match &self.0 {
            Order::Memory(publisher) => {
                let published = publisher.publish(targets, publication).now_or_never();
                ready(published.unwrap_or_default()).boxed()
            }
            Order::Redis(ordered) => {
                let envelope: Bytes = envelope::publication(publication).into();
                ordered.publish(targets, &envelope, deadline)
            }
        }
    }
}

/// A handle to read streams with. Cheap to clone.
///
/// All calls return within the command timeout, at once when the bus is known to be away.
#[derive(Clone)]
pub struct Streams(Bus);

impl Streams {
    /// Reads a part of a channel's stream, as much of it as `retention` still allows, and where the stream is. Where
    /// nothing was ever published, that is offset 0 of a provisional epoch, of which nothing is kept.
    ///
    /// Offsets are looked up in the stream as it is now. Whether that is the stream that they are from is for the caller
    /// to see: [`History::is_of`]. `known`: the newest position that the caller has received, as evidence; see
    /// [`positions`](Self::positions).
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Refused`], and [`Error::Answer`] when there is something in the stream that no version
    /// of this program put there.
    pub async fn read(
        &self,
        channel: &Channel,
        retention: Retention,
        query: Query,
        known: Option<&Watermark>,
    ) -> Result<History, Error> {
        match &self.0 {
            Bus::Memory(bus) => Ok(bus.read(channel, retention, query)),
            Bus::Redis(bus) => bus.read(channel, retention, query, known).await,
        }
    }

    /// Where the streams of these channels are, pipelined. One result per channel, in order; errors and streams that
    /// begin are as in [`read`](Self::read).
    ///
    /// Each may come with the newest position in it that the caller has received. A stream that is not that far has lost
    /// something and gets another epoch, by which all its subscribers are notified.
    pub async fn positions(
        &self,
        channels: &[(&Channel, Option<&Watermark>)],
    ) -> Vec<Result<Position, Error>> {
        match &self.0 {
            Bus::Memory(bus) => {
                let positions = channels.iter().map(|(channel, _)| Ok(bus.position(channel)));
                positions.collect()
            }
            Bus::Redis(bus) => bus.positions(channels).await,
        }
    }

    /// Forgets a channel's stream. The next one begins at offset 1 of another epoch. Answers of idempotent publishes are
    /// not forgotten.
    ///
    /// # Errors
    /// [`Error::Away`] and [`Error::Refused`].
    pub async fn remove(&self, channel: &Channel) -> Result<(), Error> {
        match &self.0 {
            Bus::Memory(bus) => {
                bus.remove(channel);
                Ok(())
            }
            Bus::Redis(bus) => bus.remove(channel).await,
        }
    }
}

/// What one gateway wants. Cheap to clone; all clones share one set, and dropping the last empties it.
///
/// Interest is a set, not a count: two `subscribe` calls are undone by one `unsubscribe`. Concurrent calls for one
/// channel take effect in the order in which they were first polled.
#[derive(Clone)]
pub struct Subscriber(Interest);

#[derive(Clone)]
enum Interest {
    Memory(Arc<memory::Interest>),
    Redis(redis::Interest),
}

impl Subscriber {
    /// Records the interest, and returns when the bus has confirmed it.
    ///
    /// # Errors
    /// [`Error::Away`]: the interest stays recorded and is taken up without further calls when the bus returns, which
    /// one [`Incoming::Gap`] tells; if Redis refuses the channel then, the interest is dropped and that is logged.
    /// [`Error::Refused`]: the interest is not recorded.
    pub async fn subscribe(&self, channel: &Channel) -> Result<(), Error> {
        match &self.0 {
            Interest::Memory(interest) => {
                interest.want(channel.into());
                Ok(())
            }
            Interest::Redis(interest) => interest.want(channel.into()).await,
        }
    }

    /// From here on the sink gets what this node, or all of them, are told ([`Incoming::Control`]). Returns when the bus
    /// has confirmed it.
    ///
    /// # Errors
    /// As those of [`subscribe`](Self::subscribe).
    pub async fn listen(&self, to: To<'_>) -> Result<(), Error> {
        match &self.0 {
            Interest::Memory(interest) => {
                interest.want(to.into());
                Ok(())
            }
            Interest::Redis(interest) => interest.want(to.into()).await,
        }
    }

    /// Forgets the interest, and returns when nothing of the channel can arrive any more. That is so at once while the
    /// bus is away.
    ///
    /// # Errors
    /// [`Error::Refused`] when the bus did not allow it.
    pub async fn unsubscribe(&self, channel: &Channel) -> Result<(), Error> {
        match &self.0 {
            Interest::Memory(interest) => {
                interest.release(&channel.into());
                Ok(())
            }
            Interest::Redis(interest) => interest.release(channel.into()).await,
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bus = match &self.0 {
            Bus::Memory(_) => "memory",
            Bus::Redis(bus) => bus.peer(),
        };
        f.debug_tuple("Broker").field(&bus).finish()
    }
}
