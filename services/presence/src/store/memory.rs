//! The embedded store: everything behind one lock that is never held across an await.
//!
//! Who changes members takes turns, so that announcements come in the order of the changes. The embedded bus never lets its
//! caller wait; so nobody is stopped between a change and its announcement.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidings_broker::Publisher;
use tidings_core::{Channel, ClientId, ClientInfo};
use tokio::time::Instant;

use super::{Applied, Changes, Page, SWEEP_PAGE, Stats, Swept, Which};
use crate::member::{GatewayId, Lease, Member, MemberId};

#[derive(Clone)]
pub(super) struct Memory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Whose turn it is to change members.
    publisher: tokio::sync::Mutex<Publisher>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when each lease is good.
    leases: BTreeMap<Lease, Instant>,
    channels: HashMap<Channel, BTreeMap<ClientId, Kept>>,
    /// What each lease has written, to find it again when the lease ends. May name members that are gone.
    written: HashMap<Lease, BTreeSet<MemberId>>,
    last_serial: u64,
}

#[derive(Debug)]
struct Kept {
    lease: Lease,
    member: Member,
}

/// Something to say on the bus.
enum News {
    Came(Channel, ClientInfo),
    Went(Channel, ClientInfo),
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Memory").field(&self.0.state).finish()
    }
}

impl Memory {
    /// Empty; `publisher` is the embedded bus'.
    pub(super) fn new(publisher: Publisher) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            publisher: publisher.into(),
        }))
    }

    pub(super) fn attach(&self, gateway: &GatewayId, length: Duration) -> Lease {
        let mut state = self.0.state.lock();
        state.last_serial += 1;
        let lease = Lease {
            gateway: gateway.clone(),
            serial: state.last_serial,
        };
        state.leases.insert(lease.clone(), Instant::now() + length);
        lease
    }

    pub(super) fn renew(&self, lease: &Lease, length: Duration) -> bool {
        let now = Instant::now();
        match self.0.state.lock().leases.get_mut(lease) {
            Some(until) if *until > now => {
                *until = now + length;
                true
            }
            _ => false,
        }
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
    pub(super) fn supersede(&self, lease: &Lease) {
        let oldest = Lease {
            serial: 0,
            ..lease.clone()
        };
        for (_, until) in self.0.state.lock().leases.range_mut(oldest..lease.clone()) {
            *until = Instant::now();
        }
    }

    pub(super) fn end(&self, lease: &Lease) {
        self.0.state.lock().leases.insert(lease.clone(), Instant::now());
    }

    pub(super) fn leases(&self, which: Which) -> Vec<Lease> {
        let now = Instant::now();
        let wanted = |until: &Instant| (*until > now) == (which == Which::Live);
        self.0
            .state
            .lock()
            .leases
            .iter()
            .filter(|(_, until)| wanted(until))
            .map(|(lease, _)| lease.clone())
            .collect()
    }

    pub(super) async fn sweep(&self, lease: &Lease) -> Swept {
        self.change(|state, news| state.sweep(lease, news)).await
    }

    pub(super) fn members(&self, channel: &Channel, after: Option<ClientId>, limit: usize) -> Page {
        let state = self.0.state.lock();
        let mut members = state
            .visible(channel)
            .skip_while(|kept| after.is_some_and(|after| kept.member.info.client <= after))
            .map(|kept| (kept.member.clone(), kept.lease.gateway.clone()));
        let page = members.by_ref().take(limit).collect();
        Page {
            members: page,
            more: members.next().is_some(),
        }
    }

    pub(super) fn stats(&self, channel: &Channel) -> Stats {
        let state = self.0.state.lock();
        Stats::count(state.visible(channel).map(|kept| &kept.member.info.user))
    }
}

impl State {
    fn apply(&mut self, lease: &Lease, changes: Changes, news: &mut Vec<News>) -> Applied {
        let mut applied = Applied::default();
        for (channel, members) in changes {
            for (client, member) in members {
                let id = MemberId {
                    channel: channel.clone(),
                    client,
                };
                match member {
                    Some(member) => {
                        if self.write(lease, member, news) {
                            applied.joined.push(id);
                        }
                    }
                    None => {
                        if self.remove(lease, &id, news) {
                            applied.left.push(id);
                        }
                    }
                }
            }
        }
        applied
    }

    fn sweep(&mut self, lease: &Lease, news: &mut Vec<News>) -> Swept {
        let mut left = Vec::new();
        for _ in 0..SWEEP_PAGE {
            let Some(id) = self.written.get_mut(lease).and_then(BTreeSet::pop_first) else {
                self.written.remove(lease);
                self.leases.remove(lease);
                return Swept { left, done: true };
            };
            if self.remove(lease, &id, news) {
                left.push(id);
            }
        }
        Swept { left, done: false }
    }

    /// Whether the member was not there before.
    fn write(&mut self, lease: &Lease, member: Member, news: &mut Vec<News>) -> bool {
        let id = member.id();
        self.written.entry(lease.clone()).or_default().insert(id.clone());
        let channel = self.channels.entry(id.channel).or_default();
        let kept = Kept {
            lease: lease.clone(),
            member,
        };
        match channel.entry(id.client) {
            Entry::Occupied(mut entry) => {
                if !is_newer(&entry.get().lease, lease) {
                    let new = kept.member.clone();
                    tell(Some(entry.insert(kept).member), Some(new), news);
                }
                false
            }
            Entry::Vacant(entry) => {
                tell(None, Some(entry.insert(kept).member.clone()), news);
                true
            }
        }
    }

    /// Whether the member was there, under this lease.
    fn remove(&mut self, lease: &Lease, id: &MemberId, news: &mut Vec<News>) -> bool {
        if let Some(written) = self.written.get_mut(lease) {
            written.remove(id);
        }
        let Some(channel) = self.channels.get_mut(&id.channel) else {
            return false;
        };
        if channel.get(&id.client).is_none_or(|kept| kept.lease != *lease) {
            return false;
        }
        let gone = channel.remove(&id.client);
        if channel.is_empty() {
            self.channels.remove(&id.channel);
        }
        tell(gone.map(|kept| kept.member), None, news);
        true
    }

    fn visible(&self, channel: &Channel) -> impl Iterator<Item = &Kept> {
        let now = Instant::now();
        let live = move |lease| self.leases.get(lease).is_some_and(|until| *until > now);
        self.channels
            .get(channel)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(move |kept| live(&kept.lease))
    }
}

/// What there is to say of a member that was as `old` and is as `new`.
fn tell(old: Option<Member>, new: Option<Member>, news: &mut Vec<News>) {
    let is_announced = |member: &Member| member.announced;
    match (old.filter(is_announced), new.filter(is_announced)) {
        (None, Some(member)) => news.push(News::Came(member.channel, member.info)),
        (Some(member), None) => news.push(News::Went(member.channel, member.info)),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// Whether `kept` is of the same gateway as `lease` and came after it.
fn is_newer(kept: &Lease, lease: &Lease) -> bool {
    kept.gateway == lease.gateway && kept.serial > lease.serial
}
