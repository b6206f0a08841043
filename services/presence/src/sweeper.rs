//! Cleans up after gateways whose lease has ended. Readers do not wait for it: they have not seen those members
//! since the lease ended.
//!
//! Its looks are also what tells a store that answers from one that does not: see the store's rule of outages. So it looks
//! several times per length of the shortest lease.

use std::time::Duration;

use tidings_runtime::Shutdown;

use crate::{
    Presence,
    member::Lease,
    metrics::Metrics,
    store::{self, Epoch, Scrub, Store},
};

/// How often to look, at most and at least: one command per replica and look, and one more where leaves are announced later.
const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(200);

/// Into how many looks the shortest lease is divided: a third of it without any counts as an outage.
const LOOKS: u32 = 6;

/// How many steps of a scrub are done per look.
const SCRUBBED: usize = 20;

pub(crate) async fn run(presence: &Presence, shutdown: &Shutdown) {
    let mut failing = false;
    let mut wait = Duration::ZERO;
    let mut scrub = None;
    loop {
        // A sweep that is dropped in the middle goes on at the next replica, or at the next start.
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let swept = tokio::select! {
            () = shutdown.requested() => return,
            swept = tidy(presence, &mut wait, &mut scrub) => swept,
        };
        match swept {
            Ok(()) => failing = false,
            Err(error) => {
                // Once per outage: it is tried again every second.
                if !failing {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot sweep ended leases, or announce leaves; trying on"
                    );
                }
                failing = true;
            }
        }
    }
}

/// Sweeps, announces what is due, and goes on with a scrub where one is. One that fails keeps not the others from it. `wait`
/// becomes until when to look again.
async fn tidy(
    presence: &Presence,
    wait: &mut Duration,
    scrub: &mut Option<Scrub>,
) -> Result<(), store::Error> {
    let Presence {
        store,
        metrics,
        unconfirmed,
        ..
    } = presence;
    for lease in unconfirmed.leases() {
        if store.end_again(&lease).await? {
            unconfirmed.settle(&lease);
        }
    }
    let swept = match store.ended().await {
        Ok(ended) => {
            *wait = ended
                .shortest
                .map_or(INTERVAL, |shortest| (shortest / LOOKS).clamp(SHORTEST, INTERVAL));
            let swept = sweep(store, metrics, &ended.leases).await;
            swept.and(scrub_on(store, ended.unscrubbed, scrub).await)
        }
        Err(error) => {
            *wait = INTERVAL.min((*wait).max(SHORTEST));
            Err(error)
        }
    };
    while store.settle().await? {}
    swept
}

/// Some steps of a scrub, where it is time for one.
async fn scrub_on(
    store: &Store,
    unscrubbed: Option<Epoch>,
    scrub: &mut Option<Scrub>,
) -> Result<(), store::Error> {
    let Some(unscrubbed) = unscrubbed else {
        return Ok(());
    };
    let going_on = scrub.take().filter(|scrub| scrub.store() == unscrubbed);
    let scrub = scrub.insert(going_on.unwrap_or_else(|| Scrub::new(unscrubbed)));
    for _ in 0..SCRUBBED {
        if !store.scrub(scrub).await? {
            break;
        }
    }
    Ok(())
}

/// Sweeps leases. What cannot be swept keeps nothing else from it; the first error is returned.
async fn sweep(store: &Store, metrics: &Metrics, leases: &[Lease]) -> Result<(), store::Error> {
    let mut result = Ok(());
    for lease in leases {
        result = result.and(sweep_lease(store, metrics, lease).await);
    }
    result
}

async fn sweep_lease(store: &Store, metrics: &Metrics, lease: &Lease) -> Result<(), store::Error> {
    let mut members = 0;
    loop {
        let swept = store.sweep(lease).await?;
        metrics.swept.inc_by(swept.left.len() as u64);
        members += swept.left.len();
        if swept.done {
            break;
        }
        if swept.failed && swept.left.is_empty() {
            tracing::debug!(gateway.id = %lease.gateway, %lease, members, "a part of the store is unavailable: swept later");
            return Ok(());
        }
    }
    tracing::info!(gateway.id = %lease.gateway, %lease, members, "swept an ended lease");
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tidings_broker::{
        Broker,
        test_util::{Recorder, RedisServer},
    };

    use super::*;
    use crate::{
        member::{GatewayId, Member},
        store::fixture::{LONG, attach, bare, channel, joins, keys, leave, member, news},
    };

    #[tokio::test]
    async fn a_member_that_was_written_after_its_lease_was_swept_is_swept_and_announced_as_leaving() {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let broker = Broker::redis(&server.config()).unwrap();
        let presence = Presence::new(bare(&broker), &mut Registry::default());
        let Presence {
            store, unconfirmed, ..
        } = &presence;
        let recorder = Recorder::new(&broker, &["tasks"]).await;
        let lease = attach(store, "g1", LONG).await;
        unconfirmed.begin(&lease);
        let (mut wait, mut scrub) = (Duration::ZERO, None);
        tidy(&presence, &mut wait, &mut scrub).await.unwrap();
        assert_eq!(unconfirmed.leases(), std::slice::from_ref(&lease), "it lives");
        leave(store, &lease).await;
        let late = Member {
            announced: true,
            ..member(&channel("tasks"), "ada")
        };
        store.apply(&lease, joins([&late])).await.unwrap();
        assert_eq!(news(&recorder).await, 1, "it was heard coming");
        tidy(&presence, &mut wait, &mut scrub).await.unwrap();
        assert_eq!(news(&recorder).await, 1, "and goes");
        assert_eq!(unconfirmed.leases(), []);
        assert_eq!(keys(&server).await, [] as [String; 0]);
    }

    #[tokio::test]
    async fn a_lease_that_cannot_be_swept_keeps_no_other_from_it() {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let broker = Broker::redis(&server.config()).unwrap();
        let store = Store::new(&broker);
        let mut leases = Vec::new();
        for gateway in ["g1", "g2"] {
            let gateway = GatewayId::parse(gateway).unwrap();
            leases.push(store.attach(&gateway, INTERVAL).await.unwrap().0);
            store.end(leases.last().unwrap()).await.unwrap();
        }
        assert_eq!(store.ended().await.unwrap().leases, leases);
        redis::cmd("SET") // where a set should be
            .arg(format!("tidings:{{leases}}:{}:users", leases[0]))
            .arg("x")
            .exec_async(&mut broker.redis_pool().unwrap().get().await.unwrap())
            .await
            .unwrap();

        let metrics = Metrics::register(&mut Registry::default());
        let swept = sweep(&store, &metrics, &leases).await;
        assert!(matches!(swept, Err(store::Error::Unavailable(_))), "{swept:?}");
        assert_eq!(store.ended().await.unwrap().leases, leases[..1]);
    }
}
