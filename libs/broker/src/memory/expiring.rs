//! A map whose entries have an end, like keys in Redis that expire.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap, hash_map},
    hash::Hash,
};

use tokio::time::Instant;

/// The most ends that one sweep looks at, so that no caller pays for what others left behind; more than one, so that
/// entries go faster than they come.
const SWEEP: usize = 16;

/// A map that forgets each entry at its end, and when it is full the one that ends first.
///
/// At its end an entry is gone for everyone who looks; its memory is freed by one of the next calls of
/// [`sweep`](Self::sweep).
pub(super) struct Expiring<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// When to look at which entry: one turn each, at its end or before. That an end was put off is seen when the turn
    /// comes, so that putting off is cheap.
    turns: BTreeSet<(Instant, K)>,
    capacity: usize,
}

struct Entry<V> {
    value: V,
    end: Instant,
    turn: Instant,
}

impl<K: Clone + Eq + Hash + Ord, V> Expiring<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            turns: BTreeSet::new(),
            capacity,
        }
    }

    pub(super) fn get<Q>(&self, key: &Q, now: Instant) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let entry = self.entries.get(key).filter(|entry| now < entry.end)?;
        Some(&entry.value)
    }

    /// The value of `key`, made by `make` where there is none, which does not end before `end` from now on.
    pub(super) fn keep(&mut self, key: &K, end: Instant, now: Instant, make: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(key) {
            while !self.take_turn() {}
        }
        match self.entries.entry(key.clone()) {
            hash_map::Entry::Occupied(entry) => {
                let entry = entry.into_mut();
                if entry.end <= now {
                    entry.value = make();
                }
                entry.end = entry.end.max(end);
                &mut entry.value
            }
            hash_map::Entry::Vacant(entry) => {
                self.turns.insert((end, key.clone()));
                let turn = end;
                let value = make();
                &mut entry.insert(Entry { value, end, turn }).value
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.turns.remove(&(entry.turn, key.clone()));
        }
    }

    /// How many entries take up memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Frees some of what has ended.
    pub(super) fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            if self.turns.first().is_none_or(|(turn, _)| now < *turn) {
                return;
            }
            self.take_turn();
        }
    }

    /// Sees to the entry whose turn is first; whether it was forgotten, or there is none.
    fn take_turn(&mut self) -> bool {
        let Some((turn, key)) = self.turns.pop_first() else {
            return true;
        };
        match self.entries.get_mut(&key) {
            Some(entry) if turn < entry.end => {
                entry.turn = entry.end;
                self.turns.insert((entry.end, key));
                false
            }
            _ => {
                self.entries.remove(&key);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A map with the clock that its entries' ends are told by.
    fn map(capacity: usize) -> (Expiring<u32, char>, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        (Expiring::new(capacity), at)
    }

    #[test]
    fn an_entry_is_gone_at_its_end_and_its_memory_soon_after() {
        let (mut map, at) = map(9);
        map.keep(&1, at(10), at(0), || 'a');
        map.sweep(at(9));
        assert_eq!(map.get(&1, at(9)), Some(&'a'));
        assert_eq!(map.get(&1, at(10)), None);
        assert_eq!(
            *map.keep(&1, at(20), at(10), || 'b'),
            'b',
            "made anew after its end"
        );
        map.sweep(at(20));
        assert!(map.entries.is_empty() && map.turns.is_empty());
    }

    #[test]
    fn an_end_is_put_off_and_never_brought_forward() {
        let (mut map, at) = map(9);
        map.keep(&1, at(10), at(0), || 'a');
        assert_eq!(*map.keep(&1, at(30), at(5), || 'b'), 'a');
        map.keep(&1, at(20), at(6), || 'b');
        map.sweep(at(29));
        assert_eq!(map.get(&1, at(29)), Some(&'a'));
        map.sweep(at(30));
        assert!(map.entries.is_empty() && map.turns.is_empty());
    }

    #[test]
    fn the_one_that_ends_first_makes_room() {
        let (mut map, at) = map(2);
        map.keep(&1, at(10), at(0), || 'a');
        map.keep(&2, at(20), at(0), || 'b');
        map.keep(&1, at(30), at(0), || 'a');
        map.keep(&3, at(40), at(0), || 'c');
        assert_eq!(map.get(&2, at(0)), None);
        assert!(map.get(&1, at(0)).is_some() && map.get(&3, at(0)).is_some());
        assert_eq!(map.turns.len(), 2);
    }

    #[test]
    fn many_ends_are_swept_in_small_steps() {
        let (mut map, at) = map(100);
        for key in 0..100 {
            map.keep(&key, at(1), at(0), || 'a');
        }
        map.sweep(at(1));
        assert_eq!(map.entries.len(), 100 - SWEEP);
        map.remove(&99);
        for _ in 0..100 / SWEEP {
            map.sweep(at(1));
        }
        assert!(map.entries.is_empty() && map.turns.is_empty());
    }
}
