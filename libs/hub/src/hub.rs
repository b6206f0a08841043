//! Channel to members.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use indexmap::IndexSet;
use tidings_core::Channel;

/// What every channel of this core is wanted by, and who hears it.
///
/// Wanting comes before hearing: a connection [`claim`](Self::claim)s a channel when it asks for it,
/// [`join`](Self::join)s when it is told that it has it, and [`release`](Self::release)s it once, whether it ever
/// joined or not. A channel exists here from its first claim to its last release.
///
/// `M` is how the owner names its connections, small and `Copy`. Every call takes constant time; members lie side by
/// side, so a broadcast walks memory in order.
#[derive(Debug)]
pub struct Hub<M> {
    // Names are chosen by clients: the default, seeded hasher stays.
    channels: HashMap<Channel, Wanted<M>>,
}

#[derive(Debug)]
struct Wanted<M> {
    claims: usize,
    members: IndexSet<M>,
}

/// What a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The member heard the channel.
    pub heard: bool,
    /// Nobody here wants the channel any more.
    pub last: bool,
}

impl<M: Copy + Eq + Hash> Hub<M> {
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
                members: IndexSet::new(),
            },
        );
        true
    }

    /// From here on the member hears the channel, which it has claimed.
    pub fn join(&mut self, channel: &Channel, member: M) {
        debug_assert!(self.channels.contains_key(channel), "joined without a claim");
        if let Some(wanted) = self.channels.get_mut(channel) {
            wanted.members.insert(member);
        }
    }

    /// Undoes one claim and, if the member joined, that.
    pub fn release(&mut self, channel: &Channel, member: M) -> Released {
        let Entry::Occupied(mut entry) = self.channels.entry(channel.clone()) else {
            debug_assert!(false, "released without a claim");
            return Released {
                heard: false,
                last: false,
            };
        };
        let wanted = entry.get_mut();
        wanted.claims -= 1;
        let heard = wanted.members.swap_remove(&member);
        let last = wanted.claims == 0;
        if last {
            entry.remove();
        }
        Released { heard, last }
    }

    /// Everyone who hears the channel, in no particular order.
    pub fn members(&self, channel: &Channel) -> impl ExactSizeIterator<Item = M> + '_ {
        let members = self.channels.get(channel).map(|wanted| wanted.members.as_slice());
        members.unwrap_or_default().iter().copied()
    }

    /// How many channels are wanted.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }
}

impl<M: Copy + Eq + Hash> Default for Hub<M> {
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
        hub.join(&news, 1);
        assert_eq!(
            hub.release(&news, 2),
            Released {
                heard: false,
                last: false
            }
        );
        assert_eq!(
            hub.release(&news, 1),
            Released {
                heard: true,
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
        hub.join(&news, 1);
        assert_eq!(hub.members(&news).collect::<Vec<_>>(), [1]);
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
                        hub.join(&name, member);
                        joined.insert((c, member));
                    }
                    Step::Release if claims.remove(&member) => {
                        let expected = Released { heard: joined.remove(&(c, member)), last: claims.is_empty() };
                        prop_assert_eq!(hub.release(&name, member), expected);
                    }
                    _ => {}
                }
                let members: BTreeSet<_> = hub.members(&name).collect();
                let expected: BTreeSet<_> = joined.iter().filter(|(it, _)| *it == c).map(|(_, m)| *m).collect();
                prop_assert_eq!(members, expected);
            }
        }
    }
}
