//! One watcher: a snapshot, then the log as it grows. Knows no wire.
//!
//! A watcher reads the log by itself, so one that takes nothing costs nothing, and there is no buffer to overflow: who reads too
//! slowly finds that the log has gone on without it. The log's end is asked for before the snapshot, so that nothing is
//! missed in between.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tidings_core::{Channel, Glob};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    member::{GatewayId, Member},
    store::{self, Event, Position, Scan, Store},
};

/// How many may watch one replica.
pub(crate) const WATCHERS: usize = 64;

/// How often the log is looked at while nothing happens.
const INTERVAL: Duration = Duration::from_millis(200);

/// How many events one look takes.
const LOOK: usize = 500;

/// Who may watch: so many at once.
#[derive(Debug, Clone)]
pub(crate) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS)))
    }
}

impl Watchers {
    /// A place among them; `None` when there is none.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// What a watcher wants to hear of.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Empty: all channels.
    pub(crate) channels: Vec<Glob>,
    /// Empty: everyone.
    pub(crate) users: HashSet<Arc<str>>,
}

impl Wanted {
    fn wants(&self, channel: &Channel, user: &str) -> bool {
        (self.users.is_empty() || self.users.contains(user))
            && (self.channels.is_empty() || self.channels.iter().any(|glob| glob.matches(channel.as_str())))
    }
}

/// What a watcher hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Present(Box<Member>, GatewayId),
    Live(Position),
    Event(Position, Event),
    Behind,
}

pub(crate) struct Watcher {
    store: Store,
    wanted: Wanted,
    phase: Phase,
    /// What was read and not yet heard.
    ready: VecDeque<Heard>,
    _place: OwnedSemaphorePermit,
}

enum Phase {
    Begin,
    Users { end: Position, users: Vec<Arc<str>> },
    Everyone { end: Position, scan: Scan },
    Live(Position),
}

/// How many users one exchange looks up.
const USERS: usize = 100;

/// How many places of them, which is more than they may have channels.
const PLACES: usize = 100_000;

impl Watcher {
    /// Goes on after `from`; `None`: begins with a snapshot.
    pub(crate) fn new(
        store: Store,
        wanted: Wanted,
        from: Option<Position>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            store,
            wanted,
            phase: from.map_or(Phase::Begin, Phase::Live),
            ready: VecDeque::new(),
            _place: place,
        }
    }

    /// The next thing. Waits while there is none.
    pub(crate) async fn next(&mut self) -> Result<Heard, store::Error> {
        loop {
            if let Some(heard) = self.ready.pop_front() {
                return Ok(heard);
            }
            match &mut self.phase {
                Phase::Begin => {
                    let end = self.store.log_end().await?;
                    self.phase = if self.wanted.users.is_empty() {
                        let scan = Scan::default();
                        Phase::Everyone { end, scan }
                    } else {
                        let users = self.wanted.users.iter().cloned().collect();
                        Phase::Users { end, users }
                    };
                }
                Phase::Users { end, users } if users.is_empty() => {
                    let end = *end;
                    self.begin_live(end);
                }
                Phase::Users { users, .. } => {
                    let some = &users[users.len().saturating_sub(USERS)..];
                    let found = self.store.lookup(some, PLACES).await?;
                    users.truncate(users.len().saturating_sub(USERS));
                    let places = found.into_iter().flat_map(|found| found.places);
                    self.present(places.collect());
                }
                Phase::Everyone { end, scan } => {
                    let end = *end;
                    match self.store.scan(scan).await? {
                        Some(members) => self.present(members),
                        None => self.begin_live(end),
                    }
                }
                Phase::Live(after) => match self.store.log_after(*after, LOOK).await? {
                    None => {
                        self.phase = Phase::Begin;
                        self.ready.push_back(Heard::Behind);
                    }
                    Some(events) => {
                        let Some((last, _)) = events.last() else {
                            tokio::time::sleep(INTERVAL).await;
                            continue;
                        };
                        *after = *last;
                        let wanted = &self.wanted;
                        let events = events
                            .into_iter()
                            .filter(|(_, event)| wanted.wants(&event.channel, &event.user));
                        self.ready
                            .extend(events.map(|(at, event)| Heard::Event(at, event)));
                    }
                },
            }
        }
    }

    fn present(&mut self, members: Vec<(Member, GatewayId)>) {
        let wanted = &self.wanted;
        let members = members
            .into_iter()
            .filter(|(member, _)| wanted.wants(&member.channel, &member.info.user));
        self.ready
            .extend(members.map(|(member, gateway)| Heard::Present(Box::new(member), gateway)));
    }

    fn begin_live(&mut self, end: Position) {
        self.phase = Phase::Live(end);
        self.ready.push_back(Heard::Live(end));
    }
}
