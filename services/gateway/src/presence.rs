//! The gateway's side of presence: says who joined and left here, asks who is anywhere.
//!
//! Saying never waits: a core notes the change in the `mirror` and goes on. One task per gateway (`attach`)
//! tells presence, heartbeats, and after a lost stream reports everyone again. While presence is away, clients
//! stay connected, changes need no queue (the mirror has them), and asking answers with a temporary error.
//! Only `grpc` knows the wire.

mod attach;
mod follow;
mod grpc;
mod mirror;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_runtime::{Shutdown, health::Component};
use tidings_session::Seen;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use grpc::Error;

use self::{attach::Attach, follow::Followed, grpc::Client, mirror::Shared};
use crate::notice::Event;

/// The most members that one answer to a client has.
const LIST_MAX: usize = 10_000;

/// How long an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a goodbye may take; without it, the members stay until the lease ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// This gateway's members, and the way to everyone else's. Clones are the same; when the last is dropped without
/// [`goodbye`](Self::goodbye), presence keeps the members until the lease ends.
#[derive(Debug, Clone)]
pub struct Members {
    shared: Arc<Shared>,
    client: Client,
    followed: Arc<Followed>,
    goodbye: CancellationToken,
    /// Cancelled when the task that talks to presence has ended.
    ended: CancellationToken,
    _abandon: Arc<DropGuard>,
}

impl Members {
    /// Starts to attach to the presence service behind `channel`, as `gateway`: an id unique to this run of this
    /// process, of at most 128 letters, digits, `-`, `_`, `.` and `:`. Members outlive the gateway by `lease`
    /// (1 s to 10 min). Whether presence is there is told to `health`.
    ///
    /// Must be called inside a tokio runtime. It goes on after `shutdown` is requested, until goodbye.
    pub fn start(
        gateway: String,
        channel: tonic::transport::Channel,
        lease: Duration,
        shutdown: &Shutdown,
        health: Component,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let followed: Arc<Followed> = Arc::default();
        let client = Client::new(channel);
        let (goodbye, ended, abandoned) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let attach = Attach::new(
            gateway,
            lease,
            shared.clone(),
            followed.clone(),
            client.clone(),
            goodbye.clone(),
            health,
        );
        let (ends, abandon) = (ended.clone().drop_guard(), abandoned.clone().drop_guard());
        drop(shutdown.spawn(async move {
            let _ends = ends;
            abandoned.run_until_cancelled(attach.run()).await;
        }));
        Self {
            shared,
            client,
            followed,
            goodbye,
            ended,
            _abandon: Arc::new(abandon),
        }
    }

    /// Makes the number of this gateway's members known to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "members",
            "Members of channels that this gateway reports to presence",
            self.shared.count(),
        );
    }

    /// A client came to a channel that keeps presence, or is `seen` there in another way. Never blocks; from any
    /// thread. The changes of one client must come in their order. When it is to be announced, presence tells the channel's
    /// listeners; who leaves and is back before presence has heard of it was never away.
    pub fn joined(&self, channel: &Channel, seen: &Seen) {
        self.shared.joined(channel, seen);
    }

    /// It left. Likewise.
    pub fn left(&self, channel: &Channel, client: ClientId) {
        self.shared.left(channel, client);
    }

    /// What subscribers here know of others' coming and going.
    pub(crate) fn followed(&self) -> &Followed {
        &self.followed
    }

    /// Compares, after a gap of the bus, what subscribers here know with whom presence has announced, and gives the
    /// differences to `tell`. Runs forever.
    pub(crate) async fn compare(&self, tell: impl Fn(Channel, ClientInfo, Event)) {
        self.followed.run(&self.client, tell).await;
    }

    /// Everyone in a channel, on any gateway, ordered by client id.
    ///
    /// # Errors
    /// When presence is away or too slow, or when they are more than 10,000.
    pub fn list(
        &self,
        channel: &Channel,
    ) -> impl Future<Output = Result<Vec<ClientInfo>, Error>> + Send + use<> {
        let (client, channel) = (self.client.clone(), channel.clone());
        timely(async move { client.list(&channel, LIST_MAX).await })
    }

    /// How many clients are in a channel, on any gateway, and how many different users among them.
    ///
    /// # Errors
    /// When presence is away or too slow.
    pub fn stats(&self, channel: &Channel) -> impl Future<Output = Result<(u32, u32), Error>> + Send + use<> {
        let (client, channel) = (self.client.clone(), channel.clone());
        timely(async move { client.stats(&channel).await })
    }

    /// Says that this gateway has stopped, once its clients are gone, so that its members need not wait for the
    /// lease to end. Waits a short while at most; nothing is said any more afterwards.
    pub async fn goodbye(&self) {
        self.goodbye.cancel();
        if tokio::time::timeout(GOODBYE_TIMEOUT, self.ended.cancelled())
            .await
            .is_err()
        {
            tracing::warn!(
                "presence did not hear the goodbye in time; this gateway's members stay until its lease ends"
            );
        }
    }
}

async fn timely<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(CALL_TIMEOUT, call)
        .await
        .unwrap_or(Err(Error::TooSlow { after: CALL_TIMEOUT }))
}
