//! What this process was told is kept: evidence, should Redis forget it.
//!
//! Redis replicates after it has answered, and writes to disk after that. So a failover or a restart may lose what was
//! acknowledged, and the Redis of afterwards cannot know. Those know who were told: every publish says what was the last
//! offset given in its channel, and after a failover each is asked for (`audit`). A stream that is not that far has lost
//! something and gets a new epoch, which is how its subscribers are told. Without evidence it goes on as it is.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
};

use parking_lot::Mutex;
use tidings_core::{Channel, Position};

/// The most channels that are remembered; about half of them at the least. Of a channel that was published to longer ago
/// than in all of these, nobody can say any more that it has lost something.
const CHANNELS: usize = 100_000;

/// The last position that was acknowledged, by channel.
#[derive(Default)]
pub(super) struct Acknowledged(Mutex<Halves>);

/// Those that were used lately, and those that were before them: when the first are half of all, the others are
/// forgotten.
#[derive(Default)]
struct Halves {
    young: HashMap<Channel, Position>,
    old: HashMap<Channel, Position>,
}

impl Acknowledged {
    /// A publication to `channel` was acknowledged. Answers to concurrent publishes may come in any order.
    pub(super) fn remember(&self, channel: &Channel, position: &Position) {
        let mut halves = self.0.lock();
        if halves.young.len() >= CHANNELS / 2 && !halves.young.contains_key(channel) {
            halves.old = mem::take(&mut halves.young);
        }
        match halves.young.entry(channel.clone()) {
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                if known.epoch != position.epoch || known.offset < position.offset {
                    known.clone_from(position);
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(position.clone());
            }
        }
    }

    /// The last position in `channel` that is remembered.
    pub(super) fn of(&self, channel: &Channel) -> Option<Position> {
        let halves = self.0.lock();
        let known = halves.young.get(channel).or_else(|| halves.old.get(channel));
        known.cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(Channel, Position)> {
        let halves = self.0.lock();
        let old = halves
            .old
            .iter()
            .filter(|(channel, _)| !halves.young.contains_key(*channel));
        let all = halves.young.iter().chain(old);
        all.map(|(channel, position)| (channel.clone(), position.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, epoch: &str) -> Position {
        Position {
            offset,
            epoch: epoch.to_owned(),
        }
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn the_last_position_counts_in_whatever_order_the_answers_come() {
        let acknowledged = Acknowledged::default();
        let news = channel("news");
        for (position, expected) in [
            (at(2, "e"), at(2, "e")),
            (at(1, "e"), at(2, "e")),
            (at(1, "f"), at(1, "f")),
        ] {
            acknowledged.remember(&news, &position);
            assert_eq!(acknowledged.of(&news), Some(expected));
        }
        assert_eq!(acknowledged.of(&channel("other")), None);
    }

    #[test]
    fn channels_that_were_not_used_for_long_are_forgotten() {
        let acknowledged = Acknowledged::default();
        let used = channel("used");
        for number in 0..2 * CHANNELS {
            acknowledged.remember(&channel(&format!("c:{number}")), &at(1, "e"));
            acknowledged.remember(&used, &at(number as u64 + 1, "e"));
        }
        assert_eq!(acknowledged.of(&used), Some(at(2 * CHANNELS as u64, "e")));
        assert_eq!(acknowledged.of(&channel("c:0")), None);
        let all = acknowledged.all();
        assert!(all.len() <= CHANNELS);
        assert_eq!(all.iter().filter(|(channel, _)| *channel == used).count(), 1);
    }
}
