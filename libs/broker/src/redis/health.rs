//! How Redis is, as told by everything that holds a connection to it.
//!
//! The bus is up when all its parts are: the monitor of each node, and every subscriber's readers. Each reports for itself and
//! the node that it is about; the change of the whole is logged once, here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use super::metrics::Metrics;
use crate::{Error, Status};

/// The parts' reports, and what they amount to.
pub(super) struct Health {
    peer: Arc<str>,
    status: watch::Sender<Status>,
    parts: Mutex<Parts>,
    /// Whether nothing of this Redis may be used.
    is_refused: AtomicBool,
    /// How often that ended.
    allowed: watch::Sender<u64>,
    pub(super) metrics: Metrics,
}

#[derive(Default)]
struct Parts {
    /// What each part last reported. A part that has just started is not in here: it has nothing to say yet and changes
    /// nothing for the others.
    reports: BTreeMap<u64, Report>,
    next_id: u64,
    /// Whether the last log line said that Redis is up.
    logged: Option<bool>,
    /// How often each node was away.
    outages: BTreeMap<Arc<str>, u64>,
    /// Why nothing of this Redis may be used, though it answers.
    refused: Option<String>,
}

struct Report {
    /// The node that it is about.
    node: Arc<str>,
    /// Why it is away; `None` when it is up.
    away: Option<String>,
}

/// One connection's say. Dropping it withdraws the report.
pub(super) struct Part {
    id: u64,
    node: Arc<str>,
    health: Arc<Health>,
}

impl Health {
    pub(super) fn new(peer: Arc<str>) -> Self {
        let status = Status::Away {
            reason: Error::away(&peer, "not connected yet").to_string(),
        };
        Self {
            peer,
            status: watch::Sender::new(status),
            parts: Mutex::default(),
            is_refused: AtomicBool::default(),
            allowed: watch::Sender::default(),
            metrics: Metrics::default(),
        }
    }

    /// A part that reports about `node`, which is its peer's name.
    pub(super) fn part(self: &Arc<Self>, node: &Arc<str>) -> Part {
        let mut parts = self.parts.lock();
        parts.next_id += 1;
        Part {
            id: parts.next_id,
            node: node.clone(),
            health: self.clone(),
        }
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Says why nothing of this Redis may be used; `None`: everything may. Whether that is news.
    pub(super) fn refuse(&self, reason: Option<String>) -> bool {
        let mut parts = self.parts.lock();
        self.is_refused.store(reason.is_some(), Relaxed);
        let is_news = parts.refused != reason;
        if parts.refused.is_some() && reason.is_none() {
            self.allowed.send_modify(|count| *count += 1);
        }
        parts.refused = reason;
        self.settle(&mut parts);
        is_news
    }

    /// Why nothing of this Redis may be used, if so.
    pub(super) fn refused(&self) -> Option<String> {
        self.is_refused()
            .then(|| self.parts.lock().refused.clone())
            .flatten()
    }

    /// Whether nothing of this Redis may be used.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Relaxed)
    }

    /// Changes whenever this Redis may be used again: what came on the bus meanwhile was dropped.
    pub(super) fn allowed(&self) -> watch::Receiver<u64> {
        self.allowed.subscribe()
    }

    /// Why a node is away, when that is known. Before the first report nothing is.
    pub(super) fn known_away(&self, node: &str) -> Option<String> {
        self.parts.lock().away_at(node).map(str::to_owned)
    }

    /// How often a node was away so far. What was connected before the last time may not be any more.
    pub(super) fn outages(&self, node: &str) -> u64 {
        self.parts.lock().outages.get(node).copied().unwrap_or_default()
    }

    fn settle(&self, parts: &mut Parts) {
        let now = match parts.away() {
            Some(reason) => Status::Away {
                reason: reason.to_owned(),
            },
            None if parts.reports.is_empty() => return,
            None => Status::Up,
        };
        let up = now == Status::Up;
        if parts.logged.replace(up) != Some(up) {
            self.metrics.reachable(up);
            match &now {
                Status::Up => info!(redis.url = %self.peer, "connected to Redis"),
                Status::Away { reason } => warn!(reason, "Redis is away, trying again until it is back"),
            }
        }
        // Under the lock, so that receivers see the changes in the order in which they happened.
        self.status.send_if_modified(|status| {
            let changed = *status != now;
            *status = now;
            changed
        });
    }
}

impl Parts {
    fn away(&self) -> Option<&str> {
        let reports = self.reports.values();
        let refused = self.refused.as_deref();
        refused.or_else(|| reports.into_iter().find_map(|report| report.away.as_deref()))
    }

    fn away_at(&self, node: &str) -> Option<&str> {
        let mut about = self.reports.values().filter(|report| &*report.node == node);
        about.find_map(|report| report.away.as_deref())
    }
}

impl Part {
    /// How the whole is.
    pub(super) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    pub(super) fn up(&self) {
        self.report(None);
    }

    /// `reason` names the peer, its password masked.
    pub(super) fn away(&self, reason: String) {
        self.report(Some(reason));
    }

    fn report(&self, away: Option<String>) {
        let mut parts = self.health.parts.lock();
        if away.is_some() && parts.away_at(&self.node).is_none() {
            *parts.outages.entry(self.node.clone()).or_default() += 1;
        }
        let node = self.node.clone();
        parts.reports.insert(self.id, Report { node, away });
        self.health.settle(&mut parts);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut parts = self.health.parts.lock();
        parts.reports.remove(&self.id);
        self.health.settle(&mut parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "redis://cache";

    fn health() -> Arc<Health> {
        Arc::new(Health::new(NODE.into()))
    }

    fn part(health: &Arc<Health>) -> Part {
        health.part(&NODE.into())
    }

    #[test]
    fn nothing_is_known_before_the_first_report() {
        let health = health();
        assert!(
            matches!(&*health.status().borrow(), Status::Away { reason } if reason.contains("not connected"))
        );
        assert_eq!(health.known_away(NODE), None);
    }

    #[test]
    fn the_bus_is_up_when_all_its_parts_are() {
        let health = health();
        let status = health.status();
        let (monitor, reader) = (part(&health), part(&health));
        monitor.up();
        assert_eq!(
            *status.borrow(),
            Status::Up,
            "a reader that has just started changes nothing"
        );
        reader.away("lost".into());
        monitor.away("refused".into());
        monitor.up();
        assert_eq!(
            *status.borrow(),
            Status::Away {
                reason: "lost".into()
            }
        );
        assert_eq!(health.known_away(NODE).as_deref(), Some("lost"));
        assert_eq!(health.outages(NODE), 1);
        reader.up();
        assert_eq!(*status.borrow(), Status::Up);
        assert_eq!(health.known_away(NODE), None);
        assert_eq!(health.outages(NODE), 1);
    }

    #[test]
    fn what_is_wrong_with_one_node_is_not_said_of_another() {
        let health = health();
        let (one, other) = (health.part(&"one".into()), health.part(&"other".into()));
        one.away("lost".into());
        other.up();
        assert_ne!(*health.status().borrow(), Status::Up);
        assert_eq!(health.known_away("one").as_deref(), Some("lost"));
        assert_eq!(health.known_away("other"), None);
        assert_eq!((health.outages("one"), health.outages("other")), (1, 0));
        one.away("still".into());
        assert_eq!(health.outages("one"), 1);
    }

    #[test]
    fn a_part_that_is_gone_has_no_say() {
        let health = health();
        let (monitor, reader) = (part(&health), part(&health));
        monitor.up();
        reader.away("lost".into());
        drop(reader);
        assert_eq!(*health.status().borrow(), Status::Up);
    }

    #[test]
    fn a_repeated_report_wakes_nobody() {
        let health = health();
        let part = part(&health);
        part.up();
        let mut status = health.status();
        status.mark_unchanged();
        part.up();
        assert!(!status.has_changed().unwrap());
    }
}
