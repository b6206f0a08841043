//! How a process ends: asked once, it finishes what it has begun; asked twice, it stops.
//!
//! One [`Shutdown`] is made in `main` and cloned into everything that runs. It carries two signals and the set
//! of running tasks, so that ending is the same three lines everywhere: wait until it is requested, stop taking
//! new work, return. `main` then waits for the tasks, and forces them when the grace period is over.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// A request to end, and the tasks that have to end. Clones are the same shutdown.
///
/// It only moves forward: running, then *requested*, then *forced*. Forced implies requested.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    forced: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown tied to the process's signals: the first SIGTERM or SIGINT requests it, the second forces it.
    /// Must be called inside a tokio runtime; from then on the signals no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to hand over the signals.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut signals = signals()?;
        let asked = shutdown.clone();
        // Not among the tasks that `wait` waits for: it has to listen for the second signal while they end.
        TaskTracker::new().spawn(async move {
            signals.recv().await;
            tracing::info!("shutting down; a second signal stops at once");
            asked.request();
            signals.recv().await;
            tracing::warn!("stopping at once: a second signal came");
            asked.force();
        });
        Ok(shutdown)
    }

    /// Asks everything to finish: no new work, complete what has begun. Asking again changes nothing.
    pub fn request(&self) {
        self.requested.cancel();
    }

    /// Completes once it is requested; at once when it already is. Safe to drop and ask again, as in `select!`.
    pub fn requested(&self) -> WaitForCancellationFuture<'_> {
        self.requested.cancelled()
    }

    /// Whether it is requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Insists: requests it, and drops every task of [`spawn`](Self::spawn) at the await it is at.
    pub fn force(&self) {
        self.requested.cancel();
        self.forced.cancel();
    }

    /// Completes once it is forced; at once when it already is.
    pub fn forced(&self) -> WaitForCancellationFuture<'_> {
        self.forced.cancelled()
    }

    /// Runs `future` as a task that [`wait`](Self::wait) waits for. Its handle may be dropped; the task goes on.
    ///
    /// The task has to watch [`requested`](Self::requested) itself. When the shutdown is forced it is dropped,
    /// and its handle answers `None`. Must be called inside a tokio runtime.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks
            .spawn(self.forced.clone().run_until_cancelled_owned(future))
    }

    /// Something else that [`wait`](Self::wait) waits for until it is dropped: a thread, an upgraded socket.
    /// Forcing does not end it; its owner has to watch [`forced`](Self::forced).
    #[must_use = "it is waited for only as long as it is held"]
    pub fn hold(&self) -> Hold {
        Hold {
            _token: self.tasks.token(),
        }
    }

    /// Completes when every task and every [`Hold`] is gone. Requests nothing by itself: call it after
    /// [`request`](Self::request), inside the grace period, and [`force`](Self::force) when that is over.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Completes at the next SIGTERM or SIGINT, for what is done after a [`Shutdown`] has ended. Never, when the operating system
/// does not hand them over. Must be called inside a tokio runtime.
pub async fn next_signal() {
    match signals() {
        Ok(mut signals) => signals.recv().await,
        Err(_) => std::future::pending().await,
    }
}

/// Keeps [`Shutdown::wait`] waiting.
#[derive(Debug)]
pub struct Hold {
    _token: TaskTrackerToken,
}

/// SIGTERM and SIGINT as one stream.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
fn signals() -> std::io::Result<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
fn signals() -> std::io::Result<Signals> {
    Ok(Signals {})
}

impl Signals {
    #[cfg(unix)]
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn recv(&mut self) {
        // Without Ctrl-C there is nothing to listen to: wait for ever.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_request_reaches_every_clone_and_stays() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_requested());
        assert_eq!(clone.requested().now_or_never(), None);
        shutdown.request();
        shutdown.request();
        assert!(clone.is_requested());
        clone.requested().await;
        clone.requested().await;
        assert_eq!(clone.forced().now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_last_task_and_the_last_hold_have() {
        let shutdown = Shutdown::new();
        let task = shutdown.clone();
        let handle = shutdown.spawn(async move {
            task.requested().await;
            "done"
        });
        let hold = shutdown.hold();
        assert!(timeout(Duration::from_secs(60), shutdown.wait()).await.is_err());
        shutdown.request();
        assert_eq!(handle.await.unwrap(), Some("done"));
        assert!(timeout(Duration::from_secs(60), shutdown.wait()).await.is_err());
        drop(hold);
        shutdown.wait().await;
    }

    #[tokio::test]
    async fn waiting_with_nothing_to_wait_for_ends_at_once() {
        Shutdown::new().wait().await;
    }

    #[tokio::test]
    async fn forcing_requests_and_drops_the_tasks_that_go_on() {
        let shutdown = Shutdown::new();
        let stuck = shutdown.spawn(pending::<()>());
        shutdown.force();
        assert!(shutdown.is_requested());
        shutdown.forced().await;
        shutdown.wait().await;
        assert_eq!(stuck.await.unwrap(), None);
    }
}
