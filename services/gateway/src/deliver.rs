//! From the bus to the cores: who of this node's cores wants a publication gets it, all of them the same one.

use std::sync::Arc;

use tidings_broker::{Incoming, Sink};
use tidings_core::{Channel, ClientInfo, Publication};
use tidings_telemetry::trace;
use tracing::Span;

use crate::{
    control::Control,
    delivery::Delivery,
    evidence::Evidence,
    inbox::{Inbox, Letter},
    interest::Table,
    metrics::Metrics,
    notice::{Event, Notice},
    presence::Members,
};

/// The gateway's end of the bus. Runs on the bus' own thread and never waits.
pub(crate) struct Deliver {
    pub(crate) table: Arc<Table>,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) control: Arc<Control>,
    pub(crate) members: Members,
    pub(crate) metrics: Arc<Metrics>,
    /// What the bus is, in the words of OpenTelemetry.
    pub(crate) system: &'static str,
}

impl Sink for Deliver {
    fn incoming(&self, incoming: Incoming) {
        match incoming {
            Incoming::Publication(channel, publication) => {
                self.metrics.received();
                let span = self.span(&channel, &publication);
                self.publication(channel, publication, span);
            }
            Incoming::Gap => {
                self.metrics.gap();
                tracing::warn!(
                    "the bus was away and may have lost publications; channels without history miss them"
                );
                self.evidence.doubt();
                for inbox in &self.inboxes {
                    inbox.put(Letter::Gap);
                }
                self.members.followed().gap();
            }
            Incoming::Join(channel, info) => self.member(channel, info, Event::Join),
            Incoming::Leave(channel, info) => self.member(channel, info, Event::Leave),
            Incoming::Control(message) => self.control.incoming(message),
        }
    }
}

impl Deliver {
    /// Whether the bus is one between processes, on which something may be lost.
    pub(crate) fn is_shared(&self) -> bool {
        self.system != "memory"
    }

    /// Hands a publication to every core that wants its channel.
    pub(crate) fn publication(&self, channel: Channel, publication: Publication, span: Span) {
        let cores = self.table.cores(&channel);
        self.evidence.received(&channel, &publication);
        let delivery = Arc::new(Delivery::new(channel, publication, self.metrics.clone(), span));
        for core in cores.iter() {
            self.inboxes[core].put(Letter::Deliver(delivery.clone()));
        }
    }

    /// Tells the cores of somebody's coming or going, if that is news to their clients.
    fn member(&self, channel: Channel, info: ClientInfo, event: Event) {
        let tell = |channel, info, event| self.notice(channel, info, event);
        self.members.followed().incoming(channel, info, event, tell);
    }

    /// Tells every core that wants the channel of somebody's coming or going.
    pub(crate) fn notice(&self, channel: Channel, info: ClientInfo, event: Event) {
        let cores = self.table.cores(&channel);
        let notice = Arc::new(Notice::new(channel, info, event));
        for core in cores.iter() {
            self.inboxes[core].put(Letter::Notice(notice.clone()));
        }
    }

    /// One span per gateway and publication, in the publisher's trace: `deliver CHANNEL`.
    fn span(&self, channel: &Channel, publication: &Publication) -> Span {
        let Some(from) = publication.trace.as_ref().filter(|_| trace::enabled()) else {
            return Span::none();
        };
        let from = trace::Context {
            traceparent: from.traceparent.clone(),
            tracestate: from.tracestate.clone(),
        };
        trace::deliver(
            self.system,
            channel.as_str(),
            &publication.id,
            publication.data.len(),
            Some(&from),
        )
    }
}
