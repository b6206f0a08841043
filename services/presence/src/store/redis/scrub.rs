//! What no lease finds any more, after Redis may have lost what was written last.
//!
//! A sweep finds members by way of their lease's set and their users' places, which in a Redis Cluster live on other primaries
//! than the members. When one primary goes back in time, it has members again whose lease is long swept, or whose user has no
//! place there; readers do not see them, because their lease does not live, but they would stay for ever. So, once all
//! gateways have attached again and no lease from before is left, every key of presence is looked at: whatever is under a
//! lease from before is put under one that has ended, and goes the way of all that.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Cmd, FromRedisValue, RedisError};
use tidings_core::{Channel, ClientId};

use super::{
    super::{Epoch, Error, Scrub},
    Redis, TIMEOUT, Who, entry, unavailable,
    write::name_at,
};
use crate::member::{GatewayId, Lease};

/// Among how many keys of Redis one step looks.
const STEP: usize = 500;

/// How many members of a channel are looked at at once.
const MEMBERS: usize = 1_000;

/// The gateway of a lease of which only the serial is known.
const UNKNOWN: &str = "unknown";

/// Keys of presence from which something leads to members.
#[derive(Default)]
struct Found {
    /// Of channels: how many members each lease has.
    leases: Vec<Channel>,
    /// Of channels: leaves that are announced later.
    leaving: Vec<Channel>,
    /// Where somebody is.
    places: Vec<Who>,
    /// Who has members under a lease.
    users: Vec<Lease>,
}

/// Who is under leases that nobody knows, by their serials, as a lease's set names them.
type Orphans = BTreeMap<u64, BTreeSet<String>>;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

impl Redis {
    pub(in super::super) async fn scrub(&self, scrub: &mut Scrub) -> Result<bool, Error> {
        if scrub.pending.is_empty() {
            let pattern = format!("{}:*", literally(&self.keys.prefix));
            let keys = self.pool.scan(&mut scrub.keys, &pattern, STEP, TIMEOUT).await;
            let Some(keys) = keys.map_err(unavailable)? else {
                let mut done = redis::cmd("HSET");
                done.arg(self.keys.leases()).arg("scrubbed").arg(scrub.store.0);
                self.one::<()>(None, done).await?;
                return Ok(false);
            };
            scrub.pending = keys;
        }
        self.scrub_keys(&scrub.pending, scrub.store).await?;
        scrub.pending.clear();
        Ok(true)
    }

    async fn scrub_keys(&self, keys: &[Vec<u8>], store: Epoch) -> Result<(), Error> {
        let mut found = Found::default();
        for key in keys {
            self.sort(key, &mut found);
        }
        let outdated = |serial: &u64| *serial < store.0;
        let mut orphans = Orphans::new();
        self.members_under(&found.leases, outdated, &mut orphans).await?;
        self.places_under_none(&found.places, outdated, &mut orphans)
            .await?;
        self.look_again(&found.leaving).await?;
        for lease in found.users.iter().filter(|lease| outdated(&lease.serial)) {
            self.end(lease).await?;
        }
        for (serial, names) in orphans {
            let gateway = GatewayId::parse(UNKNOWN).expect("letters");
            let lease = Lease { gateway, serial };
            // Named first: whoever is stopped in between leaves a set, which the next scrub finds.
            self.name(&lease, names.into_iter()).await?;
            self.end(&lease).await?;
        }
        Ok(())
    }

    /// What some keys have in them; `None` of what is not ours, or may not be read.
    async fn fields<T: FromRedisValue>(
        &self,
        command: &str,
        keys: impl Iterator<Item = String>,
    ) -> Result<Vec<Option<T>>, Error> {
        let ask = |key: String| {
            let mut ask = redis::cmd(command);
            ask.arg(key);
            ask
        };
        let answers = self.each(None, &keys.map(ask).collect::<Vec<_>>()).await;
        let read = answers.into_iter().map(|answer| match answer {
            Ok(fields) => Ok(Some(fields)),
            Err(Error::Unavailable(why)) if is_foreign(&*why) => Ok(None),
            Err(error) => Err(error),
        });
        read.collect()
    }

    async fn members_under(
        &self,
        channels: &[Channel],
        outdated: impl Fn(&u64) -> bool,
        orphans: &mut Orphans,
    ) -> Result<(), Error> {
        let keys = channels.iter().map(|channel| self.keys.beside(channel, "leases"));
        let serials = self.fields::<Vec<u64>>("HKEYS", keys).await?;
        for (channel, serials) in channels.iter().zip(serials) {
            if !serials.iter().flatten().any(&outdated) {
                continue;
            }
            let mut cursor = 0_u64;
            loop {
                let mut some = Cmd::new();
                some.arg("HSCAN").arg(self.keys.presence(channel)).arg(cursor);
                some.arg("COUNT").arg(MEMBERS);
                let (next, members): (u64, Fields) = self.one(None, some).await?;
                for (client, value) in members {
                    if let Some((member, serial)) = entry::decode(channel, &client, &value)
                        && outdated(&serial)
                    {
                        orphans.entry(serial).or_default().insert(name_at(&member.id()));
                    }
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn places_under_none(
        &self,
        all: &[Who],
        outdated: impl Fn(&u64) -> bool,
        orphans: &mut Orphans,
    ) -> Result<(), Error> {
        let keys = all.iter().map(|who| self.keys.places(who));
        let places = self.fields::<Fields>("HGETALL", keys).await?;
        for (who, places) in all.iter().zip(places) {
            let held = places.iter().flatten();
            let held = held.filter(|(name, _)| entry::parse_name(name).is_some());
            for serial in held
                .filter_map(|(_, held)| entry::parse_serial(held))
                .filter(&outdated)
            {
                orphans.entry(serial).or_default().insert(who.to_string());
            }
        }
        Ok(())
    }

    /// The list that says when to look at channels may have gone back, and they not.
    async fn look_again(&self, channels: &[Channel]) -> Result<(), Error> {
        let keys = channels
            .iter()
            .map(|channel| self.keys.beside(channel, "leaving"));
        let leaving = self.fields::<Vec<Vec<u8>>>("HVALS", keys).await?;
        let mut at: Vec<(&Channel, ClientId)> = Vec::new();
        for (channel, leaving) in channels.iter().zip(leaving) {
            let leavers = leaving.iter().flatten().filter_map(|value| leaver(value));
            at.extend(leavers.map(|client| (channel, client)));
        }
        self.look(&at).await
    }

    /// Puts a key where it belongs, if it leads to anybody.
    fn sort(&self, key: &[u8], found: &mut Found) -> Option<()> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&*self.keys.prefix)?;
        let key = key.strip_prefix(':')?;
        if let Some(rest) = key.strip_prefix("presence:{") {
            let (channel, what) = rest.rsplit_once("}:")?;
            let list = match what {
                "leases" => &mut found.leases,
                "leaving" => &mut found.leaving,
                _ => return None,
            };
            list.push(Channel::parse(channel).ok()?);
        } else if let Some(lease) = key.strip_prefix("{leases}:") {
            found.users.push(Lease::parse(lease.strip_suffix(":users")?)?);
        } else {
            let (kind, who) = key.strip_suffix('}')?.split_once(":{")?;
            found.places.push(Who::parse(format!("{kind}:{who}").as_bytes())?);
        }
        Some(())
    }
}

/// Whether a key has something else in it than we keep there, or may not be read. Any other error may be over soon.
fn is_foreign(why: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let code = why.downcast_ref::<RedisError>().and_then(RedisError::code);
    matches!(code, Some("WRONGTYPE" | "NOPERM"))
}

/// The client whose leave is announced later.
fn leaver(value: &[u8]) -> Option<ClientId> {
    let head = value.split(|byte| *byte == b'\n').next()?;
    ClientId::parse(std::str::from_utf8(head).ok()?.split_once(' ')?.1)
}

/// A text as a pattern that it alone matches.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if r"*?[]^\".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
