//! Channel to members.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use indexmap::IndexMap;
use tidings_core::Channel;

/// Channels for which there is always room.
const ROOM: usize = 64;

/// What every channel of this core is wanted by, and who hears what of it.
///
/// Wanting comes before hearing: a connection [`claim`](Self::claim)s a channel when it asks for it,
/// [`join`](Self::join)s when it is told that it has it, and [`release`](Self::release)s it once, whether it ever
/// joined or not. A channel exists here from its first claim to its last release.
///
/// `K` is how the owner names its connections, small and `Copy`; `V` what it keeps for each of them in each channel. Every
/// call takes constant time; members lie side by side, so a broadcast walks memory in order.
#[derive(Debug)]
pub struct Hub<K, V> {
    // Names are chosen by clients: the default, seeded hasher stays.
    channels: HashMap<Channel, Wanted<K, V>>,
}

#[derive(Debug)]
struct Wanted<K, V> {
    claims: usize,
    members: IndexMap<K, V>,
}

/// What a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released<V> {
    /// What was kept for the member, if it had joined.
    pub member: Option<V>,
    /// Nobody here wants the channel any more.
    pub last: bool,
}

impl<K: Copy + Eq + Hash, V> Hub<K, V> {
    /// A hub where nobody wants anything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            channels: HashMap::new(),
        }
    }

    /// Someone wants the channel. True when nobody here did.
    pub fn claim(&mut self, channel: &Channel) -> bool {
        if let Some(wanted) = self.channels.get_mut(channel) {
            wanted.claims += 1;
            return false;
        }
        self.channels.insert(
            channel.clone(),
            Wanted {
                claims: 1,
                members: IndexMap::new(),
            },
        );
        true
    }

    /// From here on `key`, which has claimed the channel, is a member of it, as `value` says. What was kept for it before.
    pub fn join(&mut self, channel: &Channel, key: K, value: V) -> Option<V> {
        debug_assert!(self.channels.contains_key(channel), "joined without a claim");
        self.channels.get_mut(channel)?.members.insert(key, value)
    }

    /// Undoes one claim and, if the member joined, that.
    pub fn release(&mut self, channel: &Channel, key: K) -> Released<V> {
        let Entry::Occupied(mut entry) = self.channels.entry(channel.clone()) else {
            debug_assert!(false, "released without a claim");
            return Released {
                member: None,
                last: false,
            };
        };
        let wanted = entry.get_mut();
        wanted.claims -= 1;
        let member = wanted.members.swap_remove(&key);
        let last = wanted.claims == 0;
        if last {
            entry.remove();
            self.shrink();
        }
        Released { member, last }
    }

    /// Gives back room that channels took which nobody wants any more. Names are chosen by clients, and a map keeps room for
    /// as many as it ever had. Looks only where the number of channels is a power of two, so that it moves entries only
    /// after many were removed.
    fn shrink(&mut self) {
        let left = self.channels.len();
        if left == 0 || (left >= ROOM / 2 && left.is_power_of_two()) {
            self.channels.shrink_to((left * 2).max(ROOM));
        }
    }

    /// What is kept for one member of the channel.
    pub fn member(&mut self, channel: &Channel, key: K) -> Option<&mut V> {
        self.channels.get_mut(channel)?.members.get_mut(&key)
    }

    /// All members of the channel, in no particular order.
    pub fn members(&mut self, channel: &Channel) -> impl ExactSizeIterator<Item = (K, &mut V)> {
        let members = self
            .channels
            .get_mut(channel)
            .map(|wanted| wanted.members.as_mut_slice());
        members
            .unwrap_or_default()
            .iter_mut()
            .map(|(key, value)| (*key, value))
    }

    /// How many members the channel has.
    #[must_use]
    pub fn count(&self, channel: &Channel) -> usize {
        self.channels
            .get(channel)
            .map_or(0, |wanted| wanted.members.len())
    }

    /// How many channels are wanted.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }
}

impl<K: Copy + Eq + Hash, V> Default for Hub<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn a_channel_is_wanted_from_the_first_claim_to_the_last_release() {
        let (mut hub, news) = (Hub::new(), channel("news"));
        assert!(hub.claim(&news));
        assert!(!hub.claim(&news));
        hub.join(&news, 1, ());
        assert_eq!(
            hub.release(&news, 2),
            Released {
                member: None,
                last: false
            }
        );
        assert_eq!(
            hub.release(&news, 1),
            Released {
                member: Some(()),
                last: true
            }
        );
        assert_eq!(hub.channels(), 0);
    }

    #[test]
    fn nobody_hears_a_channel_before_joining() {
        let (mut hub, news) = (Hub::new(), channel("news"));
        hub.claim(&news);
        assert_eq!(hub.members(&news).len(), 0);
        hub.join(&news, 1, ());
        assert_eq!(hub.members(&news).collect::<Vec<_>>(), [(1, &mut ())]);
    }

    #[test]
    fn memory_of_channels_that_nobody_wants_any_more_is_given_back() {
        let mut hub: Hub<u32, ()> = Hub::new();
        let names: Vec<_> = (0..50_000)
            .map(|number| channel(&format!("n:{number}")))
            .collect();
        for name in &names {
            assert!(hub.claim(name));
        }
        for name in &names {
            hub.release(name, 1);
        }
        assert!(hub.channels.capacity() <= 4 * ROOM, "{}", hub.channels.capacity());
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Claim,
        Join,
        Release,
    }

    proptest! {
        /// A naive model, where each member claims a channel at most once, has the same members and the same firsts and
        /// lasts.
        #[test]
        fn a_hub_behaves_as_two_sets_of_pairs(
            steps in prop::collection::vec(
                (prop_oneof![Just(Step::Claim), Just(Step::Join), Just(Step::Release)], 0..4_u8, 0..6_u32), 0..200
            )
        ) {
            let mut hub = Hub::new();
            let mut claimed: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
            let mut joined: BTreeSet<(u8, u32)> = BTreeSet::new();
            for (step, c, member) in steps {
                let name = channel(&format!("c{c}"));
                let claims = claimed.entry(c).or_default();
                match step {
                    Step::Claim if !claims.contains(&member) => {
                        prop_assert_eq!(hub.claim(&name), claims.is_empty());
                        claims.insert(member);
                    }
                    Step::Join if claims.contains(&member) => {
                        hub.join(&name, member, c);
                        joined.insert((c, member));
                    }
                    Step::Release if claims.remove(&member) => {
                        let expected = Released { member: joined.remove(&(c, member)).then_some(c), last: claims.is_empty() };
                        prop_assert_eq!(hub.release(&name, member), expected);
                    }
                    _ => {}
                }
                let members: BTreeSet<_> = hub.members(&name).map(|(key, _)| key).collect();
                let expected: BTreeSet<_> = joined.iter().filter(|(it, _)| *it == c).map(|(_, m)| *m).collect();
                prop_assert_eq!(members, expected);
            }
        }
    }
}
