//! Who is there, as far as their leases live.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tidings_core::{Channel, ClientId};

use super::{
    super::{Error, Page, Scan, Stats, Whereabouts},
    Redis, Who, entry,
};
use crate::member::{GatewayId, Member, MemberId};

/// What a channel's members are read in when they have to be counted one by one.
const COUNTED: usize = 1_000;

/// How many users one step of a scan looks at, about.
const SCANNED: usize = 200;

/// How many members one exchange asks for.
const ASKED: usize = 2_000;

impl Redis {
    pub(in super::super) async fn members(
        &self,
        channel: &Channel,
        after: Option<ClientId>,
        limit: usize,
    ) -> Result<Page, Error> {
        let mut after = after.map(|after| after.to_string()).unwrap_or_default();
        loop {
            let live = self.live().await?;
            let complete = live.complete;
            let (mut more, entries) = self.page(channel, &after, limit).await?;
            // Sorted as text, which is how client ids sort.
            let mut entries: BTreeMap<Vec<u8>, Vec<u8>> = entries.into_iter().collect();
            entries = entries.split_off(after.as_bytes());
            entries.remove(after.as_bytes());
            while entries.len() > limit {
                entries.pop_last();
                more = true;
            }
            let last = entries.last_key_value().map(|(client, _)| client.clone());
            let members = entries
                .iter()
                .filter_map(|(client, value)| entry::decode(channel, client, value));
            let members = self.alive(live.gateways(), members.collect()).await?;
            match last {
                // All of them are a dead gateway's.
                Some(last) if more && members.is_empty() => {
                    after = String::from_utf8_lossy(&last).into_owned();
                }
                _ => {
                    return Ok(Page {
                        members,
                        more,
                        complete,
                    });
                }
            }
        }
    }

    async fn page(
        &self,
        channel: &Channel,
        after: &str,
        limit: usize,
    ) -> Result<(bool, Vec<(Vec<u8>, Vec<u8>)>), Error> {
        let keys = [self.keys.presence(channel), self.keys.beside(channel, "order")];
        self.run(&self.scripts.page, &keys, &[after, &limit.to_string()])
            .await
    }

    /// Those whose leases live, with their gateways.
    async fn alive(
        &self,
        mut live: HashMap<u64, GatewayId>,
        members: Vec<(Member, u64)>,
    ) -> Result<Vec<(Member, GatewayId)>, Error> {
        if members.iter().any(|(_, lease)| !live.contains_key(lease)) {
            // A dead gateway's, or those of one that attached again between the two reads: they must not vanish.
            live.extend(self.live().await?.gateways());
        }
        let alive = members
            .into_iter()
            .filter_map(|(member, lease)| Some((member, live.get(&lease)?.clone())));
        Ok(alive.collect())
    }

    /// From the counts, unless some of those counted are under a lease that has ended: these are left out one by one.
    pub(in super::super) async fn stats(&self, channel: &Channel) -> Result<Stats, Error> {
        let mut live = self.live().await?.gateways();
        let keys = ["leases", "users"].map(|what| self.keys.beside(channel, what));
        let (leases, users): (Vec<(u64, usize)>, usize) = self.run(&self.scripts.stats, &keys, &[]).await?;
        if !leases.iter().all(|(lease, _)| live.contains_key(lease)) {
            live.extend(self.live().await?.gateways());
        }
        if leases.iter().all(|(lease, _)| live.contains_key(lease)) {
            return Ok(Stats {
                clients: leases.iter().map(|(_, clients)| clients).sum(),
                users,
            });
        }
        let (mut clients, mut users, mut after) = (0, HashSet::new(), None);
        loop {
            let page = self.members(channel, after, COUNTED).await?;
            clients += page.members.len();
            after = page.members.last().map(|(member, _)| member.info.client);
            users.extend(page.members.into_iter().map(|(member, _)| member.info.user));
            if !page.more {
                return Ok(Stats {
                    clients,
                    users: users.len(),
                });
            }
        }
    }

    pub(in super::super) async fn lookup(
        &self,
        users: &[Arc<str>],
        limit: usize,
    ) -> Result<Vec<Whereabouts>, Error> {
        let all = users.iter().map(|user| {
            let mut all = redis::cmd("HGETALL");
            all.arg(self.keys.places(&Who::User(user.clone())));
            all
        });
        let all = self
            .each::<HashMap<Vec<u8>, Vec<u8>>>(None, &all.collect::<Vec<_>>())
            .await;
        let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut found: Vec<Whereabouts> = Vec::with_capacity(users.len());
        let mut asked: Vec<(usize, MemberId)> = Vec::new();
        let mut room = limit;
        for (at, places) in all.iter().enumerate() {
            let seen = places
                .get(&b"seen"[..])
                .and_then(|ms| std::str::from_utf8(ms).ok()?.parse().ok());
            let mut ids: Vec<MemberId> = places.keys().filter_map(|name| entry::parse_name(name)).collect();
            ids.sort();
            let truncated = ids.len() > room.max(1);
            ids.truncate(room.max(1));
            room = room.saturating_sub(ids.len());
            asked.extend(ids.into_iter().map(|id| (at, id)));
            found.push(Whereabouts {
                places: Vec::new(),
                truncated,
                last_seen: seen.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
            });
        }
        let owner: HashMap<MemberId, usize> = asked.iter().map(|(at, id)| (id.clone(), *at)).collect();
        let asked = asked.into_iter().map(|(_, id)| id).collect();
        let (members, unread) = self.of(asked).await?;
        for id in unread {
            if let Some(at) = owner.get(&id) {
                found[*at].truncated = true;
            }
        }
        for (member, gateway) in members {
            // A place may be of an older stay.
            if let Some(at) = owner
                .get(&member.id())
                .filter(|at| users[**at] == member.info.user)
            {
                found[*at].places.push((member, gateway));
            }
        }
        Ok(found)
    }

    /// Those of them that are there, and those whose part of the store is unavailable. A place is noted a moment before its
    /// member is, and may be of an older stay.
    async fn of(&self, ids: Vec<MemberId>) -> Result<(Vec<(Member, GatewayId)>, Vec<MemberId>), Error> {
        let live = self.live().await?.gateways();
        let (mut members, mut unread) = (Vec::new(), Vec::new());
        for part in ids.chunks(ASKED) {
            let gets = part.iter().map(|MemberId { channel, client }| {
                let mut get = redis::cmd("HGET");
                get.arg(self.keys.presence(channel)).arg(client.to_string());
                get
            });
            let values: Vec<Result<Option<Vec<u8>>, Error>> =
                self.each(None, &gets.collect::<Vec<_>>()).await;
            for (id, value) in part.iter().zip(values) {
                match value {
                    Ok(value) => members.extend(value.and_then(|value| {
                        entry::decode(&id.channel, id.client.to_string().as_bytes(), &value)
                    })),
                    Err(_) if self.pool.is_cluster() => unread.push(id.clone()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((self.alive(live, members).await?, unread))
    }

    pub(in super::super) async fn scan(
        &self,
        scan: &mut Scan,
    ) -> Result<Option<Vec<(Member, GatewayId)>>, Error> {
        let leases = match &mut scan.leases {
            Some(leases) => leases,
            none => none.insert(self.live().await?.leases),
        };
        let Some(lease) = leases.last().cloned() else {
            return Ok(None);
        };
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("SSCAN")
            .arg(self.keys.users(&lease))
            .arg(scan.cursor)
            .arg("COUNT")
            .arg(SCANNED);
        let ((cursor, names),): ((u64, Vec<Vec<u8>>),) = self.send(&pipeline).await?;
        scan.cursor = cursor;
        if cursor == 0 {
            leases.pop();
        }
        let who: Vec<Who> = names.iter().filter_map(|name| Who::parse(name)).collect();
        let places = self.places_under(&lease, &who).await;
        let places = places.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (members, _) = self
            .of(places.into_iter().flat_map(|placed| placed.under).collect())
            .await?;
        Ok(Some(members))
    }
}
