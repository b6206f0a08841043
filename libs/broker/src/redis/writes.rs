//! Whether a Redis takes writes. It may answer everything else and refuse those, to anybody and for a while: for want of replicas
//! or of memory, or because it cannot write a snapshot. Then its channels count as unavailable, so that a source does not
//! try each of its events there, until a probe is taken again.

use std::{sync::Arc, time::Duration};

use deadpool_redis::Pool;
use parking_lot::Mutex;
use redis::RedisError;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{peer::Peer, thread::Spawner};
use crate::{Error, error::is_busy};

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(500);

/// The probe of one Redis, while there is one.
pub(super) struct Writes {
    pool: Pool,
    peer: Peer,
    spawner: Spawner,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_refused: bool,
    /// The last probe. It may have ended.
    probe: Option<AbortOnDropHandle<()>>,
}

impl Writes {
    pub(super) fn new(pool: Pool, peer: Peer, spawner: Spawner) -> Self {
        Self {
            pool,
            peer,
            spawner,
            state: Arc::default(),
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.state.lock().is_refused
    }

    /// A write was refused. From now on it is tried again by setting `key`, which has to be in a slot of this Redis, for a
    /// millisecond.
    pub(super) fn refused(&self, error: &Error, key: String) {
        let mut state = self.state.lock();
        if state.is_refused {
            return;
        }
        warn!(%error, "Redis refuses writes; publishes wait until it takes them again");
        state.is_refused = true;
        let probing = probe(self.pool.clone(), key);
        let (state_then, peer) = (self.state.clone(), self.peer.clone());
        state.probe = Some(self.spawner.spawn(async move {
            probing.await;
            state_then.lock().is_refused = false;
            info!(redis.url = %peer.name(), "Redis does not refuse writes any more");
        }));
    }
}

/// Returns once Redis does not refuse a write for what it refuses all for. Where it cannot be reached that is found out by others.
async fn probe(pool: Pool, key: String) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Ok(mut connection) = pool.get().await else {
            return;
        };
        let mut write = redis::cmd("SET");
        write.arg(&key).arg("").arg("PX").arg(1);
        let written: Result<(), RedisError> = write.query_async(&mut connection).await;
        if !written.is_err_and(|why| is_busy(&why)) {
            return;
        }
    }
}
