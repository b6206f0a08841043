//! Maps that give back the memory of what they held: names that clients choose come in crowds and go, and a map keeps
//! room for as many as it ever had.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash},
};

/// Room that is never given back, so that small maps do not grow and shrink all the time.
const ROOM: usize = 64;

/// A collection that gives back room which is not used. To be called after each removal: it looks only where the number of
/// entries is a power of two, and keeps room for twice as many, so that it moves entries only after many were removed.
/// (The capacity of a map says nothing: it does not count the places of removed entries.)
pub(crate) trait Shrink {
    /// Gives back what is not used.
    fn shrink(&mut self);
}

/// For how many entries there has to be room; `None`: it is not the moment to look.
fn room(len: usize) -> Option<usize> {
    (len == 0 || (len >= ROOM / 2 && len.is_power_of_two())).then_some((len * 2).max(ROOM))
}

impl<K: Eq + Hash, V, S: BuildHasher> Shrink for HashMap<K, V, S> {
    fn shrink(&mut self) {
        if let Some(room) = room(self.len()) {
            self.shrink_to(room);
        }
    }
}

impl<T> Shrink for VecDeque<T> {
    fn shrink(&mut self) {
        if let Some(room) = room(self.len()) {
            self.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_what_was_removed_is_given_back_by_maps_and_queues() {
        let mut map: HashMap<u32, [u64; 8]> = HashMap::new();
        let mut queue = VecDeque::new();
        for number in 0..50_000 {
            map.insert(number, [0; 8]);
            queue.push_back(number);
        }
        for number in 0..49_900 {
            map.remove(&number);
            map.shrink();
            queue.pop_front();
            queue.shrink();
        }
        // The capacity of a map does not count the places of removed entries: what is left after a rehash does.
        let before = map.capacity();
        map.shrink_to_fit();
        assert!(before <= 1024 && map.capacity() <= before, "{before}");
        assert!(queue.capacity() <= 1024, "{}", queue.capacity());
        map.clear();
        map.shrink();
        assert!(map.capacity() <= 4 * ROOM);
    }
}
