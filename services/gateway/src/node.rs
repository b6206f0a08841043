//! What all cores of a gateway share, and the slow work that they have done elsewhere.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidings_auth::token::{self, Verifier};
use tidings_broker::{Publisher, Status};
use tidings_core::{Channel, Publication};
use tidings_protocol::Error;
use tidings_session::{Answer, Identity, Refusal, Rules};
use tokio::sync::{Semaphore, watch};
use tracing::Span;

use crate::{
    deliver::Deliver,
    inbox::{Address, Inbox, Letter},
    interest::Interest,
    metrics::Metrics,
    presence::Members,
};

/// Publishes of clients that may be under way at once. The others wait here, and their senders with them.
pub(crate) const PUBLISHES: usize = 1024;

/// One gateway, as its cores see it.
pub(crate) struct Node {
    pub(crate) rules: Arc<Rules>,
    /// Bytes that may wait for one client.
    pub(crate) outbox: usize,
    /// Bytes of one message from a client.
    pub(crate) message: usize,
    /// `None`: nobody's token can be checked, which only `tidings dev` allows.
    pub(crate) verifier: Option<Verifier>,
    pub(crate) interest: Interest,
    pub(crate) members: Members,
    pub(crate) publisher: Publisher,
    pub(crate) bus: watch::Receiver<Status>,
    pub(crate) deliver: Arc<Deliver>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) publishes: Semaphore,
    pub(crate) shutdown: tidings_runtime::Shutdown,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Node {
    /// Whose token this is.
    pub(crate) fn authenticate(&self, token: &str) -> Result<Identity, Refusal> {
        let Some(verifier) = self.verifier.as_ref().filter(|_| !token.is_empty()) else {
            return Ok(Identity::anonymous());
        };
        let now = SystemTime::now();
        match verifier.connection(token, now).settle() {
            Ok(connection) => identity(connection, now),
            Err(token::Error::Expired) => Err(Refusal::Expired),
            Err(token::Error::Unavailable) => Err(Refusal::Unavailable),
            Err(error @ (token::Error::Invalid(_) | token::Error::Mismatch(_))) => {
                tracing::debug!(%error, "a client showed an invalid token");
                Err(Refusal::Invalid)
            }
        }
    }

    /// Publishes what a client said. While the bus is known to be away, a channel that keeps no stream is still
    /// delivered to this node's own subscribers. A publish whose fate is unknown is not: at most once is what such
    /// channels promise, so the client is told to try again.
    pub(crate) async fn publish(&self, channel: Channel, publication: Publication) -> Result<(), Error> {
        let _place = self.publishes.acquire().await.map_err(|_| Error::INTERNAL)?;
        if matches!(*self.bus.borrow(), Status::Away { .. }) {
            self.deliver.publication(channel, publication, Span::none());
            return Ok(());
        }
        let result = self
            .publisher
            .publish(&[channel.clone().into()], &publication)
            .await
            .pop();
        match result {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                tracing::warn!(channel.name = %channel, %error, "a client's publication did not reach the bus");
                Err(Error::INTERNAL)
            }
            None => Err(Error::INTERNAL),
        }
    }

    /// Has work done outside the core; its outcome comes back as a letter.
    pub(crate) fn work(
        self: &Arc<Self>,
        inbox: &Arc<Inbox>,
        from: Address,
        work: impl Future<Output = Answer> + Send + 'static,
    ) {
        let inbox = inbox.clone();
        let _guard = self.runtime.enter();
        self.shutdown
            .spawn(async move { inbox.put(Letter::Completed(from, work.await)) });
    }
}

/// Who a token's bearer is. A token that names a channel which cannot be is no better than a forged one.
fn identity(connection: token::Connection, now: SystemTime) -> Result<Identity, Refusal> {
    let channels = connection
        .subs
        .keys()
        .map(|name| Channel::parse(name))
        .collect::<Result<_, _>>();
    Ok(Identity {
        user: connection.user.into(),
        info: connection.info.into_json(),
        expires_in: connection
            .expires_at
            .map(|at| at.duration_since(now).unwrap_or(Duration::ZERO)),
        channels: channels.map_err(|why| {
            tracing::debug!(%why, "a client's token names a channel that cannot be");
            Refusal::Invalid
        })?,
    })
}
