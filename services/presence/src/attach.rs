//! One attachment: hello, a snapshot, then changes and heartbeats until goodbye. Knows no wire.
//!
//! What a gateway had before it attached again stays under its older lease and stays visible until the last
//! part of the snapshot. Then the older lease ends: whoever was not reported again is gone, nobody else blinks. Where some
//! could not be stored, because their part of a Redis Cluster is unavailable, the older lease waits until they are.

use std::{collections::HashSet, time::Duration};

use prometheus_client::metrics::gauge::Gauge;

use crate::{
    Presence,
    member::{Change, GatewayId, Lease, MemberId},
    store::{self, Applied, Epoch},
};

/// What a gateway says.
#[derive(Debug)]
pub(crate) enum Update {
    /// Who it is, and how long its members shall outlive it.
    Hello { gateway: GatewayId, length: Duration },
    /// A part of everyone it has.
    Snapshot { members: Vec<Change>, last: bool },
    /// What happened since.
    Changes(Vec<Change>),
    /// It is alive.
    Heartbeat,
    /// It has stopped.
    Goodbye,
}

/// What became of an update.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Which store it is, after a hello.
    pub(crate) store: Option<Epoch>,
    /// Places in the update of those that could not be stored.
    pub(crate) failed: Vec<u32>,
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
    /// Those that the snapshot had and that could not be stored since; `None`: older leases are superseded.
    owed: Option<HashSet<MemberId>>,
    /// Only a sweep of the lease takes everything back that was written under it: the gateway has to attach again.
    untidy: bool,
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

    /// Takes the next update. When this returns it is stored, but for what is said to have failed, and the lease renewed.
    ///
    /// Dropping the future midway is harmless: the gateway attaches again and reports everyone.
    pub(crate) async fn take(&mut self, seq: u64, update: Update) -> Result<Taken, Refusal> {
        if seq != self.next_seq {
            let why = format!(
                "update {seq} came where {} was due; they are numbered without holes",
                self.next_seq
            );
            return Err(Refusal::OutOfOrder { field: "seq", why });
        }
        self.next_seq += 1;
        let mut taken = Taken::default();
        match (std::mem::replace(&mut self.phase, Phase::Over), update) {
            (Phase::BeforeHello, Update::Hello { gateway, length }) => {
                let (lease, store) = self.presence.store.attach(&gateway, length).await?;
                tracing::info!(gateway.id = %gateway, %lease, "gateway attached");
                let _counted = Counted::new(&self.presence.metrics.attached);
                taken.store = Some(store);
                self.phase = Phase::Snapshot(Held {
                    lease,
                    length,
                    owed: Some(HashSet::new()),
                    untidy: false,
                    _counted,
                });
            }
            (Phase::Snapshot(mut held), Update::Snapshot { members, last }) => {
                taken.failed = self.apply(&mut held, members).await?;
                self.phase = if last {
                    self.supersede(&mut held).await?;
                    Phase::Live(held)
                } else {
                    Phase::Snapshot(held)
                };
            }
            (Phase::Live(mut held), Update::Changes(changes)) => {
                taken.failed = self.apply(&mut held, changes).await?;
                self.supersede(&mut held).await?;
                self.phase = Phase::Live(held);
            }
            (phase @ (Phase::Snapshot(_) | Phase::Live(_)), Update::Heartbeat) => {
                if let Phase::Snapshot(held) | Phase::Live(held) = &phase {
                    self.presence.store.renew(&held.lease, held.length).await?;
                    self.expect_tidy(held).await?;
                }
                self.phase = phase;
            }
            (Phase::Snapshot(held) | Phase::Live(held), Update::Goodbye) => {
                self.presence.store.end(&held.lease).await?;
                if held.owed.is_some() {
                    self.presence.store.supersede(&held.lease).await?;
                }
                tracing::info!(gateway.id = %held.lease.gateway, lease = %held.lease, "gateway said goodbye");
            }
            (phase, update) => return Err(out_of_order(&phase, &update)),
        }
        Ok(taken)
    }

    /// Refuses to go on under an untidy lease, once a new one will not be untidy for the same reason.
    async fn expect_tidy(&self, held: &Held) -> Result<(), store::Error> {
        if held.untidy && self.presence.store.is_whole().await {
            let lease = held.lease.clone();
            return Err(store::Error::Outdated { lease });
        }
        Ok(())
    }

    /// Ends the older leases, once everyone whom they may stand for is stored under the new one.
    async fn supersede(&self, held: &mut Held) -> Result<(), store::Error> {
        if held.owed.as_ref().is_some_and(HashSet::is_empty) {
            self.presence.store.supersede(&held.lease).await?;
            held.owed = None;
        }
        Ok(())
    }

    /// The places of those that could not be stored.
    async fn apply(&self, held: &mut Held, changes: Vec<Change>) -> Result<Vec<u32>, Refusal> {
        // Asked first too: what comes too late would be announced, only to be taken back.
        self.presence.store.renew(&held.lease, held.length).await?;
        let ids: Vec<MemberId> = changes.iter().map(Change::id).collect();
        let failed = self.write(held, changes).await?;
        if let Some(owed) = &mut held.owed {
            for id in &ids {
                if failed.contains(id) {
                    owed.insert(id.clone());
                } else {
                    owed.remove(id);
                }
            }
        }
        let places = (0..).zip(&ids).filter(|(_, id)| failed.contains(*id));
        Ok(places.map(|(place, _)| place).collect())
    }

    async fn write(&self, held: &mut Held, changes: Vec<Change>) -> Result<HashSet<MemberId>, Refusal> {
        let Presence {
            store,
            metrics,
            unconfirmed,
            ..
        } = &self.presence;
        let undo = changes.iter().map(|change| Change::Left(change.id())).collect();
        let count = |applied: &Applied| {
            metrics.joins.inc_by(applied.joined.len() as u64);
            metrics.leaves.inc_by(applied.left.len() as u64);
        };
        let write = unconfirmed.begin(&held.lease);
        let applied = store.apply(&held.lease, changes).await?;
        count(&applied);
        held.untidy |= applied.untidy;
        let renewed = store.renew(&held.lease, held.length).await;
        if let Err(store::Error::Ended { lease }) = &renewed {
            // This came too late, perhaps after the sweep: take it back. What cannot be taken back now is swept.
            count(&store.apply(lease, undo).await?);
            store.end(lease).await?;
        }
        if matches!(
            &renewed,
            Ok(()) | Err(store::Error::Ended { .. } | store::Error::Outdated { .. })
        ) {
            write.confirm();
        }
        renewed?;
        Ok(applied.failed.into_iter().collect())
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
    use tidings_broker::{Broker, test_util::RedisServer};
    use tidings_core::{Channel, ClientId, ClientInfo};

    use super::*;
    use crate::{member::Member, store::Store};

    /// An attachment that is live, and its lease.
    async fn live(presence: &Presence) -> (Attachment, Lease) {
        let mut attachment = Attachment::new(presence.clone());
        let gateway = GatewayId::parse("g1").unwrap();
        let length = Duration::from_secs(10);
        attachment
            .take(1, Update::Hello { gateway, length })
            .await
            .unwrap();
        let everyone = Update::Snapshot {
            members: Vec::new(),
            last: true,
        };
        attachment.take(2, everyone).await.unwrap();
        let Phase::Live(held) = &attachment.phase else {
            panic!("the snapshot was the last part");
        };
        let lease = held.lease.clone();
        (attachment, lease)
    }

    #[tokio::test]
    async fn a_lease_is_unconfirmed_while_nobody_knows_what_became_of_a_write_under_it() {
        let Some(mut server) = RedisServer::start() else {
            return;
        };
        let store = Store::new(&Broker::redis(&server.config()).unwrap());
        let presence = Presence::new(store, &mut Registry::default());
        let (mut attachment, lease) = live(&presence).await;
        assert_eq!(presence.unconfirmed.in_doubt(), []);
        server.kill();
        let Phase::Live(mut held) = std::mem::replace(&mut attachment.phase, Phase::Over) else {
            panic!("it is live");
        };
        let written = attachment.write(&mut held, vec![Change::Joined(ada())]).await;
        assert!(
            matches!(written, Err(Refusal::Store(store::Error::Unavailable(_)))),
            "{written:?}"
        );
        assert_eq!(presence.unconfirmed.in_doubt(), [lease]);
    }

    #[tokio::test]
    async fn a_write_in_flight_whose_caller_is_dropped_leaves_its_lease_unconfirmed() {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let store = Store::new(&Broker::redis(&server.config()).unwrap());
        let presence = Presence::new(store, &mut Registry::default());
        let (mut attachment, lease) = live(&presence).await;
        let Phase::Live(mut held) = std::mem::replace(&mut attachment.phase, Phase::Over) else {
            panic!("it is live");
        };
        {
            let write = std::pin::pin!(attachment.write(&mut held, vec![Change::Joined(ada())]));
            tokio::select! {
                biased;
                _ = write => panic!("Redis has answered at once"),
                () = std::future::ready(()) => {}
            }
            assert_eq!(presence.unconfirmed.in_doubt(), [], "it may still be confirmed");
        }
        assert_eq!(presence.unconfirmed.in_doubt(), [lease]);
    }

    fn ada() -> Member {
        Member {
            channel: Channel::parse("tasks").unwrap(),
            info: ClientInfo {
                user: "ada".into(),
                client: ClientId::random(),
                conn_info: "".into(),
                chan_info: "".into(),
            },
            joined_at: SystemTime::UNIX_EPOCH,
            announced: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_is_taken_back() {
        let store = Store::new(&Broker::memory());
        let presence = Presence::new(store.clone(), &mut Registry::default());
        let (mut late, lease) = live(&presence).await;
        let (newer, _) = store
            .attach(&lease.gateway, Duration::from_secs(10))
            .await
            .unwrap();
        store.supersede(&newer).await.unwrap();

        let ada = ada();
        // As if the lease had ended between the two looks at it.
        let Phase::Live(mut held) = std::mem::replace(&mut late.phase, Phase::Over) else {
            panic!("the snapshot was the last part");
        };
        let written = late.write(&mut held, vec![Change::Joined(ada.clone())]).await;
        late.phase = Phase::Live(held);
        let taken = late.take(3, Update::Changes(vec![Change::Joined(ada)])).await;
        for too_late in [written.map(drop), taken.map(drop)] {
            assert!(
                matches!(too_late, Err(Refusal::Store(store::Error::Ended { .. }))),
                "{too_late:?}"
            );
        }
        for lease in store.ended().await.unwrap().leases {
            assert_eq!(store.sweep(&lease).await.unwrap().left, []);
        }
    }
}
