//! What nodes tell each other outside of channels: this node's end.
//!
//! Three things travel so. A request of a client that came by another node than the one that holds its connection is
//! passed on to that ([`Control::emulate`]). And what a backend wants done with connections is told to all gateways at
//! once: each has its cores do it to those that they hold, and tells the asker how many they were. So it is with what
//! backends want to know of channels ([`survey`]).

mod order;
mod survey;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use prost::Message as _;
use tidings_broker::{self as broker, Publisher, Subscriber, To};
use tidings_core::Channel;
use tidings_proto::bus::{self, control::Body};
use tidings_runtime::Shutdown;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

pub(crate) use self::order::{Order, What};
use self::survey::Survey;
use crate::{
    emulation::{Emulated, SessionId},
    inbox::{Inbox, Letter},
    interest::Table,
    metrics::Metrics,
};

/// KiB of what this node was told that may be under way at once. What comes beyond is dropped: an order's asker knows it,
/// as an answer is missing; a client hears nothing, and asks again.
const UNDER_WAY: usize = 32 * 1024;

/// The longest name of a node that is looked for.
const MAX_NAME: usize = 128;

/// This node's end of the control plane.
pub(crate) struct Control {
    /// What this node is called on the bus.
    node: Arc<str>,
    publisher: Publisher,
    inboxes: Vec<Arc<Inbox>>,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
    under_way: Arc<Semaphore>,
    /// Surveys walk the whole table: one at a time.
    surveys: Semaphore,
    /// Messages that were not heeded.
    skipped: AtomicU64,
    shutdown: Shutdown,
    runtime: Handle,
}

/// What a core is to do, and how far it has come.
pub(crate) struct Errand {
    pub(crate) order: Arc<Order>,
    /// The key of the connection that comes next.
    pub(crate) next: usize,
    /// How many connections it was carried out on so far.
    pub(crate) affected: u32,
    /// Who gets that number in the end.
    pub(crate) asker: oneshot::Sender<u32>,
}

impl Errand {
    pub(crate) fn new(order: Arc<Order>, asker: oneshot::Sender<u32>) -> Self {
        Self {
            order,
            next: 0,
            affected: 0,
            asker,
        }
    }
}

impl Control {
    /// The end of the node called `node`. Must be called inside the multi-thread runtime.
    pub(crate) fn new(
        node: Arc<str>,
        publisher: Publisher,
        inboxes: Vec<Arc<Inbox>>,
        table: Arc<Table>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            node,
            publisher,
            inboxes,
            table,
            metrics,
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            surveys: Semaphore::new(1),
            skipped: AtomicU64::new(0),
            shutdown,
            runtime: Handle::current(),
        }
    }

    /// Has the bus bring what this node is told. While the bus is away it remembers that.
    pub(crate) async fn listen(&self, subscriber: Subscriber) {
        for to in [To::Node(&self.node), To::All] {
            if let Err(error @ broker::Error::Refused { .. }) = subscriber.listen(to).await {
                tracing::error!(
                    %error, "this node hears nothing of other nodes; its Redis user needs the channels `PREFIX:control*`"
                );
            }
        }
    }

    /// Passes what a client said apart from its connection on to the node that holds that. Whether that node heard it; if
    /// not, there is none of that name. Whether it knows the connection is not asked: the client hears of that by its
    /// connection, or has none.
    ///
    /// # Errors
    /// As those of [`Publisher::tell`].
    pub(crate) async fn emulate(
        &self,
        node: &str,
        session: SessionId,
        data: Bytes,
    ) -> Result<bool, broker::Error> {
        if node.is_empty() || node.len() > MAX_NAME || !node.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(false);
        }
        let message = Body::Emulate(bus::Emulate {
            session: session.to_string(),
            data,
        });
        Ok(self.tell(To::Node(node), message).await? > 0)
    }

    /// Takes what this node was told. Called on the bus' own thread, so it only hands on.
    pub(crate) fn incoming(self: &Arc<Self>, message: Bytes) {
        self.metrics.control_in();
        let kib = u32::try_from(message.len().div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        let told = match decode(message) {
            Ok(told) => told,
            Err(error) => return self.skip(&error),
        };
        let Ok(place) = self.under_way.clone().try_acquire_many_owned(kib) else {
            return self.skip(&"too much is under way already");
        };
        match told {
            Told::Emulate(session, data) => self.emulated(session, data, place),
            Told::Order { id, asker, order } => self.order(id, asker, order, place),
            Told::Survey { id, asker, survey } => self.survey(id, asker, survey, place),
        }
    }

    fn skip(&self, why: &dyn fmt::Display) {
        // The 1st, 2nd, 4th, 8th … are logged: the log stays small however many come.
        let skipped = self.skipped.fetch_add(1, Relaxed) + 1;
        if skipped.is_power_of_two() {
            tracing::warn!(skipped, %why, "left undone what another node told this one");
        }
    }

    /// Hands what a client said to the core that holds its connection.
    fn emulated(&self, session: SessionId, data: Bytes, place: OwnedSemaphorePermit) {
        let Some(inbox) = self.inboxes.get(session.core) else {
            return;
        };
        let (heard, answer) = oneshot::channel();
        inbox.put(Letter::Emulated(Box::new(Emulated {
            key: session.key,
            secret: session.secret,
            data,
            heard: Some(heard),
        })));
        self.spawn(async move {
            // Whether there was such a connection is of no account here: it may have gone just now.
            let _ = answer.await;
            drop(place);
        });
    }

    /// Has every core carry out an order, and tells the asker how many connections that affected.
    fn order(self: &Arc<Self>, id: u64, asker: String, order: Order, place: OwnedSemaphorePermit) {
        let order = Arc::new(order);
        let ask = |inbox: &Arc<Inbox>| {
            let (asker, answer) = oneshot::channel();
            inbox.put(Letter::Order(Errand::new(order.clone(), asker)));
            answer
        };
        let answers: Vec<_> = self.inboxes.iter().map(ask).collect();
        let control = self.clone();
        self.spawn(async move {
            let mut affected = 0_u32;
            for answer in answers {
                // A core that has ended has nobody.
                affected = affected.saturating_add(answer.await.unwrap_or(0));
            }
            drop(place);
            let answer = Body::Answer(bus::Answer { id, affected });
            if let Err(error) = control.tell(To::Node(&asker), answer).await {
                tracing::debug!(order.id = id, %error, "an order was carried out, and its asker not told");
            }
        });
    }

    /// Finds the channels that are asked for, off the cores; these only count who is there.
    fn survey(self: &Arc<Self>, id: u64, asker: String, survey: Survey, place: OwnedSemaphorePermit) {
        let control = self.clone();
        self.spawn(async move {
            let Ok(turn) = control.surveys.acquire().await else {
                return;
            };
            let table = control.table.clone();
            let found = control
                .runtime
                .spawn_blocking(move || table.first(survey.limit(), |channel| survey.wants(channel)));
            // It fails only where the process ends.
            let Ok((channels, more)) = found.await else {
                return;
            };
            let clients = control.count(&channels).await;
            drop((turn, place));
            let counts = channels.iter().zip(clients).filter(|(_, clients)| *clients > 0);
            let counts = counts.map(|(channel, clients)| bus::ChannelCount {
                channel: channel.to_string(),
                clients,
            });
            let counts = bus::ChannelCounts {
                channels: counts.collect(),
                // The last name says from where to go on, though nobody may be there.
                last: channels.last().map(ToString::to_string).unwrap_or_default(),
                more,
            };
            let report = Body::Report(bus::Report {
                id,
                what: Some(bus::report::What::Channels(counts)),
            });
            if let Err(error) = control.tell(To::Node(&asker), report).await {
                tracing::debug!(survey.id = id, %error, "a survey was made, and its asker not told");
            }
        });
    }

    /// How many clients each channel has, on all cores together.
    async fn count(&self, channels: &Arc<[Channel]>) -> Vec<u32> {
        let ask = |inbox: &Arc<Inbox>| {
            let (asker, answer) = oneshot::channel();
            inbox.put(Letter::Count(channels.clone(), asker));
            answer
        };
        let answers: Vec<_> = self.inboxes.iter().map(ask).collect();
        let mut sum = vec![0_u32; channels.len()];
        for answer in answers {
            // A core that has ended has nobody.
            for (sum, count) in sum.iter_mut().zip(answer.await.unwrap_or_default()) {
                *sum = sum.saturating_add(count);
            }
        }
        sum
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let _guard = self.runtime.enter();
        drop(self.shutdown.spawn(work));
    }

    async fn tell(&self, to: To<'_>, body: Body) -> Result<u64, broker::Error> {
        self.metrics.control_out();
        let message = bus::Control { body: Some(body) };
        self.publisher.tell(to, &message.encode_to_vec().into()).await
    }
}

/// What a gateway can be told.
enum Told {
    Emulate(SessionId, Bytes),
    Order { id: u64, asker: String, order: Order },
    Survey { id: u64, asker: String, survey: Survey },
}

/// Why a message tells nothing.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Order(#[from] order::Error),
    #[error(transparent)]
    Survey(#[from] survey::Error),
}

/// Reads a message. Its sender is a node of ours, but its version may differ and anyone with access to Redis can publish,
/// so everything is checked that the vocabulary promises.
fn decode(message: Bytes) -> Result<Told, Error> {
    let control = bus::Control::decode(message).map_err(order::Error::from)?;
    match control.body {
        Some(Body::Emulate(bus::Emulate { session, data })) => {
            let session = session.parse().map_err(|_| order::Error::Session)?;
            Ok(Told::Emulate(session, data))
        }
        Some(Body::Order(order)) => Ok(Told::Order {
            id: order.id,
            asker: order.asker.clone(),
            order: Order::from_wire(order)?,
        }),
        Some(Body::Survey(bus::Survey {
            id,
            asker,
            what: Some(bus::survey::What::Channels(asked)),
        })) => Ok(Told::Survey {
            id,
            asker,
            survey: Survey::from_wire(asked)?,
        }),
        Some(Body::Answer(_) | Body::Report(_)) => Err(order::Error::Unasked.into()),
        // A roll call is the whole process's.
        Some(Body::Survey(_)) | None => Err(order::Error::Empty.into()),
    }
}

#[cfg(test)]
mod tests;
