//! One channel: its members, how many they are, and who is on its way out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry, hash_map},
    hash::Hash,
    sync::Arc,
};

use tidings_core::{ClientId, ClientInfo};
use tokio::time::Instant;

use super::{
    super::{ANNOUNCED_MAX, Coming, Options, Per},
    state::News,
};
use crate::member::{Lease, Member};

#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) members: BTreeMap<ClientId, Kept>,
    pub(super) leases: Counts<Lease>,
    pub(super) users: Counts<Arc<str>>,
    /// How many announced clients a user has, where users are announced once.
    announced: Counts<Arc<str>>,
    leaving: BTreeMap<Who, (Instant, Member)>,
    /// Who came when it was a crowd, and was not announced.
    quiet: BTreeSet<Who>,
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) lease: Lease,
    pub(super) member: Member,
}

/// Whoever is announced once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    User(Arc<str>),
    Client(ClientId),
}

impl Who {
    fn new(info: &ClientInfo, per: Per) -> Self {
        if per == Per::User && !info.user.is_empty() {
            Self::User(info.user.clone())
        } else {
            Self::Client(info.client)
        }
    }
}

impl Room {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.leaving.is_empty()
    }

    /// Whether the member was not there before; `None` when a newer lease has it.
    pub(super) fn write(
        &mut self,
        lease: &Lease,
        Coming { member, known }: Coming,
        options: &Options,
        news: &mut Vec<News>,
    ) -> Option<bool> {
        let kept = Kept {
            lease: lease.clone(),
            member: member.clone(),
        };
        let old = match self.members.entry(member.info.client) {
            Entry::Occupied(entry) if entry.get().lease.serial > lease.serial => return None,
            Entry::Occupied(mut entry) => Some(entry.insert(kept)),
            Entry::Vacant(entry) => {
                entry.insert(kept);
                None
            }
        };
        self.leases.more(lease.clone());
        self.users.more(member.info.user.clone());
        let is_new = old.is_none();
        if let Some(old) = &old {
            self.discount(old);
        }
        let known = known && is_new;
        self.tell(old.map(|old| old.member), Some(member), known, options, news);
        Some(is_new)
    }

    /// The member, if it was there under this lease.
    pub(super) fn remove(
        &mut self,
        lease: &Lease,
        client: ClientId,
        options: &Options,
        news: &mut Vec<News>,
    ) -> Option<Member> {
        if self.members.get(&client)?.lease != *lease {
            return None;
        }
        let gone = self.members.remove(&client)?;
        self.discount(&gone);
        self.tell(Some(gone.member.clone()), None, false, options, news);
        Some(gone.member)
    }

    fn discount(&mut self, gone: &Kept) {
        self.leases.fewer(&gone.lease);
        self.users.fewer(&gone.member.info.user);
    }

    /// Says what there is to say of a member that was as `old` and is as `new`.
    fn tell(
        &mut self,
        old: Option<Member>,
        new: Option<Member>,
        known: bool,
        options: &Options,
        news: &mut Vec<News>,
    ) {
        let is_announced = |member: &Member| member.announced;
        let who = |member: &Member| Who::new(&member.info, options.per);
        let (old, new) = (old.filter(is_announced), new.filter(is_announced));
        if let (Some(old), Some(new)) = (&old, &new)
            && who(old) == who(new)
        {
            return;
        }
        if let Some(old) = old {
            self.depart(who(&old), old, options, news);
        }
        if let Some(new) = new {
            self.arrive(who(&new), new, known, options, news);
        }
    }

    /// Whom the channel's listeners know of.
    pub(super) fn known(&self, per: Per) -> Vec<ClientInfo> {
        let members = self.members.values().map(|kept| &kept.member);
        let members = members.filter(|member| member.announced);
        let mut known = BTreeMap::new();
        for member in members.chain(self.leaving.values().map(|(_, member)| member)) {
            let who = Who::new(&member.info, per);
            if !self.quiet.contains(&who) {
                known.entry(who).or_insert_with(|| member.info.clone());
            }
        }
        known.into_values().collect()
    }

    /// How many are there, when who comes and who goes is counted, not announced.
    pub(super) fn crowd(&self, options: &Options) -> Option<u32> {
        let size = self.members.len();
        let is_crowd = options.crowd > 0 && size > options.crowd;
        is_crowd.then(|| size.try_into().unwrap_or(u32::MAX))
    }

    fn arrive(&mut self, who: Who, member: Member, known: bool, options: &Options, news: &mut Vec<News>) {
        if let Who::User(user) = &who
            && self.announced.more(user.clone()) > 1
        {
            return;
        }
        // Back before its leave was due: it was never away.
        if self.leaving.remove(&who).is_some() {
            return;
        }
        // As in `apply.lua`.
        if known && self.members.len() <= ANNOUNCED_MAX {
            return;
        }
        if self.crowd(options).is_some() {
            self.quiet.insert(who);
        } else if !known {
            news.push(News::Came(member.channel, member.info));
        }
    }

    fn depart(&mut self, who: Who, member: Member, options: &Options, news: &mut Vec<News>) {
        if let Who::User(user) = &who
            && self.announced.fewer(user) > 0
        {
            return;
        }
        // Nobody heard of it coming. Where they did, they hear of it going, from a crowd too.
        if self.quiet.remove(&who) && self.crowd(options).is_some() {
            return;
        }
        if options.leave_delay.is_zero() {
            news.push(News::Went(member.channel, member.info));
        } else {
            let due = Instant::now() + options.leave_delay;
            self.leaving.insert(who, (due, member));
        }
    }

    /// Announces the leaves that are due.
    pub(super) fn settle(&mut self, news: &mut Vec<News>) {
        let now = Instant::now();
        self.leaving.retain(|_, (due, member)| {
            if *due <= now {
                news.push(News::Went(member.channel.clone(), member.info.clone()));
            }
            *due > now
        });
    }
}

/// How many there are of each.
#[derive(Debug)]
pub(super) struct Counts<T>(HashMap<T, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Hash + Eq> Counts<T> {
    fn more(&mut self, of: T) -> usize {
        let count = self.0.entry(of).or_default();
        *count += 1;
        *count
    }

    fn fewer(&mut self, of: &T) -> usize
    where
        T: Clone,
    {
        let hash_map::Entry::Occupied(mut entry) = self.0.entry(of.clone()) else {
            return 0;
        };
        *entry.get_mut() -= 1;
        let count = *entry.get();
        if count == 0 {
            entry.remove();
        }
        count
    }

    pub(super) fn different(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&T, usize)> {
        self.0.iter().map(|(of, count)| (of, *count))
    }
}
