//! What all cores of a gateway share, and the slow work that they have done elsewhere.

use std::sync::Arc;

use tidings_broker::{Publisher, Streams, Target};
use tidings_core::{Channel, Position, Publication, Retention};
use tidings_protocol::Error;
use tidings_session::{Answer, Query, Rules};
use tokio::sync::Semaphore;
use tracing::Span;

use crate::{
    backend::Backend,
    control::Control,
    deliver::Deliver,
    evidence::Evidence,
    identity::Identities,
    inbox::{Address, Inbox, Letter},
    interest::Interest,
    metrics::Metrics,
    position::is_of_or_both_provisional,
    presence::Members,
    quiet::Found,
    quota::Quota,
    reads::{Reads, budget},
    unreadable::Unreadable,
};

/// Publishes of clients that may be under way at once. The others wait here, and their senders with them.
pub(crate) const PUBLISHES: usize = 1024;

/// One gateway, as its cores see it.
pub(crate) struct Node {
    /// Its name among the nodes.
    pub(crate) name: Arc<str>,
    /// What it tells them.
    pub(crate) control: Arc<Control>,
    pub(crate) rules: Arc<Rules>,
    /// Bytes that may wait for one client.
    pub(crate) outbox: usize,
    /// Bytes of one message from a client.
    pub(crate) message: usize,
    pub(crate) identities: Identities,
    /// The user's backend.
    pub(crate) backend: Backend,
    /// How many connections each user may have.
    pub(crate) users: Quota<Arc<str>>,
    pub(crate) interest: Interest,
    pub(crate) members: Members,
    pub(crate) publisher: Publisher,
    pub(crate) streams: Streams,
    pub(crate) reads: Reads,
    /// What is known to have been given in each stream.
    pub(crate) evidence: Arc<Evidence>,
    /// Streams that cannot be read, as readiness reports them.
    pub(crate) unreadable: Unreadable,
    /// Where quiet streams are.
    pub(crate) quiet: Found,
    pub(crate) deliver: Arc<Deliver>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) publishes: Semaphore,
    pub(crate) shutdown: tidings_runtime::Shutdown,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Node {
    /// Publishes what a client said. While whoever carries a channel is known to be away, a channel that keeps no stream is still
    /// delivered to this node's own subscribers. A publish whose fate is unknown is not: at most once is what such
    /// channels promise, so the client is told to try again.
    pub(crate) async fn publish(&self, target: Target, publication: Publication) -> Result<(), Error> {
        let _place = self.publishes.acquire().await.map_err(|_| Error::INTERNAL)?;
        let plain = target.retention.is_none() && target.once.is_none();
        if plain && self.publisher.is_away(&target.channel) {
            self.deliver
                .publication(target.channel, publication, Span::none());
            return Ok(());
        }
        let channel = target.channel.clone();
        match self.publisher.publish(&[target], &publication).await.pop() {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                tracing::warn!(channel.name = %channel, %error, "a client's publication did not reach the bus");
                Err(Error::INTERNAL)
            }
            None => Err(Error::INTERNAL),
        }
    }

    /// A channel as its namespace has it.
    pub(crate) fn target(&self, channel: Channel) -> Target {
        Target {
            retention: self.retention(&channel),
            ..Target::from(channel)
        }
    }

    /// Reads what a channel has kept.
    pub(crate) async fn history(
        &self,
        channel: &Channel,
        query: Query,
    ) -> Result<(Vec<Publication>, Position), Error> {
        let Some(retention) = self.retention(channel) else {
            return Err(Error::NOT_AVAILABLE);
        };
        let part = tidings_broker::Query {
            since: query.since.as_ref().map(|since| since.offset),
            limit: query.limit,
            reverse: query.reverse,
            // Twice as much as one answer may have, so that one that is cut short is refused as too large.
            bytes: budget(self.outbox),
        };
        let reading = self
            .reads
            .recover(channel, retention, part)
            .await
            .map_err(|error| {
                tracing::warn!(channel.name = %channel, %error, "a channel's history could not be read");
                Error::INTERNAL
            })?;
        let history = &reading.history;
        // Offsets of another epoch mean other publications, or none. A client that names no epoch takes what is there.
        match query.since {
            Some(since) if !since.epoch.is_empty() && !is_of_or_both_provisional(&since, history) => {
                Err(Error::UNRECOVERABLE_POSITION)
            }
            _ => Ok((history.publications.clone(), history.top.clone())),
        }
    }

    /// Whether subscribers of a channel may ask for differences.
    pub(crate) fn differs(&self, channel: &Channel) -> bool {
        let namespace = self.rules.namespaces.of(channel);
        namespace.is_some_and(|namespace| !namespace.allowed_delta_types.is_empty())
    }

    /// What a channel keeps.
    pub(crate) fn retention(&self, channel: &Channel) -> Option<Retention> {
        self.rules.namespaces.of(channel)?.retention()
    }

    /// Has something done outside the core, which ends with a letter to it.
    pub(crate) fn post(
        self: &Arc<Self>,
        inbox: &Arc<Inbox>,
        work: impl Future<Output = Letter> + Send + 'static,
    ) {
        let inbox = inbox.clone();
        let _guard = self.runtime.enter();
        self.shutdown.spawn(async move { inbox.put(work.await) });
    }

    /// Has work done outside the core; its outcome comes back as a letter.
    pub(crate) fn work(
        self: &Arc<Self>,
        inbox: &Arc<Inbox>,
        from: Address,
        work: impl Future<Output = Answer> + Send + 'static,
    ) {
        self.post(inbox, async move { Letter::Completed(from, work.await) });
    }
}
