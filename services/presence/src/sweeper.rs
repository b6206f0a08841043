//! Cleans up after gateways whose lease has ended. Readers do not wait for it: they have not seen those members
//! since the lease ended.

use std::time::Duration;

use tidings_runtime::Shutdown;
use tokio::time::MissedTickBehavior;

use crate::{
    metrics::Metrics,
    store::{self, Store},
};

/// How often to look: one command per replica and look.
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
            swept = sweep(store, metrics) => swept,
        };
        match swept {
            Ok(()) => failing = false,
            Err(error) => {
                // Once per outage: it is tried again every second.
                if !failing {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot sweep ended leases; trying on"
                    );
                }
                failing = true;
            }
        }
    }
}

/// Sweeps everything that has ended by now.
pub(crate) async fn sweep(store: &Store, metrics: &Metrics) -> Result<(), store::Error> {
    for lease in store.ended().await? {
        let mut members = 0;
        loop {
            let swept = store.sweep(&lease).await?;
            metrics.swept.inc_by(swept.left.len() as u64);
            members += swept.left.len();
            if swept.done {
                break;
            }
        }
        tracing::info!(gateway.id = %lease.gateway, %lease, members, "swept an ended lease");
    }
    Ok(())
}
