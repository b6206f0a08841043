//! A node's cores, as the rest of the process sees them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{
    adopt::Adoption,
    core,
    emulation::{Emulated, SessionId},
    inbox::{Census, Inbox, Letter},
    node::Node,
};

/// Handles to all cores. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cores {
    inboxes: Arc<[Arc<Inbox>]>,
    next: Arc<AtomicUsize>,
    running: TaskTracker,
}

impl Cores {
    /// Starts a thread for each inbox.
    pub(crate) fn start(node: &Arc<Node>, inboxes: &[Arc<Inbox>]) -> io::Result<Self> {
        let running = TaskTracker::new();
        for (number, inbox) in inboxes.iter().enumerate() {
            core::start(number, node.clone(), inbox.clone(), running.token())?;
        }
        running.close();
        Ok(Self {
            inboxes: inboxes.into(),
            next: Arc::default(),
            running,
        })
    }

    /// Gives a client to the next core in turn.
    pub(crate) fn adopt(&self, adoption: Adoption) {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        self.inboxes[next].put(Letter::Adopt(Box::new(adoption)));
    }

    /// Gives a connection what its client said apart from it. False when there is no such connection.
    pub(crate) async fn emulate(&self, session: SessionId, data: Bytes) -> bool {
        let Some(inbox) = self.inboxes.get(session.core) else {
            return false;
        };
        let (heard, answer) = oneshot::channel();
        inbox.put(Letter::Emulated(Box::new(Emulated {
            key: session.key,
            secret: session.secret,
            data,
            heard: Some(heard),
        })));
        answer.await.unwrap_or(false) // a core that has ended has nobody
    }

    /// Closes everyone, a few at a time, over this long. Returns when the last client has gone.
    pub(crate) async fn drain(&self, over: Duration) {
        for inbox in &*self.inboxes {
            inbox.put(Letter::Drain(over));
        }
        self.running.wait().await;
    }

    /// Asks every core.
    pub(crate) async fn census(&self) -> Census {
        let mut sum = Census::default();
        for inbox in &*self.inboxes {
            let (asker, answer) = oneshot::channel();
            inbox.put(Letter::Census(asker));
            // A core that has ended has nobody.
            let census = answer.await.unwrap_or_default();
            sum.connections += census.connections;
            sum.users.extend(census.users);
        }
        sum
    }
}
