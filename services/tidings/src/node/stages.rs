//! How a node leaves: its clients first, then its members, then its doors.
//!
//! Each stage is a [`Shutdown`] of its own, so that a backend can publish to this node, and a gateway can report
//! its members to it, for as long as clients are still being closed; and operators can watch all of it.

use std::{io, time::Duration};

use tidings_runtime::Shutdown;

/// How long closing the doors may take.
const GRACE: Duration = Duration::from_secs(5);

/// How long the clients may take beyond the drain: the last has 5 s to answer its close, and presence 2 s to hear the
/// gateway's goodbye.
const CLIENTS_GRACE: Duration = Duration::from_secs(10);

/// The stages, in their order, and the signals that begin them.
pub(super) struct Stages {
    /// The process's signals: the first begins the stages, the second cuts them all short.
    signals: Shutdown,
    /// Clients are closed.
    pub(super) clients: Shutdown,
    /// The backends' door, presence and its reports close.
    pub(super) services: Shutdown,
    /// The operators' door closes.
    pub(super) operators: Shutdown,
    drain_over: Duration,
}

impl Stages {
    /// Stages that the process's signals begin. Clients are closed over `drain_over`.
    pub(super) fn on_signals(drain_over: Duration) -> io::Result<Self> {
        Ok(Self {
            signals: Shutdown::on_signals()?,
            clients: Shutdown::new(),
            services: Shutdown::new(),
            operators: Shutdown::new(),
            drain_over,
        })
    }

    /// Completes when the process is to stop.
    pub(super) async fn stopping(&self) {
        self.signals.requested().await;
    }

    /// Closes the clients; returns when the last has gone.
    pub(super) async fn clients_leave(&self) {
        self.end(
            "clients",
            &self.clients,
            self.drain_over.saturating_add(CLIENTS_GRACE),
        )
        .await;
    }

    /// Closes the doors; returns when nobody answers any more.
    pub(super) async fn doors_close(&self) {
        self.end("services", &self.services, GRACE).await;
        self.end("operators", &self.operators, GRACE).await;
    }

    async fn end(&self, stage: &str, shutdown: &Shutdown, within: Duration) {
        shutdown.request();
        let ended = tokio::select! {
            () = shutdown.wait() => true,
            () = tokio::time::sleep(within) => false,
            () = self.signals.forced() => false,
        };
        if !ended {
            tracing::warn!(stage, "what had not ended was stopped");
            shutdown.force();
        }
    }
}
