//! The task that keeps presence informed: attach, report everyone, then changes and heartbeats; and again after
//! a lost stream, which costs nobody anything while the lease lives.
//!
//! One update is under way at a time. What changes meanwhile goes with the next: the slower presence is, the
//! larger the updates.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tidings_runtime::health::{Component, State};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    follow::Followed,
    grpc::{Client, Error, Stream, Update},
    mirror::{Change, Id, Mirror, Shared},
};

/// How much one update has at most: presence takes 1,000 members, and gRPC 4 MiB.
const UPDATE_LEN: usize = 1_000;
const UPDATE_BYTES: usize = 1024 * 1024;

/// Between two tries to attach, at most. Well below any lease, so that a short outage costs nobody anything.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// After how long presence is told again what a part of its store could not take.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Attach {
    gateway: String,
    lease: Duration,
    shared: Arc<Shared>,
    followed: Arc<Followed>,
    client: Client,
    goodbye: CancellationToken,
    health: Component,
}

impl Attach {
    pub(super) const fn new(
        gateway: String,
        lease: Duration,
        shared: Arc<Shared>,
        followed: Arc<Followed>,
        client: Client,
        goodbye: CancellationToken,
        health: Component,
    ) -> Self {
        Self {
            gateway,
            lease,
            shared,
            followed,
            client,
            goodbye,
            health,
        }
    }

    /// Runs until goodbye has been said, or cannot be.
    pub(super) async fn run(self) {
        let mut waits = backoff();
        let mut away = false;
        loop {
            let mut attached = false;
            let Err(error) = self.attach(&mut attached).await else {
                return;
            };
            if attached {
                (waits, away) = (backoff(), false);
            }
            if self.goodbye.is_cancelled() {
                tracing::warn!(%error, "goodbye to presence not said: its members stay until the lease ends");
                return;
            }
            match &error {
                // Presence is there: it is only that more happens here than it takes.
                Lost::TooManyChanges => tracing::warn!(%error, "reporting everyone to presence again"),
                Lost::Presence(error) => {
                    // Once per outage; the first lost stream of each says why.
                    if !away {
                        tracing::warn!(%error, "presence is away; clients stay connected, attaching again");
                    }
                    away = true;
                    self.health.set(State::Away(error.to_string()));
                }
            }
            let wait = waits.next().unwrap_or(LONGEST_WAIT);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Nothing is attached, so there is nobody to say goodbye to.
                () = self.goodbye.cancelled() => return,
            }
        }
    }

    /// One attachment; `Ok` after goodbye. Sets `attached` once everyone is reported, and what changed
    /// meanwhile.
    async fn attach(&self, attached: &mut bool) -> Result<(), Lost> {
        let mut stream = self.client.attach(self.lease / 2).await?;
        let hello = Update::Hello {
            gateway: &self.gateway,
            lease: self.lease,
        };
        let store = stream.tell(hello).await?.store;
        if self.shared.with(|mirror| mirror.begin_snapshot(store)) {
            // Who was lost with the store before, and left since, is announced by nobody.
            self.followed.gap();
        }
        let mut failed = BTreeSet::new();
        self.report_everyone(&mut stream, &mut failed).await?;
        self.health.set(State::Up);
        // Where too much has changed meanwhile, everyone has to be reported again, and again a little later each time.
        self.report_changes(&mut stream, &mut failed).await?;
        *attached = true;
        tracing::info!(gateway.id = self.gateway, "attached to presence");

        let mut heartbeats = tokio::time::interval(self.lease / 3);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeats.reset();
        let mut again = tokio::time::interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let leaving = self.goodbye.is_cancelled();
            self.report_changes(&mut stream, &mut failed).await?;
            if leaving {
                stream.tell(Update::Goodbye).await?;
                return Ok(());
            }
            tokio::select! {
                () = self.shared.changed() => {}
                () = self.goodbye.cancelled() => {}
                _ = heartbeats.tick() => drop(stream.tell(Update::Heartbeat).await?),
                _ = again.tick(), if !failed.is_empty() => {
                    let failed = std::mem::take(&mut failed);
                    self.shared.with(|mirror| failed.into_iter().for_each(|id| mirror.note(id)));
                }
                error = stream.lost() => return Err(error.into()),
            }
        }
    }

    async fn report_everyone(&self, stream: &mut Stream, failed: &mut BTreeSet<Id>) -> Result<(), Lost> {
        let mut after: Option<Id> = None;
        loop {
            let mut room = Room::default();
            let members = self
                .shared
                .with(|mirror| mirror.part(after.as_ref(), |member| room.take(member.size())));
            let ids: Vec<Id> = members
                .iter()
                .map(|member| (member.channel.clone(), member.seen.info.client))
                .collect();
            after = ids.last().cloned();
            let last = !room.ran_out;
            let ack = stream.tell(Update::Snapshot { members, last }).await?;
            self.told(ids, &ack.failed, failed);
            if !room.ran_out {
                return Ok(());
            }
        }
    }

    async fn report_changes(&self, stream: &mut Stream, failed: &mut BTreeSet<Id>) -> Result<(), Lost> {
        let untold = self
            .shared
            .with(Mirror::take_untold)
            .ok_or(Lost::TooManyChanges)?;
        let mut untold = untold.into_iter().peekable();
        while untold.peek().is_some() {
            let mut room = Room::default();
            let (ids, changes): (Vec<Id>, Vec<Change>) = self.shared.with(|mirror| {
                let next = || {
                    let change = mirror.change(untold.peek()?);
                    let fits = room.take(change.size());
                    fits.then(|| untold.next()).flatten().map(|id| (id, change))
                };
                std::iter::from_fn(next).unzip()
            });
            let ack = stream.tell(Update::Changes(changes)).await?;
            self.told(ids, &ack.failed, failed);
        }
        Ok(())
    }

    /// Presence has taken an update about these, but for those at the places `refused`, which become `failed`.
    fn told(&self, ids: Vec<Id>, refused: &[u32], failed: &mut BTreeSet<Id>) {
        let refused: BTreeSet<u32> = refused.iter().copied().collect();
        let mut taken = Vec::with_capacity(ids.len());
        for (at, id) in (0..).zip(ids) {
            if refused.contains(&at) {
                failed.insert(id);
            } else {
                taken.push(id);
            }
        }
        self.shared
            .with(|mirror| taken.iter().for_each(|id| mirror.told(id)));
    }
}

/// Why an attachment ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Presence(#[from] Error),
    /// More has changed than is kept: report everyone again.
    #[error("more changed than could be told")]
    TooManyChanges,
}

fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

/// What is left of one update.
struct Room {
    len: usize,
    bytes: usize,
    ran_out: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            len: UPDATE_LEN,
            bytes: UPDATE_BYTES,
            ran_out: false,
        }
    }
}

impl Room {
    /// Whether one more of `size` bytes fits. The first always does: none is nearly as large as gRPC's limit.
    fn take(&mut self, size: usize) -> bool {
        let first = self.len == UPDATE_LEN;
        if self.len == 0 || (size > self.bytes && !first) {
            self.ran_out = true;
            return false;
        }
        self.len -= 1;
        self.bytes = self.bytes.saturating_sub(size);
        true
    }
}
