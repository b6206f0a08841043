//! Cleans up after gateways whose lease has ended. Readers do not wait for it: they have not seen those members
//! since the lease ended.

use std::time::Duration;

use tidings_runtime::Shutdown;
use tokio::time::MissedTickBehavior;

use crate::{
    member::Lease,
    metrics::Metrics,
    store::{self, Store},
};

/// How often to look: one command per replica and look, and one more where leaves are announced later.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(store: &Store, metrics: &Metrics, shutdown: &Shutdown) {
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        // A sweep that is dropped in the middle goes on at the next replica, or at the next start.
        tokio::select! {
            () = shutdown.requested() => return,
            _ = looks.tick() => {}
        }
        let swept = tokio::select! {
            () = shutdown.requested() => return,
            swept = tidy(store, metrics) => swept,
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

/// Sweeps, and announces what is due. One that fails keeps not the other from it.
async fn tidy(store: &Store, metrics: &Metrics) -> Result<(), store::Error> {
    let swept = sweep(store, metrics).await;
    while store.settle().await? {}
    swept
}

/// Sweeps everything that has ended by now. What cannot be swept keeps nothing else from it; the first error is returned.
pub(crate) async fn sweep(store: &Store, metrics: &Metrics) -> Result<(), store::Error> {
    let mut result = Ok(());
    for lease in store.ended().await? {
        result = result.and(sweep_lease(store, metrics, &lease).await);
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
    }
    tracing::info!(gateway.id = %lease.gateway, %lease, members, "swept an ended lease");
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tidings_broker::{Broker, test_util::RedisServer};

    use super::*;
    use crate::member::GatewayId;

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
            leases.push(store.attach(&gateway, INTERVAL).await.unwrap());
            store.end(leases.last().unwrap()).await.unwrap();
        }
        assert_eq!(store.ended().await.unwrap(), leases);
        redis::cmd("SET") // where a set should be
            .arg(format!("tidings:gateway:{{{}}}:users", leases[0]))
            .arg("x")
            .exec_async(&mut broker.redis_pool().unwrap().get().await.unwrap())
            .await
            .unwrap();

        let metrics = Metrics::register(&mut Registry::default());
        let swept = sweep(&store, &metrics).await;
        assert!(matches!(swept, Err(store::Error::Unavailable(_))), "{swept:?}");
        assert_eq!(store.ended().await.unwrap(), leases[..1]);
    }
}
