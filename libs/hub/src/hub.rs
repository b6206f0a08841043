//! Channel to members.

use std::{collections::HashMap, hash::Hash};

use indexmap::IndexSet;
use tidings_core::Channel;

/// The members of every channel that somebody in this core wants.
///
/// `M` is how the owner names its connections, small and `Copy`. Joining and leaving take constant time;
/// members lie side by side, so a broadcast walks memory in order. A channel exists while it has members.
#[derive(Debug)]
pub struct Hub<M> {
    // Names are chosen by clients: the default, seeded hasher stays.
    channels: HashMap<Channel, IndexSet<M>>,
}

impl<M: Copy + Eq + Hash> Hub<M> {
    /// A hub where nobody wants anything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            channels: HashMap::new(),
        }
    }

    /// Adds a member; a member joins a channel once. True when it is the channel's first.
    pub fn join(&mut self, channel: &Channel, member: M) -> bool {
        if let Some(members) = self.channels.get_mut(channel) {
            members.insert(member);
            return false;
        }
        self.channels
            .insert(channel.clone(), IndexSet::from_iter([member]));
        true
    }

    /// Removes a member. True when it was the channel's last.
    pub fn leave(&mut self, channel: &Channel, member: M) -> bool {
        let Some(members) = self.channels.get_mut(channel) else {
            return false;
        };
        members.swap_remove(&member);
        let last = members.is_empty();
        if last {
            self.channels.remove(channel);
        }
        last
    }

    /// Everyone who hears the channel, in no particular order.
    pub fn members(&self, channel: &Channel) -> impl ExactSizeIterator<Item = M> + '_ {
        self.channels
            .get(channel)
            .map(IndexSet::as_slice)
            .unwrap_or_default()
            .iter()
            .copied()
    }

    /// Whether anybody hears the channel.
    #[must_use]
    pub fn has(&self, channel: &Channel) -> bool {
        self.channels.contains_key(channel)
    }

    /// How many channels have members.
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn interest_begins_with_the_first_member_and_ends_with_the_last() {
        let (mut hub, news) = (Hub::new(), channel("news"));
        assert!(hub.join(&news, 1));
        assert!(!hub.join(&news, 2));
        assert!(!hub.leave(&news, 1));
        assert!(hub.leave(&news, 2));
        assert!(!hub.has(&news));
    }

    #[test]
    fn joining_twice_counts_once_and_leaving_without_joining_counts_nothing() {
        let (mut hub, news) = (Hub::new(), channel("news"));
        assert!(!hub.leave(&news, 1));
        hub.join(&news, 1);
        assert!(!hub.join(&news, 1));
        assert!(!hub.leave(&news, 2));
        assert!(hub.leave(&news, 1));
    }

    proptest! {
        /// The same joins and leaves on a set of pairs give the same members and the same firsts and lasts.
        #[test]
        fn a_hub_behaves_as_a_set_of_pairs(steps in prop::collection::vec((any::<bool>(), 0..4_u8, 0..6_u32), 0..200)) {
            let mut hub = Hub::new();
            let mut model = BTreeSet::new();
            let count = |model: &BTreeSet<(u8, u32)>, c| model.iter().filter(|(channel, _)| *channel == c).count();
            for (join, c, member) in steps {
                let name = channel(&format!("c{c}"));
                let before = count(&model, c);
                if join {
                    model.insert((c, member));
                    prop_assert_eq!(hub.join(&name, member), before == 0);
                } else {
                    model.remove(&(c, member));
                    prop_assert_eq!(hub.leave(&name, member), before > 0 && count(&model, c) == 0);
                }
                let members: BTreeSet<_> = hub.members(&name).collect();
                let expected: BTreeSet<_> = model.iter().filter(|(channel, _)| *channel == c).map(|(_, m)| *m).collect();
                prop_assert_eq!(members, expected);
            }
        }
    }
}
