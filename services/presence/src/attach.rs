//! One attachment: hello, a snapshot, then changes and heartbeats until goodbye. Knows no wire.
//!
//! What a gateway had before it attached again stays under its older lease and stays visible until the last
//! part of the snapshot. Then the older lease ends: whoever was not reported again is gone, nobody else blinks.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

use crate::{
    Presence,
    member::{Change, GatewayId, Lease, Member},
    store::{self, Applied},
};

/// What a gateway says.
#[derive(Debug)]
pub(crate) enum Update {
    /// Who it is, and how long its members shall outlive it.
    Hello { gateway: GatewayId, length: Duration },
    /// A part of everyone it has.
    Snapshot { members: Vec<Member>, last: bool },
    /// What happened since.
    Changes(Vec<Change>),
    /// It is alive.
    Heartbeat,
    /// It has stopped.
    Goodbye,
}

/// Why an attachment ends against the gateway's will.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The gateway broke the protocol's order.
    #[error("{why}")]
    OutOfOrder { field: &'static str, why: String },
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A gateway's attachment to this replica.
pub(crate) struct Attachment {
    presence: Presence,
    phase: Phase,
    next_seq: u64,
}

enum Phase {
    BeforeHello,
    Snapshot(Held),
    Live(Held),
    Over,
}

/// The lease, and that this replica has one more gateway.
struct Held {
    lease: Lease,
    length: Duration,
    _counted: Counted,
}

impl Attachment {
    pub(crate) fn new(presence: Presence) -> Self {
        Self {
            presence,
            phase: Phase::BeforeHello,
            next_seq: 1,
        }
    }

    /// Completes when this replica stops.
    pub(crate) async fn closing(&self) {
        self.presence.closing.cancelled().await;
    }

    /// How long to wait for the next update. A stream that is silent for longer has lost its lease anyway.
    pub(crate) fn patience(&self) -> Duration {
        match &self.phase {
            Phase::Snapshot(held) | Phase::Live(held) => held.length,
            Phase::BeforeHello | Phase::Over => Duration::from_secs(10),
        }
    }

    /// Takes the next update. When this returns it is stored, and the lease renewed.
    ///
    /// Dropping the future midway is harmless: the gateway attaches again and reports everyone.
    pub(crate) async fn take(&mut self, seq: u64, update: Update) -> Result<(), Refusal> {
        if seq != self.next_seq {
            let why = format!(
                "update {seq} came where {} was due; they are numbered without holes",
                self.next_seq
            );
            return Err(Refusal::OutOfOrder { field: "seq", why });
        }
        self.next_seq += 1;
        match (std::mem::replace(&mut self.phase, Phase::Over), update) {
            (Phase::BeforeHello, Update::Hello { gateway, length }) => {
                let lease = self.presence.store.attach(&gateway, length).await?;
                tracing::info!(gateway.id = %gateway, %lease, "gateway attached");
                let _counted = Counted::new(&self.presence.metrics.attached);
                self.phase = Phase::Snapshot(Held {
                    lease,
                    length,
                    _counted,
                });
            }
            (Phase::Snapshot(held), Update::Snapshot { members, last }) => {
                self.apply(&held, members.into_iter().map(Change::Joined).collect())
                    .await?;
                if last {
                    self.presence.store.supersede(&held.lease).await?;
                }
                self.phase = if last {
                    Phase::Live(held)
                } else {
                    Phase::Snapshot(held)
                };
            }
            (Phase::Live(held), Update::Changes(changes)) => {
                self.apply(&held, changes).await?;
                self.phase = Phase::Live(held);
            }
            (phase @ (Phase::Snapshot(_) | Phase::Live(_)), Update::Heartbeat) => {
                if let Phase::Snapshot(held) | Phase::Live(held) = &phase {
                    self.presence.store.renew(&held.lease, held.length).await?;
                }
                self.phase = phase;
            }
            (Phase::Snapshot(held) | Phase::Live(held), Update::Goodbye) => {
                self.presence.store.end(&held.lease).await?;
                tracing::info!(gateway.id = %held.lease.gateway, lease = %held.lease, "gateway said goodbye");
            }
            (phase, update) => return Err(out_of_order(&phase, &update)),
        }
        Ok(())
    }

    async fn apply(&self, held: &Held, changes: Vec<Change>) -> Result<(), Refusal> {
        // Asked first too: what comes too late would be announced, only to be taken back.
        self.presence.store.renew(&held.lease, held.length).await?;
        self.write(held, changes).await
    }

    async fn write(&self, held: &Held, changes: Vec<Change>) -> Result<(), Refusal> {
        let Presence { store, metrics, .. } = &self.presence;
        let undo = changes.iter().map(|change| Change::Left(change.id())).collect();
        let count = |applied: &Applied| {
            metrics.joins.inc_by(applied.joined.len() as u64);
            metrics.leaves.inc_by(applied.left.len() as u64);
        };
        count(&store.apply(&held.lease, changes).await?);
        let renewed = store.renew(&held.lease, held.length).await;
        if let Err(store::Error::Ended { lease }) = &renewed {
            // This came too late, perhaps after the sweep: take it back, and have swept what cannot be taken back now.
            let undone = store.apply(lease, undo).await;
            store.end(lease).await?;
            count(&undone?);
        }
        Ok(renewed?)
    }
}

fn out_of_order(phase: &Phase, update: &Update) -> Refusal {
    let (field, why) = match (phase, update) {
        (Phase::BeforeHello, _) => ("update", "the first update must be hello"),
        (Phase::Over, _) => ("update", "nothing comes after goodbye"),
        (_, Update::Hello { .. }) => ("hello", "hello is only the first update"),
        (Phase::Snapshot(_), _) => ("changes", "changes come after the last part of the snapshot"),
        (Phase::Live(_), _) => ("snapshot", "the snapshot has had its last part"),
    };
    Refusal::OutOfOrder {
        field,
        why: why.to_owned(),
    }
}

/// One more in a gauge, as long as it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use prometheus_client::registry::Registry;
    use tidings_broker::Broker;
    use tidings_core::{Channel, ClientId, ClientInfo};

    use super::*;
    use crate::store::Store;

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_is_taken_back() {
        let store = Store::new(&Broker::memory());
        let gateway = GatewayId::parse("g1").unwrap();
        let length = Duration::from_secs(10);
        let mut late = Attachment::new(Presence::new(store.clone(), &mut Registry::default()));
        let hello = Update::Hello {
            gateway: gateway.clone(),
            length,
        };
        late.take(1, hello).await.unwrap();
        let everyone = Update::Snapshot {
            members: Vec::new(),
            last: true,
        };
        late.take(2, everyone).await.unwrap();
        let newer = store.attach(&gateway, length).await.unwrap();
        store.supersede(&newer).await.unwrap();

        let ada = Member {
            channel: Channel::parse("tasks").unwrap(),
            info: ClientInfo {
                user: "ada".into(),
                client: ClientId::random(),
                conn_info: "".into(),
                chan_info: "".into(),
            },
            joined_at: SystemTime::UNIX_EPOCH,
            announced: false,
        };
        // As if the lease had ended between the two looks at it.
        let Phase::Live(held) = &late.phase else {
            panic!("the snapshot was the last part");
        };
        let written = late.write(held, vec![Change::Joined(ada.clone())]).await;
        let taken = late.take(3, Update::Changes(vec![Change::Joined(ada)])).await;
        for too_late in [written, taken] {
            assert!(
                matches!(too_late, Err(Refusal::Store(store::Error::Ended { .. }))),
                "{too_late:?}"
            );
        }
        for lease in store.ended().await.unwrap() {
            assert_eq!(store.sweep(&lease).await.unwrap().left, []);
        }
    }
}
