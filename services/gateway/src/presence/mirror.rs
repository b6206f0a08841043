//! This gateway's members, as they are, and what of it presence has not been told yet.
//!
//! What is not told yet is a set of ids, not a queue of changes: how a member is now is looked up when it is
//! told. So a client that joins and leaves a thousand times costs one entry, and the order within a member
//! needs no care. Before a snapshot, everything is untold anyway and nothing is noted.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_session::Seen;
use tokio::sync::Notify;

/// How many untold leaves are kept; the untold joins are members, which are bounded already. Beyond it, a
/// snapshot is cheaper than the changes.
const UNTOLD_MAX: usize = 10_000;

/// What presence takes of a user id, and of each info, in bytes.
const USER_MAX: usize = 1024;
const INFO_MAX: usize = 64 * 1024;

/// What identifies a member.
pub(super) type Id = (Channel, ClientId);

/// A member of this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) channel: Channel,
    pub(super) seen: Seen,
    /// Unix milliseconds.
    pub(super) joined_at_ms: i64,
    /// A store that has lost everything had it.
    pub(super) known: bool,
}

/// What happened to a member, last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Joined(Member),
    Left(Id),
}

/// What an id, and the fields' tags and lengths, take in an update, in bytes and about.
const FRAME: usize = 64;

impl Member {
    /// How much of an update it takes, in bytes and about.
    pub(super) fn size(&self) -> usize {
        let ClientInfo {
            user,
            client: _,
            conn_info,
            chan_info,
        } = &self.seen.info;
        FRAME + self.channel.as_str().len() + user.len() + conn_info.len() + chan_info.len()
    }
}

impl Change {
    /// Likewise.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Joined(member) => member.size(),
            Self::Left((channel, _)) => FRAME + channel.as_str().len(),
        }
    }
}

/// The mirror behind its lock, which nobody holds across an await, and the bell of the task that tells.
#[derive(Debug, Default)]
pub(super) struct Shared {
    mirror: Mutex<Mirror>,
    changed: Notify,
}

impl Shared {
    pub(super) fn joined(&self, channel: &Channel, seen: &Seen) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = now.as_millis().try_into().unwrap_or(i64::MAX);
        self.mirror.lock().joined(channel, seen, now_ms);
        self.changed.notify_one();
    }

    pub(super) fn left(&self, channel: &Channel, client: ClientId) {
        self.mirror.lock().left(channel, client);
        self.changed.notify_one();
    }

    /// How many members there are, now and later.
    pub(super) fn count(&self) -> Gauge {
        self.mirror.lock().count.clone()
    }

    /// Completes when something changed since it last completed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Does something with the mirror. Must be short: cores wait for it.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Mirror) -> T) -> T {
        f(&mut self.mirror.lock())
    }
}

#[derive(Debug, Default)]
pub(super) struct Mirror {
    members: BTreeMap<Id, Kept>,
    untold: Untold,
    /// The store that presence has; 0: not known yet.
    store: u64,
    /// How many members there are, for the metrics.
    count: Gauge,
}

#[derive(Debug)]
struct Kept {
    seen: Seen,
    joined_at_ms: i64,
    /// The store that has it, or had it; 0: none.
    told: u64,
}

#[derive(Debug, Default)]
enum Untold {
    /// The next snapshot tells.
    #[default]
    Everyone,
    /// Only how these are.
    These(BTreeSet<Id>),
}

impl Mirror {
    fn joined(&mut self, channel: &Channel, seen: &Seen, now_ms: i64) {
        let Seen { info, announced } = seen;
        // One member that presence refuses would keep it from hearing of all the others.
        if info.user.len() > USER_MAX {
            tracing::warn!(client.id = %info.client, channel.name = %channel, "user id too long: kept out of presence");
            return;
        }
        let at_most = |info: &Bytes| {
            if info.len() > INFO_MAX {
                Bytes::new()
            } else {
                info.clone()
            }
        };
        let seen = Seen {
            info: ClientInfo {
                user: info.user.clone(),
                client: info.client,
                conn_info: at_most(&info.conn_info),
                chan_info: at_most(&info.chan_info),
            },
            announced: *announced,
        };
        let id = (channel.clone(), info.client);
        match self.members.get_mut(&id) {
            // Still the same stay.
            Some(kept) => kept.seen = seen,
            None => {
                self.count.inc();
                self.members.insert(
                    id.clone(),
                    Kept {
                        seen,
                        joined_at_ms: now_ms,
                        told: 0,
                    },
                );
            }
        }
        self.note(id);
    }

    fn left(&mut self, channel: &Channel, client: ClientId) {
        let id = (channel.clone(), client);
        if self.members.remove(&id).is_some() {
            self.count.dec();
            self.note(id);
        }
    }

    /// Presence has to be told about it, again perhaps.
    pub(super) fn note(&mut self, id: Id) {
        if let Untold::These(ids) = &mut self.untold {
            ids.insert(id);
            if ids.len() > self.members.len() + UNTOLD_MAX {
                self.untold = Untold::Everyone;
            }
        }
    }

    /// A snapshot begins for this store: from now on changes are noted, to be told after its last part. Whether it is another
    /// store than before.
    pub(super) fn begin_snapshot(&mut self, store: u64) -> bool {
        self.untold = Untold::These(BTreeSet::new());
        let before = std::mem::replace(&mut self.store, store);
        before != 0 && before != store
    }

    /// The store has a member, if it is still there.
    pub(super) fn told(&mut self, id: &Id) {
        if let Some(kept) = self.members.get_mut(id) {
            kept.told = self.store;
        }
    }

    /// The members after `after`, ordered by id, as many as `room` says yes to. Whoever joins or leaves between
    /// two parts may be in one or not, and is noted.
    pub(super) fn part(&self, after: Option<&Id>, mut room: impl FnMut(&Member) -> bool) -> Vec<Member> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let members = self.members.range::<Id, _>((from, Bound::Unbounded));
        members
            .map(|(id, kept)| kept.member(id, self.store))
            .take_while(|member| room(member))
            .collect()
    }

    /// The ids that presence has to be told about, and it is told from then on; `None`: everyone.
    pub(super) fn take_untold(&mut self) -> Option<BTreeSet<Id>> {
        match &mut self.untold {
            Untold::Everyone => None,
            Untold::These(ids) => Some(std::mem::take(ids)),
        }
    }

    /// How a member is now.
    pub(super) fn change(&self, id: &Id) -> Change {
        match self.members.get(id) {
            Some(kept) => Change::Joined(kept.member(id, self.store)),
            None => Change::Left(id.clone()),
        }
    }
}

impl Kept {
    fn member(&self, (channel, _): &Id, store: u64) -> Member {
        Member {
            channel: channel.clone(),
            seen: self.seen.clone(),
            joined_at_ms: self.joined_at_ms,
            known: self.told != 0 && self.told != store,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn someone() -> Seen {
        Seen {
            info: ClientInfo {
                user: "ada".into(),
                client: ClientId::random(),
                conn_info: Bytes::new(),
                chan_info: Bytes::new(),
            },
            announced: false,
        }
    }

    fn untold(mirror: &mut Mirror) -> Vec<Change> {
        let ids = mirror.take_untold().expect("a snapshot has begun");
        ids.iter().map(|id| mirror.change(id)).collect()
    }

    #[test]
    fn what_happened_before_a_snapshot_is_in_it_and_what_happens_after_is_told() {
        let (mut mirror, tasks, ada, bob) = (Mirror::default(), channel("tasks"), someone(), someone());
        mirror.joined(&tasks, &ada, 1);
        assert_eq!(mirror.take_untold(), None);
        mirror.begin_snapshot(1);
        let everyone = mirror.part(None, |_| true);
        assert_eq!(
            everyone,
            [Member {
                channel: tasks.clone(),
                seen: ada.clone(),
                joined_at_ms: 1,
                known: false
            }]
        );
        assert_eq!(untold(&mut mirror), []);

        mirror.joined(&tasks, &bob, 2);
        let joined = Change::Joined(Member {
            channel: tasks.clone(),
            seen: bob,
            joined_at_ms: 2,
            known: false,
        });
        assert_eq!(untold(&mut mirror), [joined]);
        mirror.left(&tasks, ada.info.client);
        assert_eq!(untold(&mut mirror), [Change::Left((tasks, ada.info.client))]);
        assert_eq!(untold(&mut mirror), []);
    }

    #[test]
    fn only_the_last_of_a_members_changes_is_told() {
        let (mut mirror, tasks, ada) = (Mirror::default(), channel("tasks"), someone());
        mirror.begin_snapshot(1);
        for at in 0..1000 {
            mirror.joined(&tasks, &ada, at);
            mirror.left(&tasks, ada.info.client);
        }
        mirror.joined(&tasks, &ada, 1000);
        let joined = Change::Joined(Member {
            channel: tasks,
            seen: ada,
            joined_at_ms: 1000,
            known: false,
        });
        assert_eq!(untold(&mut mirror), [joined]);
    }

    #[test]
    fn how_it_is_seen_now_is_told_and_the_stay_goes_on() {
        let (mut mirror, tasks, ada) = (Mirror::default(), channel("tasks"), someone());
        mirror.joined(&tasks, &ada, 1);
        mirror.begin_snapshot(1);
        let renamed = Seen {
            info: ClientInfo {
                conn_info: Bytes::from_static(b"{}"),
                ..ada.info
            },
            announced: true,
        };
        mirror.joined(&tasks, &renamed, 2);
        let joined = Change::Joined(Member {
            channel: tasks,
            seen: renamed,
            joined_at_ms: 1,
            known: false,
        });
        assert_eq!(untold(&mut mirror), [joined]);
    }

    #[test]
    fn a_member_that_a_store_before_had_is_known_to_the_next_until_that_has_it() {
        let (mut mirror, tasks, ada, bob) = (Mirror::default(), channel("tasks"), someone(), someone());
        mirror.joined(&tasks, &ada, 1);
        mirror.begin_snapshot(7);
        let known = |mirror: &Mirror| mirror.part(None, |member| member.known).len();
        assert_eq!(known(&mirror), 0);
        mirror.told(&(tasks.clone(), ada.info.client));
        mirror.begin_snapshot(7);
        assert_eq!(known(&mirror), 0, "it has it");
        assert!(mirror.begin_snapshot(8));
        assert_eq!(known(&mirror), 1);
        assert!(!mirror.begin_snapshot(8));
        assert_eq!(known(&mirror), 1, "nobody has said that it has it");
        mirror.told(&(tasks.clone(), ada.info.client));
        assert_eq!(known(&mirror), 0);
        mirror.left(&tasks, ada.info.client);
        mirror.told(&(tasks.clone(), ada.info.client));
        mirror.joined(&tasks, &bob, 2);
        assert_eq!(known(&mirror), 0, "nobody knows of who came since");
    }

    #[test]
    fn a_stranger_who_leaves_is_no_change() {
        let mut mirror = Mirror::default();
        mirror.begin_snapshot(1);
        mirror.left(&channel("tasks"), ClientId::random());
        assert_eq!(untold(&mut mirror), []);
    }

    #[test]
    fn what_presence_would_refuse_is_not_told() {
        let (mut mirror, tasks) = (Mirror::default(), channel("tasks"));
        mirror.begin_snapshot(1);
        let mut loud = someone();
        loud.info.user = "x".repeat(USER_MAX + 1).into();
        mirror.joined(&tasks, &loud, 1);
        assert_eq!(untold(&mut mirror), []);
        let mut talkative = someone();
        talkative.info.conn_info = vec![b' '; INFO_MAX + 1].into();
        mirror.joined(&tasks, &talkative, 1);
        talkative.info.conn_info = Bytes::new();
        assert_eq!(
            untold(&mut mirror),
            [Change::Joined(Member {
                channel: tasks,
                seen: talkative,
                joined_at_ms: 1,
                known: false
            })]
        );
    }

    #[test]
    fn parts_put_together_are_everyone_once() {
        let mut mirror = Mirror::default();
        for n in 0..25 {
            mirror.joined(&channel(&format!("tasks:{}", n % 3)), &someone(), n);
        }
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let mut room = 10;
            let part = mirror.part(after.as_ref(), |_| {
                room -= 1;
                room >= 0
            });
            let Some(last) = part.last() else { break };
            assert!(part.len() <= 10);
            after = Some((last.channel.clone(), last.seen.info.client));
            all.extend(part);
        }
        assert_eq!(all, mirror.part(None, |_| true));
        assert_eq!(all.len(), 25);
    }

    #[test]
    fn more_untold_leaves_than_are_kept_become_a_snapshot() {
        let (mut mirror, tasks) = (Mirror::default(), channel("tasks"));
        mirror.begin_snapshot(1);
        for _ in 0..=UNTOLD_MAX {
            let passer_by = someone();
            mirror.joined(&tasks, &passer_by, 1);
            mirror.left(&tasks, passer_by.info.client);
        }
        assert_eq!(mirror.take_untold(), None);
    }
}
