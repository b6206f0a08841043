//! Members come and go, and what is ended is swept.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use redis::Cmd;
use tidings_core::{Channel, ClientId};

use super::{
    super::{ANNOUNCED_MAX, Applied, Changes, Error, Per, SWEEP_PAGE, Swept},
    Redis, Who, entry, millis,
};
use crate::member::{Lease, MemberId};

/// A channel with more members than this keeps them in order.
pub(super) const UNORDERED: usize = 1_000;

/// How many users one step of a sweep looks at.
const SWEEP_USERS: usize = 200;

/// What a member is named with where a lease finds it without its user.
const AT: &str = "at:";

/// Members, by whose they are.
pub(super) type Places = BTreeMap<Who, Vec<MemberId>>;

/// Where a user is.
#[derive(Default)]
pub(super) struct Placed {
    /// Under a lease.
    pub(super) under: Vec<MemberId>,
    /// Under a newer one, for all that is noted. A writer that was stopped right after it had noted that has left the member
    /// under the older lease, so a sweep of that one has to look here, too.
    newer: Vec<MemberId>,
}

/// What became of members that were to be written or removed.
#[derive(Default)]
struct Written {
    joined: Vec<MemberId>,
    /// And whose they were.
    gone: Vec<(MemberId, Who)>,
    failed: Vec<MemberId>,
}

impl Redis {
    pub(in super::super) async fn apply(&self, lease: &Lease, changes: Changes) -> Result<Applied, Error> {
        if changes.is_empty() {
            return Ok(Applied::default());
        }
        let mut comers = Places::new();
        for coming in changes.values().flat_map(BTreeMap::values).flatten() {
            let who = Who::new(&coming.member.info.user, coming.member.info.client);
            comers.entry(who).or_default().push(coming.member.id());
        }
        let unplaced = self.enter(lease, &comers).await?;
        let Written {
            joined,
            gone,
            mut failed,
        } = self.write(lease, &changes).await?;
        failed.extend(unplaced);
        // What failed may be done all the same, and is not known to be when it is given again.
        let mut untidy = !failed.is_empty();
        let mut goers = Places::new();
        let mut left = Vec::with_capacity(gone.len());
        for (id, who) in gone {
            left.push(id.clone());
            goers.entry(who).or_default().push(id);
        }
        untidy |= !self.depart(lease, &goers).await?;
        Ok(Applied {
            joined,
            left,
            failed,
            untidy,
        })
    }

    pub(in super::super) async fn sweep(&self, lease: &Lease) -> Result<Swept, Error> {
        let mut some = redis::cmd("SRANDMEMBER");
        // Random ones: replicas that sweep the same lease mostly meet different users.
        some.arg(self.keys.users(lease)).arg(SWEEP_USERS);
        let names: Vec<Vec<u8>> = self.one(None, some).await?;
        if names.is_empty() {
            return Ok(Swept {
                left: Vec::new(),
                failed: false,
                done: self.forget(lease).await?,
            });
        }
        let who: Vec<Who> = names.iter().filter_map(|name| Who::parse(name)).collect();
        let mut places = Places::new();
        let mut found: Vec<MemberId> = names.iter().filter_map(|name| at(name)).collect();
        let mut failed = false;
        for (who, ids) in who.iter().zip(self.places_under(lease, &who).await) {
            let Ok(Placed { mut under, newer }) = ids else {
                failed = true;
                continue;
            };
            under.truncate(SWEEP_PAGE.saturating_sub(found.len()));
            found.extend(under.iter().chain(&newer).cloned());
            places.insert(who.clone(), under);
            if found.len() >= SWEEP_PAGE {
                break;
            }
        }
        let mut changes = Changes::new();
        for MemberId { channel, client } in found {
            changes.entry(channel).or_default().insert(client, None);
        }
        let written = self.write(lease, &changes).await?;
        failed |= !written.failed.is_empty();
        let stay: HashSet<&MemberId> = written.failed.iter().collect();
        places.retain(|_, ids| {
            let all = ids.len();
            ids.retain(|id| !stay.contains(id));
            all == 0 || !ids.is_empty()
        });
        // Also those that were gone already: whoever removed them may have got no further.
        self.depart(lease, &places).await?;
        let struck = names.iter().filter(|name| match at(name) {
            Some(id) => !stay.contains(&id),
            // What nobody can read is nobody's.
            None => Who::parse(name).is_none(),
        });
        self.strike(lease, &struck.collect::<Vec<_>>()).await?;
        Ok(Swept {
            left: written.gone.into_iter().map(|(id, _)| id).collect(),
            failed,
            done: false,
        })
    }

    /// Takes names out of the lease's set.
    async fn strike(&self, lease: &Lease, names: &[&Vec<u8>]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let mut strike = redis::cmd("SREM");
        strike.arg(self.keys.users(lease)).arg(names);
        self.one(None, strike).await
    }

    /// Takes a swept lease off the list; `false` when a late write has come in between.
    async fn forget(&self, lease: &Lease) -> Result<bool, Error> {
        let mut forget = redis::cmd("HDEL");
        forget.arg(self.keys.leases()).arg(lease.to_string());
        self.one::<()>(None, forget).await?;
        // A late writer writes first and puts the lease on the list again afterwards. Looking only now, either
        // its write is seen here, or its lease is listed after it was taken off, provided that the writer lives on.
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.keys.users(lease));
        let written: bool = self.one(None, exists).await?;
        if written {
            self.end(lease).await?;
        }
        Ok(!written)
    }

    /// Writes and removes members, and announces it, one script call per channel, all in one exchange.
    async fn write(&self, lease: &Lease, changes: &Changes) -> Result<Written, Error> {
        let mut written = Written::default();
        if changes.is_empty() {
            return Ok(written);
        }
        let goers: Vec<(&_, ClientId)> = changes
            .iter()
            .filter_map(|(channel, members)| {
                let (client, _) = members.iter().find(|(_, member)| member.is_none())?;
                Some((channel, *client))
            })
            .collect();
        self.will_look(&goers).await?;
        let calls: Vec<Cmd> = self.writes(lease, changes);
        let answers = self
            .each::<(Vec<Vec<u8>>, String)>(Some(&self.scripts.apply), &calls)
            .await;
        self.look(&goers).await?;

        let mut error = None;
        for ((channel, members), answer) in changes.iter().zip(answers) {
            let ids = members.keys().map(|client| MemberId {
                channel: channel.clone(),
                client: *client,
            });
            match answer {
                Ok((effects, refused)) => {
                    self.expect_announced(channel, &refused);
                    written.take(ids.zip(effects));
                }
                Err(why) => {
                    written.failed.extend(ids);
                    error = Some(why);
                }
            }
        }
        let all = changes.values().map(BTreeMap::len).sum::<usize>();
        match error {
            // A part that fails is one of several.
            Some(error) if written.failed.len() == all && !self.pool.is_cluster() => Err(error),
            Some(error) => {
                tracing::debug!(%error, members = written.failed.len(), "a part of presence cannot be written");
                Ok(written)
            }
            None => Ok(written),
        }
    }

    fn expect_announced(&self, channel: &Channel, refused: &str) {
        if !refused.is_empty() {
            tracing::error!(
                channel.name = %channel,
                "Redis does not let joins and leaves be announced: {refused}; allow its user `{}` to {}",
                self.pool.publish(),
                self.keys.bus(channel)
            );
        }
    }

    fn writes(&self, lease: &Lease, changes: &Changes) -> Vec<Cmd> {
        let serial = entry::serial(lease.serial);
        let log = (self.options.log > 0).then(|| self.keys.log());
        let calls = changes.iter().map(|(channel, members)| {
            let mut keys = vec![self.keys.presence(channel)];
            for what in ["leases", "users", "order", "announced", "leaving", "quiet"] {
                keys.push(self.keys.beside(channel, what));
            }
            keys.extend(log.clone());
            let mut call = self.scripts.apply.call(&keys);
            call.arg(&serial)
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
                .arg(self.options.crowd)
                .arg(ANNOUNCED_MAX);
            for (client, coming) in members {
                let (known, value) = match coming {
                    Some(coming) => (coming.known, entry::encode(lease.serial, &coming.member)),
                    None => (false, Vec::new()),
                };
                call.arg(client.to_string()).arg(value).arg(u8::from(known));
            }
            call
        });
        calls.collect()
    }

    /// Names who will have members, and where, so that a sweep and a lookup find them. Those whose places cannot be noted are
    /// named in the lease's set themselves, and returned.
    pub(super) async fn enter(&self, lease: &Lease, comers: &Places) -> Result<Vec<MemberId>, Error> {
        if comers.is_empty() {
            return Ok(Vec::new());
        }
        self.name(lease, comers.keys().map(ToString::to_string)).await?;
        let noted = self.note_places(lease, comers, '+').await;
        let unnoted = comers.values().zip(&noted).filter(|(_, noted)| noted.is_err());
        let unplaced: Vec<MemberId> = unnoted.flat_map(|(ids, _)| ids).cloned().collect();
        if let Some(error) = noted.into_iter().find_map(Result::err) {
            if !self.pool.is_cluster() {
                return Err(error);
            }
            self.name(lease, unplaced.iter().map(name_at)).await?;
        }
        Ok(unplaced)
    }

    /// Names who has members under a lease.
    pub(super) async fn name(&self, lease: &Lease, names: impl Iterator<Item = String>) -> Result<(), Error> {
        let mut add = redis::cmd("SADD");
        add.arg(self.keys.users(lease)).arg(names.collect::<Vec<_>>());
        self.one(None, add).await
    }

    /// Forgets places, and who has no more of them under the lease. What cannot be forgotten stays until the lease is swept;
    /// whether there is nothing like that.
    async fn depart(&self, lease: &Lease, goers: &Places) -> Result<bool, Error> {
        if goers.is_empty() {
            return Ok(true);
        }
        let left = self.note_places(lease, goers, '-').await;
        let all = left.iter().all(Result::is_ok);
        let done = goers.keys().zip(left).filter(|(_, left)| matches!(left, Ok(0)));
        let done: Vec<Vec<u8>> = done.map(|(who, _)| who.to_string().into_bytes()).collect();
        self.strike(lease, &done.iter().collect::<Vec<_>>()).await?;
        Ok(all)
    }

    /// How many places each has under the lease afterwards.
    async fn note_places(&self, lease: &Lease, whose: &Places, how: char) -> Vec<Result<u64, Error>> {
        let calls = whose.iter().map(|(who, ids)| {
            let names: Vec<Vec<u8>> = ids.iter().map(|id| entry::name(&id.channel, id.client)).collect();
            // Nobody can ask when a client was last seen: it does not come back under its id.
            let last_seen = match who {
                Who::User(_) => self.options.last_seen,
                Who::Client(_) => Duration::ZERO,
            };
            let mut call = self.scripts.places.call(&[self.keys.places(who)]);
            call.arg(entry::serial(lease.serial))
                .arg(millis(last_seen))
                .arg(how.to_string())
                .arg(names);
            call
        });
        let calls: Vec<Cmd> = calls.collect();
        self.each(Some(&self.scripts.places), &calls).await
    }

    /// Where each of them is under a lease, and under newer ones.
    pub(super) async fn places_under(&self, lease: &Lease, who: &[Who]) -> Vec<Result<Placed, Error>> {
        let serial = entry::serial(lease.serial);
        let all = who.iter().map(|who| {
            let mut all = redis::cmd("HGETALL");
            all.arg(self.keys.places(who));
            all
        });
        let all = self
            .each::<Vec<(Vec<u8>, Vec<u8>)>>(None, &all.collect::<Vec<_>>())
            .await;
        let sort = |places: Vec<(Vec<u8>, Vec<u8>)>| {
            let mut placed = Placed::default();
            for (name, held) in places {
                match (entry::parse_name(&name), held.as_slice().cmp(serial.as_bytes())) {
                    (Some(id), Ordering::Equal) => placed.under.push(id),
                    (Some(id), Ordering::Greater) => placed.newer.push(id),
                    _ => {}
                }
            }
            placed
        };
        all.into_iter().map(|places| places.map(sort)).collect()
    }
}

impl Written {
    /// Reads what the script answers of each member.
    fn take(&mut self, effects: impl Iterator<Item = (MemberId, Vec<u8>)>) {
        for (id, effect) in effects {
            match effect.split_first() {
                Some((b'+', _)) => self.joined.push(id),
                Some((_, user)) => {
                    let who = Who::new(&String::from_utf8_lossy(user), id.client);
                    self.gone.push((id, who));
                }
                None => {}
            }
        }
    }
}

/// How a lease's set names a member that it finds without its user.
pub(super) fn name_at(MemberId { channel, client }: &MemberId) -> String {
    format!("{AT}{channel} {client}")
}

/// The member that a name in a lease's set is about, where it is about one.
fn at(name: &[u8]) -> Option<MemberId> {
    entry::parse_name(name.strip_prefix(AT.as_bytes())?)
}
