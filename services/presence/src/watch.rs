//! One watcher: a snapshot, then the log as it grows. Knows no wire.
//!
//! A watcher reads the log by itself, so one that takes nothing costs nothing, and there is no buffer to overflow: who reads too
//! slowly finds that the log has gone on without it. The log's end is asked for before the snapshot, so that nothing is
//! missed in between. Joins and leaves of crowds are counted here, not in the log: so nobody misses one, wherever they go on.

mod crowds;

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

use self::crowds::Crowds;
pub(crate) use self::crowds::{Count, Token};

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
    fn is_everyone(&self) -> bool {
        self.users.is_empty()
    }

    fn wants(&self, channel: &Channel, user: &str) -> bool {
        (self.is_everyone() || self.users.contains(user))
            && (self.channels.is_empty() || self.channels.iter().any(|glob| glob.matches(channel.as_str())))
    }
}

/// What a watcher hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Present(Box<Member>, GatewayId),
    Live(Token),
    Event(Token, Event),
    /// What happened in crowds, by channel.
    Counted(Token, Vec<(Channel, Count)>),
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
    Live { after: Position, crowds: Crowds },
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
        from: Option<Token>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let live = |from: Token| Phase::Live {
            after: from.counted,
            crowds: Crowds::after(from, store.crowd_interval()),
        };
        Self {
            phase: from.map_or(Phase::Begin, live),
            store,
            wanted,
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
                Phase::Live { after, crowds } => {
                    if let Some(counted) = crowds.take_due() {
                        self.ready.push_back(counted);
                        continue;
                    }
                    match self.store.log_after(*after, LOOK).await? {
                        None => {
                            self.phase = Phase::Begin;
                            self.ready.push_back(Heard::Behind);
                        }
                        Some(events) if events.is_empty() => tokio::time::sleep(INTERVAL).await,
                        Some(events) => {
                            for (at, event) in events {
                                *after = at;
                                let wanted = self.wanted.wants(&event.channel, &event.user);
                                let one_by_one = !self.wanted.is_everyone();
                                self.ready.extend(crowds.take(at, event, wanted, one_by_one));
                            }
                        }
                    }
                }
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
        let begin = Token::from(end);
        self.phase = Phase::Live {
            after: end,
            crowds: Crowds::after(begin, self.store.crowd_interval()),
        };
        self.ready.push_back(Heard::Live(begin));
    }
}
