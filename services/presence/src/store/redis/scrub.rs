//! What no lease finds any more, after Redis may have lost what was written last.
//!
//! A sweep finds members by way of their lease's set and their users' places, which in a Redis Cluster live on other primaries
//! than the members. When one primary goes back in time, it has members again whose lease is long swept, or whose user has no
//! place there; readers do not see them, because their lease does not live, but they would stay for ever. So, once all
//! gateways have attached again and no lease from before is left, every key of presence is looked at: whatever is under a
//! lease from before is put under one that has ended, and goes the way of all that.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Cmd, FromRedisValue, ParsingError, RedisError};
use tidings_core::{Channel, ClientId};

use super::{
    super::{Epoch, Error, Scrub},
    Redis, TIMEOUT, Who, entry, unavailable,
    write::name_at,
};
use crate::member::{GatewayId, Lease};

/// Among how many keys of Redis one step looks.
const STEP: usize = 500;

/// About how many members one step looks at, and in how many channels at most.
const MEMBERS: usize = 1_000;
const CHANNELS: usize = 50;

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
        if !scrub.channels.is_empty() {
            self.scrub_members(scrub).await?;
            return Ok(true);
        }
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
        scrub.channels = self.scrub_keys(&scrub.pending, scrub.store).await?;
        scrub.pending.clear();
        Ok(true)
    }

    /// The channels among these keys that have members under leases from before, each with where to begin.
    async fn scrub_keys(&self, keys: &[Vec<u8>], store: Epoch) -> Result<Vec<(Channel, u64)>, Error> {
        let mut found = Found::default();
        for key in keys {
            self.sort(key, &mut found);
        }
        let outdated = |serial: &u64| *serial < store.0;
        let mut orphans = Orphans::new();
        self.places_under_none(&found.places, outdated, &mut orphans)
            .await?;
        self.look_again(&found.leaving).await?;
        for lease in found.users.iter().filter(|lease| outdated(&lease.serial)) {
            self.end(lease).await?;
        }
        self.end_orphans(orphans).await?;
        let leases = found.leases.iter().map(|channel| {
            let mut leases = redis::cmd("HKEYS");
            leases.arg(self.keys.beside(channel, "leases"));
            leases
        });
        let serials = self.fields::<Vec<u64>>(leases).await?;
        let channels = found.leases.into_iter().zip(serials);
        let channels = channels.filter(|(_, serials)| serials.iter().flatten().any(outdated));
        Ok(channels.map(|(channel, _)| (channel, 0)).collect())
    }

    /// Looks at some members of some channels, so that one step takes no longer in a large channel than in many small ones.
    async fn scrub_members(&self, scrub: &mut Scrub) -> Result<(), Error> {
        let some = scrub.channels.len().min(CHANNELS);
        let some = &mut scrub.channels[..some];
        let count = MEMBERS / some.len();
        let scans = some.iter().map(|(channel, cursor)| {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(self.keys.presence(channel)).arg(cursor);
            scan.arg("COUNT").arg(count);
            scan
        });
        let answers = self.fields::<(u64, Fields)>(scans).await?;
        let mut orphans = Orphans::new();
        let mut next = Vec::with_capacity(answers.len());
        for ((channel, _), answer) in some.iter().zip(answers) {
            let (cursor, members) = answer.unwrap_or_default();
            next.push(cursor);
            for (client, value) in members {
                if let Some((member, serial)) = entry::decode(channel, &client, &value)
                    && serial < scrub.store.0
                {
                    orphans.entry(serial).or_default().insert(name_at(&member.id()));
                }
            }
        }
        self.end_orphans(orphans).await?;
        for ((_, cursor), next) in some.iter_mut().zip(&next) {
            *cursor = *next;
        }
        // Only a walk that has not begun, or has ended, is at 0.
        let mut walked = next.into_iter();
        scrub.channels.retain(|_| walked.next() != Some(0));
        Ok(())
    }

    /// Puts who is under leases that nobody knows under ones that have ended, to be swept.
    async fn end_orphans(&self, orphans: Orphans) -> Result<(), Error> {
        for (serial, names) in orphans {
            let gateway = GatewayId::parse(UNKNOWN).expect("letters");
            let lease = Lease { gateway, serial };
            // Named first: a replica that is stopped in between leaves a set, which the next scrub finds.
            self.name(&lease, names.into_iter()).await?;
            self.end(&lease).await?;
        }
        Ok(())
    }

    /// The answer to each of several reads; `None` where the key is not ours, or may not be read.
    async fn fields<T: FromRedisValue>(
        &self,
        reads: impl Iterator<Item = Cmd>,
    ) -> Result<Vec<Option<T>>, Error> {
        let answers = self.each(None, &reads.collect::<Vec<_>>()).await;
        let read = answers.into_iter().map(|answer| match answer {
            Ok(fields) => Ok(Some(fields)),
            Err(Error::Unavailable(why)) if is_foreign(&*why) => Ok(None),
            Err(error) => Err(error),
        });
        read.collect()
    }

    async fn places_under_none(
        &self,
        all: &[Who],
        outdated: impl Fn(&u64) -> bool,
        orphans: &mut Orphans,
    ) -> Result<(), Error> {
        let reads = all.iter().map(|who| {
            let mut read = redis::cmd("HGETALL");
            read.arg(self.keys.places(who));
            read
        });
        let places = self.fields::<Fields>(reads).await?;
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
        let reads = channels.iter().map(|channel| {
            let mut read = redis::cmd("HVALS");
            read.arg(self.keys.beside(channel, "leaving"));
            read
        });
        let leaving = self.fields::<Vec<Vec<u8>>>(reads).await?;
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

/// Whether a key has something else in it than we keep there, or may not be read. A command that may not be used at all is no
/// property of the key: all that it would have found would be skipped.
fn is_foreign(why: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let Some(why) = why.downcast_ref::<RedisError>() else {
        return why.is::<ParsingError>();
    };
    match why.code() {
        Some("WRONGTYPE") => true,
        Some("NOPERM") => !why.detail().is_some_and(|detail| detail.contains("command")),
        _ => false,
    }
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
