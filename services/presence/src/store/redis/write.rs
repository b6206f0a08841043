//! Members come and go, and what is ended is swept.

use std::collections::BTreeMap;

use redis::Pipeline;
use tidings_core::ClientId;

use super::{
    super::{Applied, Changes, Error, Per, SWEEP_PAGE, Swept},
    APPLY, PLACES, Redis, Who, entry, loading, millis,
};
use crate::member::{Lease, MemberId};

/// A channel with more members than this keeps them in order.
pub(super) const UNORDERED: usize = 1_000;

/// How many users one step of a sweep looks at.
const SWEEP_USERS: usize = 200;

/// Members, by whose they are.
type Places = BTreeMap<Who, Vec<MemberId>>;

/// Members that are gone, and whose they were.
type Gone = Vec<(MemberId, Who)>;

impl Redis {
    pub(in super::super) async fn apply(&self, lease: &Lease, changes: Changes) -> Result<Applied, Error> {
        if changes.is_empty() {
            return Ok(Applied::default());
        }
        let mut comers = Places::new();
        for member in changes.values().flat_map(BTreeMap::values).flatten() {
            let who = Who::new(&member.info.user, member.info.client);
            comers.entry(who).or_default().push(member.id());
        }
        self.enter(lease, &comers).await?;
        let (joined, gone) = self.write(lease, &changes).await?;
        let mut goers = Places::new();
        let mut left = Vec::with_capacity(gone.len());
        for (id, who) in gone {
            left.push(id.clone());
            goers.entry(who).or_default().push(id);
        }
        self.depart(lease, &goers).await?;
        Ok(Applied { joined, left })
    }

    pub(in super::super) async fn sweep(&self, lease: &Lease) -> Result<Swept, Error> {
        let mut pipeline = redis::pipe();
        // Random ones: replicas that sweep the same lease mostly meet different users.
        pipeline
            .cmd("SRANDMEMBER")
            .arg(self.keys.users(lease))
            .arg(SWEEP_USERS);
        let (names,): (Vec<Vec<u8>>,) = self.send(&pipeline).await?;
        if names.is_empty() {
            return Ok(Swept {
                left: Vec::new(),
                done: self.forget(lease).await?,
            });
        }
        let who: Vec<Who> = names.iter().filter_map(|name| Who::parse(name)).collect();
        let mut places = Places::new();
        let mut changes = Changes::new();
        let mut room = SWEEP_PAGE;
        for (who, ids) in who.iter().zip(self.places_under(lease, &who).await?) {
            let ids: Vec<MemberId> = ids.into_iter().take(room).collect();
            room -= ids.len();
            for MemberId { channel, client } in &ids {
                changes.entry(channel.clone()).or_default().insert(*client, None);
            }
            places.insert(who.clone(), ids);
            if room == 0 {
                break;
            }
        }
        let (_, gone) = self.write(lease, &changes).await?;
        // Also those that were gone already: whoever removed them may have got no further.
        self.depart(lease, &places).await?;
        self.strike_unreadable(lease, &names).await?;
        Ok(Swept {
            left: gone.into_iter().map(|(id, _)| id).collect(),
            done: false,
        })
    }

    /// What nobody can read is nobody's: it only goes out of the set.
    async fn strike_unreadable(&self, lease: &Lease, names: &[Vec<u8>]) -> Result<(), Error> {
        let unreadable: Vec<&Vec<u8>> = names.iter().filter(|name| Who::parse(name).is_none()).collect();
        if unreadable.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("SREM")
            .arg(self.keys.users(lease))
            .arg(&unreadable)
            .ignore();
        self.send(&pipeline).await
    }

    /// Takes a swept lease off the list; `false` when a late write has come in between.
    async fn forget(&self, lease: &Lease) -> Result<bool, Error> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("ZREM")
            .arg(self.keys.gateways())
            .arg(lease.to_string())
            .ignore();
        self.send::<()>(&pipeline).await?;
        // A late writer writes first and puts the lease on the list again afterwards. Looking only now, either
        // its write is seen here, or its lease is listed after it was taken off, provided that the writer lives on.
        let mut pipeline = redis::pipe();
        pipeline.cmd("EXISTS").arg(self.keys.users(lease));
        let (written,): (bool,) = self.send(&pipeline).await?;
        if written {
            self.end(lease).await?;
        }
        Ok(!written)
    }

    /// Writes and removes members, and announces it, one script call per channel, all in one exchange.
    async fn write(&self, lease: &Lease, changes: &Changes) -> Result<(Vec<MemberId>, Gone), Error> {
        let (mut joined, mut gone) = (Vec::new(), Gone::new());
        if changes.is_empty() {
            return Ok((joined, gone));
        }
        let goers: Vec<(&_, ClientId)> = changes
            .iter()
            .filter_map(|(channel, members)| {
                let (client, _) = members.iter().find(|(_, member)| member.is_none())?;
                Some((channel, *client))
            })
            .collect();
        self.will_look(&goers).await?;
        let answers: Vec<(Vec<Vec<u8>>, String)> = self.send(&self.writes(lease, changes)).await?;
        self.look(&goers).await?;

        if let Some((channel, (_, why))) = changes.keys().zip(&answers).find(|(_, (_, why))| !why.is_empty())
        {
            tracing::error!(
                channel.name = %channel,
                "Redis does not let joins and leaves be announced: {why}; allow its user `{}` to {}",
                self.pool.publish(),
                self.keys.bus(channel)
            );
        }
        let ids = changes.iter().flat_map(|(channel, members)| {
            members.keys().map(|client| MemberId {
                channel: channel.clone(),
                client: *client,
            })
        });
        for (id, effect) in ids.zip(answers.into_iter().flat_map(|(effects, _)| effects)) {
            match effect.split_first() {
                Some((b'+', _)) => joined.push(id),
                Some((_, user)) => {
                    let who = Who::new(&String::from_utf8_lossy(user), id.client);
                    gone.push((id, who));
                }
                None => {}
            }
        }
        Ok((joined, gone))
    }

    fn writes(&self, lease: &Lease, changes: &Changes) -> Pipeline {
        let serial = entry::serial(lease.serial);
        let mut pipeline = loading(APPLY);
        for (channel, members) in changes {
            pipeline.cmd("EVALSHA").arg(self.scripts.apply.get_hash());
            let log = (self.options.log > 0).then(|| self.keys.log());
            pipeline
                .arg(7 + log.iter().len())
                .arg(self.keys.presence(channel));
            for what in ["leases", "users", "order", "announced", "leaving", "quiet"] {
                pipeline.arg(self.keys.beside(channel, what));
            }
            pipeline
                .arg(log)
                .arg(&serial)
                .arg(self.pool.publish())
                .arg(self.keys.bus(channel))
                .arg(channel.as_str())
                .arg(match self.options.per {
                    Per::Client => "client",
                    Per::User => "user",
                })
                .arg(millis(self.options.leave_delay))
                .arg(self.options.log)
                .arg(UNORDERED)
                .arg(self.options.crowd);
            for (client, member) in members {
                let value = member
                    .as_ref()
                    .map(|member| entry::encode(lease.serial, member))
                    .unwrap_or_default();
                pipeline.arg(client.to_string()).arg(value);
            }
        }
        pipeline
    }

    /// Names who will have members, and where, so that a sweep and a lookup find them.
    async fn enter(&self, lease: &Lease, comers: &Places) -> Result<(), Error> {
        if comers.is_empty() {
            return Ok(());
        }
        let mut pipeline = loading(PLACES);
        pipeline.cmd("SADD").arg(self.keys.users(lease));
        for who in comers.keys() {
            pipeline.arg(who.to_string());
        }
        pipeline.ignore();
        for (who, ids) in comers {
            self.places(&mut pipeline, lease, who, '+', ids);
            pipeline.ignore();
        }
        self.send(&pipeline).await
    }

    /// Forgets places, and who has no more of them under the lease.
    async fn depart(&self, lease: &Lease, goers: &Places) -> Result<(), Error> {
        if goers.is_empty() {
            return Ok(());
        }
        let mut pipeline = loading(PLACES);
        for (who, ids) in goers {
            self.places(&mut pipeline, lease, who, '-', ids);
        }
        let left: Vec<u64> = self.send(&pipeline).await?;
        let done = goers.keys().zip(left).filter(|(_, left)| *left == 0);
        let done: Vec<String> = done.map(|(who, _)| who.to_string()).collect();
        if done.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("SREM")
            .arg(self.keys.users(lease))
            .arg(done)
            .ignore();
        self.send(&pipeline).await
    }

    fn places(&self, pipeline: &mut Pipeline, lease: &Lease, who: &Who, how: char, ids: &[MemberId]) {
        let names: Vec<Vec<u8>> = ids.iter().map(|id| entry::name(&id.channel, id.client)).collect();
        pipeline
            .cmd("EVALSHA")
            .arg(self.scripts.places.get_hash())
            .arg(1)
            .arg(self.keys.places(who))
            .arg(entry::serial(lease.serial))
            .arg(millis(self.options.last_seen))
            .arg(how.to_string())
            .arg(names);
    }

    /// Where each of them is under a lease.
    pub(super) async fn places_under(&self, lease: &Lease, who: &[Who]) -> Result<Vec<Vec<MemberId>>, Error> {
        if who.is_empty() {
            return Ok(Vec::new());
        }
        let serial = entry::serial(lease.serial);
        let mut pipeline = redis::pipe();
        for who in who {
            pipeline.cmd("HGETALL").arg(self.keys.places(who));
        }
        let all: Vec<Vec<(Vec<u8>, Vec<u8>)>> = self.send(&pipeline).await?;
        let under = |places: Vec<(Vec<u8>, Vec<u8>)>| {
            let mine = places.into_iter().filter(|(_, held)| held == serial.as_bytes());
            mine.filter_map(|(name, _)| entry::parse_name(&name)).collect()
        };
        Ok(all.into_iter().map(under).collect())
    }
}
