//! What a gateway counts.

use std::{sync::atomic::AtomicU64, time::SystemTime};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tidings_protocol::{CloseReason, Reply, reply::Subscribed};
use tidings_telemetry::Latency;
use tracing::Span;

/// Everything that was missed has been had.
const RECOVERED: &str = "recovered";
const REPAIRED: &str = "repaired";
/// The stream has it no more, or could not be read.
const INSUFFICIENT: &str = "insufficient";

/// The gateway's metrics. Counting never waits for anybody who reads them for longer than a copy takes.
#[derive(Debug)]
pub(crate) struct Metrics {
    connections: Gauge,
    subscriptions: Gauge,
    publications: Counter,
    deliveries: Counter,
    bytes: Counter,
    latency: Latency,
    outbox: Gauge,
    recoveries: Family<Recovery, Counter>,
    closes: Family<Close, Counter>,
    gaps: Counter,
    lost: Counter,
    repairs: Family<Repair, Counter>,
    control_in: Counter,
    control_out: Counter,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Repair {
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Recovery {
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Close {
    code: u32,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Gauge::default(),
            subscriptions: Gauge::default(),
            publications: Counter::default(),
            deliveries: Counter::default(),
            bytes: Counter::<u64, AtomicU64>::default(),
            latency: Latency::register(
                registry,
                "delivery_latency",
                "From the publish to the last of this node's outboxes, by the clocks of both nodes",
            ),
            outbox: Gauge::default(),
            recoveries: Family::default(),
            closes: Family::default(),
            gaps: Counter::default(),
            lost: Counter::default(),
            repairs: Family::default(),
            control_in: Counter::default(),
            control_out: Counter::default(),
        };
        let m = &metrics;
        registry.register(
            "connections",
            "Clients that are connected now",
            m.connections.clone(),
        );
        registry.register(
            "subscriptions",
            "Subscriptions of connected clients",
            m.subscriptions.clone(),
        );
        registry.register(
            "publications_in",
            "Publications that came from the bus",
            m.publications.clone(),
        );
        registry.register(
            "deliveries_out",
            "Publications queued for a client",
            m.deliveries.clone(),
        );
        registry.register_with_unit(
            "delivered",
            "Frames queued for clients",
            Unit::Bytes,
            m.bytes.clone(),
        );
        registry.register_with_unit(
            "outbox",
            "Frames that wait for WebSocket clients whose sockets take no more",
            Unit::Bytes,
            m.outbox.clone(),
        );
        registry.register(
            "recoveries",
            "Subscriptions of clients that came back with their position, by whether they got what they missed",
            m.recoveries.clone(),
        );
        registry.register("closes", "Connections ended, by close code", m.closes.clone());
        registry.register(
            "control_in",
            "Messages from other nodes, outside of channels",
            m.control_in.clone(),
        );
        registry.register(
            "control_out",
            "Messages to other nodes, outside of channels",
            m.control_out.clone(),
        );
        registry.register("gaps", "Times the bus may have lost something", m.gaps.clone());
        registry.register(
            "overflows",
            "Times a core fell so far behind that publications were dropped",
            m.lost.clone(),
        );
        registry.register(
            "repairs",
            "Times a core's members had missed something of a stream, by what became of it",
            m.repairs.clone(),
        );
        // There from the start, so that the first of each is seen as an increase.
        for outcome in [RECOVERED, INSUFFICIENT] {
            drop(m.recoveries.get_or_create(&Recovery { outcome }));
        }
        for outcome in [REPAIRED, INSUFFICIENT] {
            drop(m.repairs.get_or_create(&Repair { outcome }));
        }
        m.closed_by(&CloseReason::Slow, 0);
        metrics
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    pub(crate) fn disconnected(&self) {
        self.connections.dec();
    }

    pub(crate) fn closed(&self, reason: &CloseReason) {
        self.closed_by(reason, 1);
    }

    fn closed_by(&self, reason: &CloseReason, times: u64) {
        let code = reason.code().into();
        self.closes.get_or_create(&Close { code }).inc_by(times);
    }

    /// So many bytes wait in an outbox, in which `before` waited.
    pub(crate) fn waiting(&self, before: u32, now: u32) {
        if now != before {
            self.outbox.inc_by(i64::from(now) - i64::from(before));
        }
    }

    /// A client is told something: perhaps whether it got what it missed.
    pub(crate) fn replied(&self, reply: &Reply) {
        match reply {
            Reply::Subscribe { result, .. } => self.recovery(result),
            Reply::Connect { result, .. } => result.subs.iter().for_each(|(_, sub)| self.recovery(sub)),
            _ => {}
        }
    }

    fn recovery(&self, subscribed: &Subscribed) {
        let outcome = match subscribed.recovered {
            None => return,
            Some(true) => RECOVERED,
            Some(false) => INSUFFICIENT,
        };
        self.recoveries.get_or_create(&Recovery { outcome }).inc();
    }

    pub(crate) fn subscribed(&self) {
        self.subscriptions.inc();
    }

    pub(crate) fn unsubscribed(&self) {
        self.subscriptions.dec();
    }

    /// How many subscriptions there are.
    pub(crate) fn subscriptions(&self) -> usize {
        usize::try_from(self.subscriptions.get()).unwrap_or_default()
    }

    pub(crate) fn received(&self) {
        self.publications.inc();
    }

    pub(crate) fn delivered(&self, subscribers: u64, bytes: u64, accepted: SystemTime, span: &Span) {
        self.deliveries.inc_by(subscribers);
        self.bytes.inc_by(bytes);
        if subscribers > 0 {
            // Clocks of two machines: a publication from the future took no time.
            self.latency
                .observe(accepted.elapsed().unwrap_or_default().as_secs_f64(), span);
        }
    }

    pub(crate) fn control_in(&self) {
        self.control_in.inc();
    }

    pub(crate) fn control_out(&self) {
        self.control_out.inc();
    }

    pub(crate) fn gap(&self) {
        self.gaps.inc();
    }

    pub(crate) fn repaired(&self) {
        self.repair(REPAIRED);
    }

    pub(crate) fn insufficient(&self) {
        self.repair(INSUFFICIENT);
    }

    fn repair(&self, outcome: &'static str) {
        self.repairs.get_or_create(&Repair { outcome }).inc();
    }

    pub(crate) fn lost(&self) {
        self.lost.inc();
    }
}
