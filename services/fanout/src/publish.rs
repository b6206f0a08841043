//! An event to the bus: is it allowed, who hears of it, what do they keep, and one publication for each of them.

pub(crate) mod bare;
mod send;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidings_auth::{Key, Keys, rate::Rate};
use tidings_broker::{self as broker, Broker, Once, OrderedPublisher, Published, Status, WINDOW};
use tidings_core::{Channel, Event, Namespaces};
use tidings_telemetry::trace;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

pub(crate) use self::send::whole;
use crate::{
    limit::Limits,
    metrics::{EventResult, Metrics},
    once,
    refusals::Refusals,
    routing::{self, Form, Origin, Target, live::Live},
};

/// How much may be under way at a time, in bytes, roughly: what comes beyond it waits, unread where it is a stream. It is
/// twice what the broker lets wait, so that what waits for one part of the bus leaves room for the others.
const ROOM: u32 = 128 << 20;

/// What a channel of an event takes of it, beside the event: its target, its answer.
const ROOM_PER_CHANNEL: usize = 512;

pub(crate) struct Publish {
    publisher: broker::Publisher,
    status: watch::Receiver<Status>,
    /// Whether a part of the bus can be unavailable while the others are not.
    partial: bool,
    /// The bus, as traces call it.
    system: &'static str,
    routes: Live,
    namespaces: Namespaces,
    /// Whether any of them passes traces on to clients.
    tags_traces: bool,
    limits: Limits,
    refusals: Arc<Refusals>,
    room: Arc<Semaphore>,
    metrics: Metrics,
}

/// An accepted event and what it came with.
pub(crate) struct Request {
    pub(crate) event: Event,
    /// Explicit targets; empty: the routes decide.
    pub(crate) channels: Vec<Channel>,
    /// By what a repeat is known; `None`: it cannot be repeated.
    pub(crate) once: Option<Once>,
    /// How long a repeat is known, from the first publish on.
    pub(crate) window: Duration,
    pub(crate) accepted: SystemTime,
    /// Whose it is; `None` where no key is asked for.
    pub(crate) key: Option<Arc<Key>>,
    /// The caller's trace.
    pub(crate) trace: Option<trace::Context>,
}

/// An event that may be published, and everything that is to be done for it.
pub(crate) struct Plan {
    /// Until when it may wait for a bus that is unavailable; `None`: no longer than the bus' command timeout.
    pub(crate) deadline: Option<Instant>,
    begun: Instant,
    event: Event,
    accepted: SystemTime,
    trace: Option<trace::Context>,
    targets: Vec<Target>,
    /// The same, as the broker is asked for them.
    broker_targets: Vec<broker::Target>,
    /// Targets whose part of the bus is unavailable, and the answer for each: nothing is sent to them.
    unavailable: Vec<(Channel, broker::Error)>,
}

/// A plan with room for its event among all that are under way.
pub(crate) struct Ready {
    plan: Box<Plan>,
    room: OwnedSemaphorePermit,
}

impl Ready {
    pub(crate) fn event_id(&self) -> &str {
        &self.plan.event.id
    }

    /// The caller's trace.
    pub(crate) fn trace(&self) -> Option<&trace::Context> {
        self.plan.trace.as_ref()
    }
}

impl Plan {
    /// The channels that receive the event.
    pub(crate) fn channels(&self) -> impl ExactSizeIterator<Item = &Channel> + Clone {
        self.targets.iter().map(|target| &target.channel)
    }

    /// The channels that were [left out](Publish::leave_out_unavailable).
    pub(crate) fn unavailable(&self) -> impl Iterator<Item = &Channel> + Clone {
        self.unavailable.iter().map(|(channel, _)| channel)
    }

    /// Whether there is nothing to publish, and nothing to answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.unavailable.is_empty()
    }

    /// Takes channels out, which then do not receive the event and are in no answer.
    pub(crate) fn leave_out(&mut self, is_out: impl FnMut(&Channel) -> bool) -> Vec<Channel> {
        let left_out: Vec<bool> = self.channels().map(is_out).collect();
        if !left_out.contains(&true) {
            return Vec::new();
        }
        let (mut target, mut broker_target) = (left_out.iter(), left_out.iter());
        self.broker_targets
            .retain(|_| broker_target.next() != Some(&true));
        let out = self.targets.extract_if(.., |_| target.next() == Some(&true));
        out.map(|target| target.channel).collect()
    }

    fn size(&self) -> u32 {
        let size = self.event.data.len() + self.targets.len().saturating_mul(ROOM_PER_CHANNEL);
        u32::try_from(size).unwrap_or(ROOM).clamp(1, ROOM)
    }
}

/// What became of it, channel by channel, in order.
pub(crate) type Results = Vec<(Channel, Result<Published, broker::Error>)>;

/// Why nothing of an event was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API key {key:?} may not publish events of type {kind:?}")]
    Event { key: String, kind: String },
    #[error("the API key {key:?} may not publish to channel {channel}")]
    Channel { key: String, channel: Channel },
    #[error("the API key {key:?} publishes faster than its rate ({rate})")]
    Rate {
        key: String,
        rate: Rate,
        /// When the next one may come.
        after: Duration,
    },
    /// Nobody said what the channel offers, so nobody could hear of it.
    #[error("{}no namespace {:?} is configured", cause(.channel, .route.as_ref()), .channel.namespace().unwrap_or_default())]
    Namespace {
        channel: Channel,
        /// The route that gave the channel; `None`: the event named it.
        route: Option<Origin>,
    },
    #[error(transparent)]
    Routing(#[from] routing::Error),
    #[error("published to none of the channels: {0}")]
    Bus(broker::Error),
}

impl Publish {
    pub(crate) fn new(
        broker: &Broker,
        routes: Live,
        namespaces: Namespaces,
        keys: Option<&Keys>,
        refusals: Arc<Refusals>,
        metrics: Metrics,
    ) -> Self {
        Self {
            publisher: broker.publisher(),
            status: broker.status(),
            partial: broker.redis_pool().is_some_and(|pool| pool.is_cluster()),
            system: if broker.prefix().is_some() {
                "redis"
            } else {
                "memory"
            },
            routes,
            tags_traces: namespaces.any(|namespace| namespace.traceparent_tag),
            namespaces,
            limits: keys.map_or_else(Limits::default, |keys| Limits::of(keys, Instant::now())),
            refusals,
            room: Arc::new(Semaphore::new(ROOM as usize)),
            metrics,
        }
    }

    /// Decides all that there is to decide about an event; nothing is sent yet.
    pub(crate) fn plan(&self, request: Request) -> Result<Box<Plan>, Error> {
        let key = request.key.clone();
        self.decide(request).inspect_err(|error| {
            self.metrics.event(match error {
                Error::Event { .. } | Error::Channel { .. } => EventResult::Denied,
                Error::Rate { .. } => EventResult::Limited,
                Error::Routing(_) | Error::Namespace { .. } => EventResult::Invalid,
                Error::Bus(_) => EventResult::Failed,
            });
            // What a source is refused, it says itself.
            if let (Some(key), Some(reason)) = (key.filter(|key| !key.is_inside()), error.refusal()) {
                self.refusals.note(key.name(), reason, &error.to_string());
            }
        })
    }

    /// Waits until there is room for an event among all that are under way; it has it until it is published, or dropped.
    pub(crate) fn room(&self, plan: Box<Plan>) -> impl Future<Output = Ready> + Send + use<> {
        let room = self.room.clone().acquire_many_owned(plan.size());
        async move {
            let room = room.await.expect("the semaphore is never closed");
            Ready { plan, room }
        }
    }

    /// A handle for one caller whose events keep their order in each channel.
    pub(crate) fn ordered(&self) -> OrderedPublisher {
        self.publisher.ordered()
    }

    /// Whether the bus can be used, now and whenever that changes.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether a part of the bus can be unavailable while the others are not: it is a Redis Cluster.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Whether a channel is known to be carried by a part of the bus that is unavailable while others may not be.
    pub(crate) fn is_unavailable(&self, channel: &Channel) -> bool {
        self.partial && self.publisher.is_away(channel)
    }

    /// Has a plan answered at once for the channels whose part of the bus is known to be unavailable, where others may not be:
    /// for who tries again later, and would wait for each of many events until the command timeout.
    pub(crate) fn leave_out_unavailable(&self, plan: &mut Plan) {
        if !self.partial {
            return;
        }
        let out = plan.leave_out(|channel| self.is_unavailable(channel));
        if out.is_empty() {
            return;
        }
        let reason = match &*self.status.borrow() {
            Status::Away { reason } => reason.clone(),
            Status::Up => "its part of the bus is unavailable".to_owned(),
        };
        let away = |channel| {
            let reason = reason.clone();
            (channel, broker::Error::Away { reason })
        };
        plan.unavailable.extend(out.into_iter().map(away));
    }

    /// Counts an event that could not be read.
    pub(crate) fn malformed(&self) {
        self.metrics.event(EventResult::Invalid);
    }

    /// Says once a minute that a key was refused.
    pub(crate) fn refused(&self, key: &Key, reason: &'static str, why: &str) {
        self.refusals.note(key.name(), reason, why);
    }

    /// Takes one from what the key may do.
    ///
    /// # Errors
    /// [`Error::Rate`], which has been counted and logged.
    pub(crate) fn admit(&self, key: &Key) -> Result<(), Error> {
        self.take(key).inspect_err(|error| {
            self.refusals
                .note(key.name(), "RATE_EXCEEDED", &error.to_string());
        })
    }

    fn take(&self, key: &Key) -> Result<(), Error> {
        let Some(limit) = key.limit() else {
            return Ok(());
        };
        self.limits
            .take(key, Instant::now())
            .map_err(|after| Error::Rate {
                key: key.name().to_owned(),
                rate: limit.rate,
                after,
            })
    }

    fn decide(&self, request: Request) -> Result<Box<Plan>, Error> {
        let begun = Instant::now();
        let Request {
            event,
            channels,
            once,
            window,
            accepted,
            key,
            trace,
        } = request;
        let key = key.as_deref();
        if let Some(key) = key {
            self.take(key)?;
        }
        if let Some(key) = key.filter(|key| !key.may_publish_event(&event.kind)) {
            return Err(Error::Event {
                key: key.name().to_owned(),
                kind: event.kind,
            });
        }
        let targets = self.targets(&event, channels)?;
        if let Some(key) = key
            && let Some(target) = targets.iter().find(|target| !key.may_publish_to(&target.channel))
        {
            return Err(Error::Channel {
                key: key.name().to_owned(),
                channel: target.channel.clone(),
            });
        }
        let broker_targets = targets
            .iter()
            .map(|target| self.broker_target(target, once.as_ref(), window, key))
            .collect::<Result<Vec<_>, _>>()?;
        // On the heap, because it passes through many hands.
        Ok(Box::new(Plan {
            deadline: None,
            begun,
            event,
            accepted,
            trace,
            targets,
            broker_targets,
            unavailable: Vec::new(),
        }))
    }

    /// Explicit channels get the whole event, as a route that does not say otherwise would give it.
    fn targets(&self, event: &Event, channels: Vec<Channel>) -> Result<Vec<Target>, Error> {
        if !channels.is_empty() {
            let form = Arc::<Form>::default();
            let targets = channels.into_iter().map(|channel| Target {
                channel,
                form: form.clone(),
                route: None,
            });
            return Ok(targets.collect());
        }
        let targets = self.routes.load().targets(event)?;
        // The channels of one route are neighbours.
        for found in targets.chunk_by(|one, next| one.route == next.route) {
            if let Some(route) = &found[0].route {
                self.metrics.routed(route);
            }
        }
        if targets.is_empty() {
            self.metrics.unrouted.inc();
            self.refusals.unrouted(&event.kind);
            tracing::debug!(event.r#type = event.kind, "no route takes the event");
        }
        Ok(targets)
    }

    /// Whether somebody has said what the channel offers.
    pub(crate) fn configured(&self, channel: &Channel) -> Result<(), Error> {
        match self.namespaces.of(channel) {
            Some(_) => Ok(()),
            None => Err(Error::Namespace {
                channel: channel.clone(),
                route: None,
            }),
        }
    }

    /// What the broker is asked for: the channel keeps what its namespace says, and takes an event once.
    fn broker_target(
        &self,
        target: &Target,
        once: Option<&Once>,
        window: Duration,
        key: Option<&Key>,
    ) -> Result<broker::Target, Error> {
        let (channel, form) = (target.channel.clone(), &target.form);
        let Some(namespace) = self.namespaces.of(&channel) else {
            return Err(Error::Namespace {
                channel,
                route: target.route.clone(),
            });
        };
        let once = match &form.idempotency_key {
            Some(text) => Some(once::by_route(text, key.map(Key::name))),
            None => once.cloned(),
        };
        // The embedded broker does not outlive those who repeat, and what it keeps for long would crowd out the rest.
        let window = if self.system == "memory" {
            window.min(WINDOW)
        } else {
            window
        };
        Ok(broker::Target {
            channel,
            retention: namespace.retention().filter(|_| !form.skip_history),
            once: once.map(|once| Once { window, ..once }),
            version: None,
        })
    }
}

impl Error {
    /// What an API key was refused for, if that is it.
    fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Event { .. } => Some("EVENT_OUT_OF_SCOPE"),
            Self::Channel { .. } => Some("CHANNEL_OUT_OF_SCOPE"),
            Self::Rate { .. } => Some("RATE_EXCEEDED"),
            Self::Namespace { .. } | Self::Routing(_) | Self::Bus(_) => None,
        }
    }
}

/// Whether all the channels of an event had it already.
pub(crate) fn is_duplicate(results: &Results) -> bool {
    let had = |result: &Result<Published, _>| matches!(result, Ok(Published { duplicate: true, .. }));
    !results.is_empty() && results.iter().all(|(_, result)| had(result))
}

fn cause(channel: &Channel, route: Option<&Origin>) -> String {
    match route {
        Some(route) => format!("{route} gives channel {channel}: "),
        None => format!("channel {channel}: "),
    }
}
