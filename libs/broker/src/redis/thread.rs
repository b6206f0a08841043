//! The thread that reads the bus: a runtime of its own, so that no other work of the process delays it.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

/// A thread with a current-thread runtime. Dropping this ends the thread and every task on it; it does not wait for
/// that, because the last handle may be dropped on the thread itself.
pub(super) struct Thread {
    handle: Handle,
    _stop: DropGuard,
}

impl Thread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("tidings-bus".to_owned())
            .spawn(move || {
                runtime.block_on(stopped.cancelled());
                // Dropping the runtime would wait for a name lookup that is under way.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            _stop: stop.drop_guard(),
        })
    }

    /// Runs a task until it ends or the thread does. The runtime is what tracks it: none outlives the thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// For who is on the thread itself, and must not keep it.
    pub(super) fn spawner(&self) -> Spawner {
        Spawner(self.handle.clone())
    }
}

/// Starts tasks on the thread, as long as that runs.
#[derive(Clone)]
pub(super) struct Spawner(Handle);

impl Spawner {
    /// Runs a task until it ends, the thread does, or what is returned is dropped.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(self.0.spawn(task))
    }
}
