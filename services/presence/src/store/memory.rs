//! The embedded store: everything behind one lock that is never held across an await.
//!
//! Who changes members takes turns, so that announcements come in the order of the changes. The embedded bus never lets its
//! caller wait; so nobody is stopped between a change and its announcement.

mod channel;
mod leases;
mod log;
mod state;

use std::{ops::Bound, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tidings_broker::Publisher;
use tidings_core::{Channel, ClientId};

use self::state::{News, State};
use super::{
    Announced, Applied, Changes, Ended, EndedAgain, Epoch, Event, Options, Page, Position, Renewed, Scan,
    Stats, Swept, Whereabouts,
};
use crate::member::{GatewayId, Lease, Member};

/// How many members one step of a scan gives.
const SCANNED: usize = 1_000;

#[derive(Clone)]
pub(super) struct Memory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Whose turn it is to change members.
    publisher: tokio::sync::Mutex<Publisher>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Memory").field(&self.0.state).finish()
    }
}

impl Memory {
    /// Empty; `publisher` is the embedded bus'.
    pub(super) fn new(publisher: Publisher, options: Options) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new(options)),
            publisher: publisher.into(),
        }))
    }

    pub(super) fn attach(&self, gateway: &GatewayId, length: Duration) -> (Lease, Epoch) {
        self.0.state.lock().leases.attach(gateway, length)
    }

    pub(super) fn renew(&self, lease: &Lease, length: Duration) -> Renewed {
        self.0.state.lock().leases.renew(lease, length)
    }

    pub(super) async fn apply(&self, lease: &Lease, changes: Changes) -> Applied {
        self.change(|state, news| state.apply(lease, changes, news)).await
    }

    /// Does something to the members, and announces what came of it.
    async fn change<T>(&self, change: impl FnOnce(&mut State, &mut Vec<News>) -> T) -> T {
        let publisher = self.0.publisher.lock().await;
        let mut news = Vec::new();
        let result = change(&mut self.0.state.lock(), &mut news);
        for one in news {
            // The embedded bus takes everything.
            let _ = match one {
                News::Came(channel, info) => publisher.joined(&channel, &info).await,
                News::Went(channel, info) => publisher.left(&channel, &info).await,
            };
        }
        result
    }

    pub(super) fn end_again(&self, lease: &Lease) -> EndedAgain {
        self.0.state.lock().leases.end_again(lease)
    }

    pub(super) fn supersede(&self, lease: &Lease) {
        self.0.state.lock().leases.supersede(lease);
    }

    pub(super) fn end(&self, lease: &Lease) {
        self.0.state.lock().leases.end(lease);
    }

    pub(super) fn ended(&self) -> Ended {
        self.0.state.lock().leases.ended()
    }

    /// The state, in which it is known which leases are live now.
    fn judged(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock();
        state.leases.judge();
        state
    }

    pub(super) async fn sweep(&self, lease: &Lease) -> Swept {
        self.change(|state, news| state.sweep(lease, news)).await
    }

    pub(super) async fn settle(&self) {
        self.change(State::settle).await;
    }

    pub(super) fn members(&self, channel: &Channel, after: Option<ClientId>, limit: usize) -> Page {
        let state = self.judged();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut members = state.visible(channel, from);
        let page = members.by_ref().take(limit).collect();
        Page {
            members: page,
            more: members.next().is_some(),
            complete: state.leases.is_complete(),
        }
    }

    pub(super) fn announced(&self, channel: &Channel) -> Announced {
        self.judged().announced(channel)
    }

    pub(super) fn stats(&self, channel: &Channel) -> Stats {
        self.judged().stats(channel)
    }

    pub(super) fn lookup(&self, users: &[Arc<str>], limit: usize) -> Vec<Whereabouts> {
        let state = self.judged();
        let mut room = limit;
        let mut found = Vec::with_capacity(users.len());
        for user in users {
            let whereabouts = state.whereabouts(user, room.max(1));
            room = room.saturating_sub(whereabouts.places.len());
            found.push(whereabouts);
        }
        found
    }

    pub(super) fn scan(&self, scan: &mut Scan) -> Option<Vec<(Member, GatewayId)>> {
        let state = self.judged();
        let members = state.everyone(scan.after.as_ref(), SCANNED);
        scan.after = members.last().map(|(member, _)| member.id());
        (!members.is_empty()).then_some(members)
    }

    pub(super) fn crowd_interval(&self) -> Duration {
        self.0.state.lock().crowd_interval()
    }

    pub(super) fn has_log(&self) -> bool {
        self.0.state.lock().log.is_kept()
    }

    pub(super) fn log_end(&self) -> Position {
        self.0.state.lock().log.end()
    }

    pub(super) fn log_after(&self, after: Position, limit: usize) -> Option<Vec<(Position, Event)>> {
        self.0.state.lock().log.after(after, limit)
    }
}
