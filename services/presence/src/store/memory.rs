//! The embedded store: everything behind one lock that is never held across an await.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidings_core::{Channel, ClientId};
use tokio::time::Instant;

use super::{Applied, Changes, Page, SWEEP_PAGE, Stats, Swept, Which};
use crate::member::{GatewayId, Lease, Member, MemberId};

#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

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

impl Memory {
    pub(super) fn attach(&self, gateway: &GatewayId, length: Duration) -> Lease {
        let mut state = self.0.lock();
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
        match self.0.lock().leases.get_mut(lease) {
            Some(until) if *until > now => {
                *until = now + length;
                true
            }
            _ => false,
        }
    }

    pub(super) fn apply(&self, lease: &Lease, changes: Changes) -> Applied {
        let mut state = self.0.lock();
        let mut applied = Applied::default();
        for (channel, members) in changes {
            for (client, member) in members {
                let id = MemberId {
                    channel: channel.clone(),
                    client,
                };
                match member {
                    Some(member) => {
                        if state.write(lease, member) {
                            applied.joined.push(id);
                        }
                    }
                    None => {
                        if state.remove(lease, &id) {
                            applied.left.push(id);
                        }
                    }
                }
            }
        }
        applied
    }

    pub(super) fn supersede(&self, lease: &Lease) {
        let oldest = Lease {
            serial: 0,
            ..lease.clone()
        };
        for (_, until) in self.0.lock().leases.range_mut(oldest..lease.clone()) {
            *until = Instant::now();
        }
    }

    pub(super) fn end(&self, lease: &Lease) {
        self.0.lock().leases.insert(lease.clone(), Instant::now());
    }

    pub(super) fn leases(&self, which: Which) -> Vec<Lease> {
        let now = Instant::now();
        let wanted = |until: &Instant| (*until > now) == (which == Which::Live);
        self.0
            .lock()
            .leases
            .iter()
            .filter(|(_, until)| wanted(until))
            .map(|(lease, _)| lease.clone())
            .collect()
    }

    pub(super) fn sweep(&self, lease: &Lease) -> Swept {
        let mut state = self.0.lock();
        let mut left = Vec::new();
        for _ in 0..SWEEP_PAGE {
            let Some(id) = state.written.get_mut(lease).and_then(BTreeSet::pop_first) else {
                state.written.remove(lease);
                state.leases.remove(lease);
                return Swept { left, done: true };
            };
            if state.remove(lease, &id) {
                left.push(id);
            }
        }
        Swept { left, done: false }
    }

    pub(super) fn members(&self, channel: &Channel, after: Option<ClientId>, limit: usize) -> Page {
        let state = self.0.lock();
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
        let state = self.0.lock();
        Stats::count(state.visible(channel).map(|kept| &kept.member.info.user))
    }
}

impl State {
    /// Whether the member was not there before.
    fn write(&mut self, lease: &Lease, member: Member) -> bool {
        let id = member.id();
        self.written.entry(lease.clone()).or_default().insert(id.clone());
        let channel = self.channels.entry(id.channel).or_default();
        match channel.get_mut(&id.client) {
            Some(kept) => {
                if !is_newer(&kept.lease, lease) {
                    *kept = Kept {
                        lease: lease.clone(),
                        member,
                    };
                }
                false
            }
            None => {
                channel.insert(
                    id.client,
                    Kept {
                        lease: lease.clone(),
                        member,
                    },
                );
                true
            }
        }
    }

    /// Whether the member was there, under this lease.
    fn remove(&mut self, lease: &Lease, id: &MemberId) -> bool {
        if let Some(written) = self.written.get_mut(lease) {
            written.remove(id);
        }
        let Some(channel) = self.channels.get_mut(&id.channel) else {
            return false;
        };
        if channel.get(&id.client).is_none_or(|kept| kept.lease != *lease) {
            return false;
        }
        channel.remove(&id.client);
        if channel.is_empty() {
            self.channels.remove(&id.channel);
        }
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

/// Whether `kept` is of the same gateway as `lease` and came after it.
fn is_newer(kept: &Lease, lease: &Lease) -> bool {
    kept.gateway == lease.gateway && kept.serial > lease.serial
}
