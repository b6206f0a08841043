//! What the embedded store has in its lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidings_core::{Channel, ClientId, ClientInfo};
use tokio::time::Instant;

use super::{
    super::{
        ANNOUNCED_MAX, Announced, Applied, Changes, Coming, Event, Options, SWEEP_PAGE, Stats, Swept,
        Whereabouts,
    },
    channel::{Kept, Room},
    leases::Leases,
    log::Log,
};
use crate::member::{GatewayId, Lease, Member, MemberId};

#[derive(Debug)]
pub(super) struct State {
    options: Options,
    pub(super) leases: Leases,
    channels: BTreeMap<Channel, Room>,
    /// What each lease has written, to find it again when the lease ends. May name members that are gone.
    written: HashMap<Lease, BTreeSet<MemberId>>,
    /// Where each user is.
    users: HashMap<Arc<str>, BTreeSet<MemberId>>,
    /// When those who are nowhere were last somewhere, and how long that is kept: the oldest first.
    seen: HashMap<Arc<str>, (Instant, SystemTime)>,
    forgets: VecDeque<(Instant, Arc<str>)>,
    pub(super) log: Log,
}

/// Something to say on the bus.
#[derive(Debug)]
pub(super) enum News {
    Came(Channel, ClientInfo),
    Went(Channel, ClientInfo),
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            log: Log::new(options.log),
            options,
            leases: Leases::new(),
            channels: BTreeMap::new(),
            written: HashMap::new(),
            users: HashMap::new(),
            seen: HashMap::new(),
            forgets: VecDeque::new(),
        }
    }

    pub(super) const fn crowd_interval(&self) -> Duration {
        self.options.crowd_interval
    }

    pub(super) fn apply(&mut self, lease: &Lease, changes: Changes, news: &mut Vec<News>) -> Applied {
        let mut applied = Applied::default();
        for (channel, members) in changes {
            for (client, member) in members {
                let id = MemberId {
                    channel: channel.clone(),
                    client,
                };
                match member {
                    Some(coming) => {
                        if self.write(lease, coming, news) {
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

    pub(super) fn sweep(&mut self, lease: &Lease, news: &mut Vec<News>) -> Swept {
        let mut left = Vec::new();
        for _ in 0..SWEEP_PAGE {
            let Some(id) = self.written.get_mut(lease).and_then(BTreeSet::pop_first) else {
                self.written.remove(lease);
                self.leases.forget(lease);
                return Swept {
                    left,
                    failed: false,
                    done: true,
                };
            };
            if self.remove(lease, &id, news) {
                left.push(id);
            }
        }
        Swept {
            left,
            failed: false,
            done: false,
        }
    }

    pub(super) fn settle(&mut self, news: &mut Vec<News>) {
        self.forget();
        if !self.options.leave_delay.is_zero() {
            self.channels.retain(|_, room| {
                room.settle(news);
                !room.is_empty()
            });
        }
    }

    /// Whether the member was not there before.
    fn write(&mut self, lease: &Lease, coming: Coming, news: &mut Vec<News>) -> bool {
        let id = coming.member.id();
        self.written.entry(lease.clone()).or_default().insert(id.clone());
        let user = coming.member.info.user.clone();
        let room = self.channels.entry(id.channel.clone()).or_default();
        let Some(is_new) = room.write(lease, coming, &self.options, news) else {
            return false;
        };
        if is_new {
            let crowd = room.crowd(&self.options);
            self.note(true, &id, &user, crowd);
        }
        if !user.is_empty() {
            self.seen.remove(&user);
            self.users.entry(user).or_default().insert(id);
        }
        is_new
    }

    /// Whether the member was there, under this lease.
    fn remove(&mut self, lease: &Lease, id: &MemberId, news: &mut Vec<News>) -> bool {
        if let Some(written) = self.written.get_mut(lease) {
            written.remove(id);
        }
        let Some(room) = self.channels.get_mut(&id.channel) else {
            return false;
        };
        let Some(gone) = room.remove(lease, id.client, &self.options, news) else {
            return false;
        };
        let crowd = room.crowd(&self.options);
        if room.is_empty() {
            self.channels.remove(&id.channel);
        }
        let user = gone.info.user;
        self.note(false, id, &user, crowd);
        if let Some(places) = self.users.get_mut(&user) {
            places.remove(id);
            if places.is_empty() {
                self.users.remove(&user);
                self.was_seen(user);
            }
        }
        true
    }

    fn note(&mut self, joined: bool, id: &MemberId, user: &Arc<str>, crowd: Option<u32>) {
        self.log.push(Event {
            joined,
            channel: id.channel.clone(),
            client: id.client,
            user: user.clone(),
            crowd,
        });
    }

    fn was_seen(&mut self, user: Arc<str>) {
        if self.options.last_seen.is_zero() {
            return;
        }
        let until = Instant::now() + self.options.last_seen;
        self.seen.insert(user.clone(), (until, SystemTime::now()));
        self.forgets.push_back((until, user));
        self.forget();
    }

    /// Forgets who was seen too long ago.
    fn forget(&mut self) {
        let now = Instant::now();
        while let Some((_, user)) = self.forgets.pop_front_if(|(until, _)| *until <= now) {
            if self.seen.get(&user).is_some_and(|(until, _)| *until <= now) {
                self.seen.remove(&user);
            }
        }
    }

    fn gateway_of(&self, kept: &Kept) -> Option<GatewayId> {
        self.leases
            .is_live(&kept.lease)
            .then(|| kept.lease.gateway.clone())
    }

    pub(super) fn visible(
        &self,
        channel: &Channel,
        from: Bound<ClientId>,
    ) -> impl Iterator<Item = (Member, GatewayId)> {
        self.channels
            .get(channel)
            .into_iter()
            .flat_map(move |room| room.members.range((from, Bound::Unbounded)))
            .filter_map(|(_, kept)| Some((kept.member.clone(), self.gateway_of(kept)?)))
    }

    pub(super) fn announced(&self, channel: &Channel) -> Announced {
        let room = self.channels.get(channel);
        let large = room.is_some_and(|room| room.members.len() > ANNOUNCED_MAX);
        Announced {
            members: room
                .filter(|_| !large)
                .map(|room| room.known(self.options.per))
                .unwrap_or_default(),
            large,
            complete: self.leases.is_complete(),
            per: self.options.per,
        }
    }

    pub(super) fn stats(&self, channel: &Channel) -> Stats {
        let Some(room) = self.channels.get(channel) else {
            return Stats::default();
        };
        let is_live = |lease: &Lease| self.leases.is_live(lease);
        if room.leases.iter().all(|(lease, _)| is_live(lease)) {
            return Stats {
                clients: room.leases.iter().map(|(_, clients)| clients).sum(),
                users: room.users.different(),
            };
        }
        let kept = room.members.values().filter(|kept| is_live(&kept.lease));
        let mut clients = 0;
        let users: HashSet<&Arc<str>> = kept
            .inspect(|_| clients += 1)
            .map(|kept| &kept.member.info.user)
            .collect();
        Stats {
            clients,
            users: users.len(),
        }
    }

    pub(super) fn whereabouts(&self, user: &Arc<str>, limit: usize) -> Whereabouts {
        let ids = self.users.get(user);
        let places = ids.into_iter().flatten().take(limit).filter_map(|id| {
            let kept = self.channels.get(&id.channel)?.members.get(&id.client)?;
            // It may be somebody else's by now.
            (kept.member.info.user == *user).then_some(())?;
            Some((kept.member.clone(), self.gateway_of(kept)?))
        });
        let now = Instant::now();
        let seen = self.seen.get(user).filter(|(until, _)| *until > now);
        Whereabouts {
            places: places.collect(),
            truncated: ids.is_some_and(|ids| ids.len() > limit),
            last_seen: seen.map(|(_, at)| *at),
        }
    }

    /// Up to `limit` members after one, ordered by channel and client.
    pub(super) fn everyone(&self, after: Option<&MemberId>, limit: usize) -> Vec<(Member, GatewayId)> {
        let rooms = match after {
            Some(after) => self.channels.range(after.channel.clone()..),
            None => self.channels.range::<Channel, _>(..),
        };
        let members = rooms.flat_map(|(channel, room)| {
            let from = match after {
                Some(after) if after.channel == *channel => Bound::Excluded(after.client),
                _ => Bound::Unbounded,
            };
            room.members.range((from, Bound::Unbounded))
        });
        let visible = members.filter_map(|(_, kept)| Some((kept.member.clone(), self.gateway_of(kept)?)));
        visible.take(limit).collect()
    }
}
