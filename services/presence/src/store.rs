//! Who is there, kept: one contract, in memory for a process of its own, in Redis for everyone else.
//!
//! A member is written under the lease of the attachment that reported it and is visible while that lease
//! lives. The rules that both stores keep, and that `contract.rs` and `announcements.rs` check:
//!
//! - A change under an older lease of a gateway never undoes what a newer one wrote.
//! - A member is removed only while it is still under the lease it is removed for; whoever removes it is told
//!   so, and nobody else. So leaves are reported once, whatever runs at the same time.
//! - A lease that has ended stays ended. Its gateway has to attach again and report everyone.
//! - A lease ends once its time has passed while the store answered. An outage of more than a third of a lease is counted out:
//!   the lease, if it was live before, lasts its full length from the store's first answer.
//! - A store that has become another one, because it may have lost what was written last, keeps what it has until the gateways
//!   have attached again and reported everyone. Nobody is announced for that.
//! - The bus hears of each member that is announced as it comes and as it goes, exactly when that changes what is kept:
//!   once each, in turns, whoever wrote or removed it and wherever that one was stopped. Writing again what is there, in a
//!   snapshot or with a new info, announces nothing. Of a user with several clients it hears once, where [`Per::User`] says so,
//!   and of a leave only after [`Options::leave_delay`], unless who left is back by then.
//! - In a crowd, a channel with more than [`Options::crowd`] members, who comes is not announced, and who came so and leaves it
//!   so is not either: that would be a message to each about each. Whoever was announced is announced as it leaves,
//!   wherever; and nobody is announced as coming twice without leaving in between. After a store has lost who was, a known member
//!   counts as announced where gateways compare whom subscribers know of, in channels with up to [`ANNOUNCED_MAX`] members.
//! - What is counted is what is there: counts change in the same step as members do.
//! - The log has each join and each leave once, in the order in which each channel changed.

mod answer;
mod log;
mod memory;
mod options;
mod redis;

#[cfg(test)]
mod announcements;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crowd;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod hidden;
#[cfg(test)]
mod leaving;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod rollback;
#[cfg(test)]
mod scrubbed;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidings_broker::Broker;
use tidings_core::{Channel, ClientId};

use crate::member::{Change, GatewayId, Lease, Member, MemberId};

use answer::Renewed;
pub use answer::{
    Announced, Applied, Ended, EndedAgain, Epoch, Page, Scan, Scrub, Stats, Swept, Whereabouts,
};
pub use log::{Event, Position};
pub use options::{Options, Per};

/// How many members one call of [`Store::sweep`] removes at most.
pub const SWEEP_PAGE: usize = 1_000;

/// Of a channel with more members than this, [`Store::announced`] names none.
pub const ANNOUNCED_MAX: usize = 1_000;

/// Where the truth is. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Memory(memory::Memory),
    Redis(redis::Redis),
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gateway did not renew in time, or has attached again since. Attaching again is the way on.
    #[error("lease {lease} has ended")]
    Ended {
        /// The lease.
        lease: Lease,
    },
    /// Some of what was written under the lease may be missing, because a part of Redis was unavailable, was restarted, or
    /// another took over. What is there stays until the gateway has reported everyone again. Attaching again is the way on.
    #[error(
        "a part of Redis was unavailable, restarted or replaced, and may lack what was written under lease {lease}"
    )]
    Outdated {
        /// The lease.
        lease: Lease,
    },
    /// Redis cannot be reached, is too slow, or answers with an error. Trying again later is the way on.
    #[error("presence cannot use its Redis")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Store {
    /// The store where `broker` is: in its Redis, its keys under the same prefix, or embedded, for one process and gone
    /// with it. Joins and leaves are announced on its bus.
    #[must_use]
    pub fn new(broker: &Broker) -> Self {
        Self::with(broker, Options::default())
    }

    /// Likewise. Every replica needs the same options.
    #[must_use]
    pub fn with(broker: &Broker, options: Options) -> Self {
        Self(match (broker.redis_pool(), broker.prefix()) {
            (Some(pool), Some(prefix)) => Backend::Redis(redis::Redis::new(pool, prefix, options)),
            _ => Backend::Memory(memory::Memory::new(broker.publisher(), options)),
        })
    }

    /// A new lease for a gateway that attaches, good for `length` from now, and the store that gave it. The gateway's older
    /// leases, if they are live, go on with it until [`supersede`](Self::supersede), so that nobody vanishes while it reports
    /// its members again.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn attach(&self, gateway: &GatewayId, length: Duration) -> Result<(Lease, Epoch), Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.attach(gateway, length)),
            Backend::Redis(redis) => redis.attach(gateway, length).await,
        }
    }

    /// Makes the lease, and with it the older ones of its gateway that live, good for `length` from now. Touches no member.
    ///
    /// # Errors
    /// [`Error::Ended`] when it has ended, [`Error::Outdated`], [`Error::Unavailable`].
    pub async fn renew(&self, lease: &Lease, length: Duration) -> Result<(), Error> {
        let renewed = match &self.0 {
            Backend::Memory(memory) => memory.renew(lease, length),
            Backend::Redis(redis) => redis.renew(lease, length).await?,
        };
        let lease = lease.clone();
        match renewed {
            Renewed::Lives => Ok(()),
            Renewed::Ended => Err(Error::Ended { lease }),
            Renewed::Outdated => Err(Error::Outdated { lease }),
        }
    }

    /// Writes changes under a lease, the later ones over the earlier: a member that joins and leaves in one
    /// batch was never there. A member that comes, or that goes, is announced if it is one to be.
    ///
    /// Does not ask whether the lease still lives: [`renew`](Self::renew) afterwards, and when that says
    /// [`Error::Ended`], apply the same members as left and [`end`](Self::end) it again, so that nothing written too
    /// late stays. Readers see nothing of it in between, but subscribers may be notified of a join. A caller that is dropped
    /// before that has to have the lease [ended again](Self::end_again): its members are in no answer, but are swept, and
    /// announced as leaving, only then. Where its process dies, too, they stay until the next [scrub](Self::scrub).
    ///
    /// # Errors
    /// [`Error::Unavailable`]; some of the changes may have been made then, and all may be given again. Where only a part of
    /// the store is unavailable, the members that it concerns are [`failed`](Applied::failed).
    pub async fn apply(&self, lease: &Lease, changes: Vec<Change>) -> Result<Applied, Error> {
        let changes = last_of_each(changes);
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.apply(lease, changes).await),
            Backend::Redis(redis) => redis.apply(lease, changes).await,
        }
    }

    /// Whether every part of the store answers.
    pub async fn is_whole(&self) -> bool {
        match &self.0 {
            Backend::Memory(_) => true,
            Backend::Redis(redis) => redis.is_whole().await,
        }
    }

    /// Ends the gateway's older leases: the members still under them are the ones that it did not report again.
    /// Readers stop seeing these at once; [`sweep`](Self::sweep) removes them.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn supersede(&self, lease: &Lease) -> Result<(), Error> {
        match &self.0 {
            Backend::Memory(memory) => {
                memory.supersede(lease);
                Ok(())
            }
            Backend::Redis(redis) => redis.supersede(lease).await,
        }
    }

    /// Ends a lease now: readers stop seeing its members, and [`ended`](Self::ended) names it until it is swept.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn end(&self, lease: &Lease) -> Result<(), Error> {
        match &self.0 {
            Backend::Memory(memory) => {
                memory.end(lease);
                Ok(())
            }
            Backend::Redis(redis) => redis.end(lease).await,
        }
    }

    /// Ends a lease again that is over, so that it is swept once more; and says what it was.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn end_again(&self, lease: &Lease) -> Result<EndedAgain, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.end_again(lease)),
            Backend::Redis(redis) => redis.end_again(lease).await,
        }
    }

    /// The leases that have ended and wait to be swept. Has to be called several times per length of the shortest lease: where
    /// nothing is asked of the store for a third of a lease, that counts as an outage.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn ended(&self) -> Result<Ended, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.ended()),
            Backend::Redis(redis) => redis.ended().await,
        }
    }

    /// Notes which generation each process of Redis is. After another one than before, which may have lost what was written last,
    /// all leases are outdated. Waits for each process as long as for any command: a caller that must not be delayed by one that
    /// hangs calls this apart from all else. Has to be called about once a second by one replica at least.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; call it again.
    pub async fn note_generations(&self) -> Result<(), Error> {
        match &self.0 {
            Backend::Memory(_) => Ok(()),
            Backend::Redis(redis) => redis.note_generations().await,
        }
    }

    /// Removes, and announces, up to [`SWEEP_PAGE`] members of a lease that has ended. Any number of replicas may sweep the same
    /// lease at the same time, and one that dies in the middle leaves the rest to the others.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; call it again.
    pub async fn sweep(&self, lease: &Lease) -> Result<Swept, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.sweep(lease).await),
            Backend::Redis(redis) => redis.sweep(lease).await,
        }
    }

    /// Looks for some of what no lease finds any more, in a store that may have lost how it would be found: members, and what is
    /// kept about users, under leases that are gone. It is put under leases that have ended, to be swept. Whether there may be
    /// more. Any number of replicas may do it at the same time.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; call it again.
    pub async fn scrub(&self, scrub: &mut Scrub) -> Result<bool, Error> {
        match &self.0 {
            Backend::Memory(_) => Ok(false),
            Backend::Redis(redis) => redis.scrub(scrub).await,
        }
    }

    /// Announces the leaves that are due, of those who are not back; some of them, and says whether there may be more. Any
    /// number of replicas may do it at the same time.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; call it again.
    pub async fn settle(&self) -> Result<bool, Error> {
        match &self.0 {
            Backend::Memory(memory) => {
                memory.settle().await;
                Ok(false)
            }
            Backend::Redis(redis) => redis.settle().await,
        }
    }

    /// Up to `limit` members of a channel, those with a client id after `after`. Costs as much as there are on the page,
    /// however many are in the channel. When there are more, the page is not empty.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn members(
        &self,
        channel: &Channel,
        after: Option<ClientId>,
        limit: usize,
    ) -> Result<Page, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.members(channel, after, limit)),
            Backend::Redis(redis) => redis.members(channel, after, limit).await,
        }
    }

    /// Whom the listeners of a channel have been told of, a leave that is announced later included.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn announced(&self, channel: &Channel) -> Result<Announced, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.announced(channel)),
            Backend::Redis(redis) => redis.announced(channel).await,
        }
    }

    /// How many members a channel has. Costs as much as there are gateways with members in it; only from the end of a
    /// lease until it is swept, as much as there are members.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn stats(&self, channel: &Channel) -> Result<Stats, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.stats(channel)),
            Backend::Redis(redis) => redis.stats(channel).await,
        }
    }

    /// Where these users are, in the order asked for, with up to `limit` places of all of them together and at least one
    /// of each that has one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn lookup(&self, users: &[Arc<str>], limit: usize) -> Result<Vec<Whereabouts>, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.lookup(users, limit)),
            Backend::Redis(redis) => redis.lookup(users, limit).await,
        }
    }

    /// Some more of everyone, in no order; `None` after the last. Whoever is there all the time is given at least once.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; may be called again.
    pub async fn scan(&self, scan: &mut Scan) -> Result<Option<Vec<(Member, GatewayId)>>, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.scan(scan)),
            Backend::Redis(redis) => redis.scan(scan).await,
        }
    }

    /// How often those who watch are told the counts of crowds.
    #[must_use]
    pub fn crowd_interval(&self) -> Duration {
        match &self.0 {
            Backend::Memory(memory) => memory.crowd_interval(),
            Backend::Redis(redis) => redis.crowd_interval(),
        }
    }

    /// Whether there is a log.
    #[must_use]
    pub fn has_log(&self) -> bool {
        match &self.0 {
            Backend::Memory(memory) => memory.has_log(),
            Backend::Redis(redis) => redis.has_log(),
        }
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn log_end(&self) -> Result<Position, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.log_end()),
            Backend::Redis(redis) => redis.log_end().await,
        }
    }

    /// Up to `limit` events after a position, each with its own; `None` when some of what came after it is lost, because the
    /// log is kept no longer or is another one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn log_after(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Option<Vec<(Position, Event)>>, Error> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.log_after(after, limit)),
            Backend::Redis(redis) => redis.log_after(after, limit).await,
        }
    }
}

/// What a batch comes to, by channel: each member as it is in the end, `None` when it has left.
type Changes = BTreeMap<Channel, BTreeMap<ClientId, Option<Coming>>>;

/// A member that comes.
#[derive(Debug)]
struct Coming {
    member: Member,
    /// The channel's listeners know that it is there.
    known: bool,
}

fn last_of_each(changes: Vec<Change>) -> Changes {
    let mut last = Changes::new();
    for change in changes {
        let MemberId { channel, client } = change.id();
        let coming = match change {
            Change::Joined(member) => Some(Coming { member, known: false }),
            Change::Known(member) => Some(Coming { member, known: true }),
            Change::Left(_) => None,
        };
        last.entry(channel).or_default().insert(client, coming);
    }
    last
}
