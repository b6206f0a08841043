//! So many each: connections of one user, connections from one address.
//!
//! Counted on this node alone. Whoever enters holds its place until it drops it, so nothing is counted that is not there,
//! and a key without a place takes no memory.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use parking_lot::Mutex;

/// How many locks the keys are spread over. One is held for the time of a lookup.
const SHARDS: usize = 16;

/// At most so many places for each key. Cheap to clone; clones count together.
pub(crate) struct Quota<K>(Arc<Inner<K>>);

struct Inner<K> {
    most: usize,
    /// Keys are chosen by clients: the hasher is seeded, and so are those of the maps.
    hasher: RandomState,
    shards: [Mutex<HashMap<K, usize>>; SHARDS],
}

/// A place; dropping it gives it back.
pub(crate) struct Entered<K: Eq + Hash> {
    quota: Quota<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Quota<K> {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            hasher: RandomState::new(),
            shards: Default::default(),
        }))
    }

    /// Takes a place; `None` when the key has all that it may have.
    pub(crate) fn enter(&self, key: &K) -> Option<Entered<K>> {
        let mut places = self.shard(key).lock();
        match places.get_mut(key) {
            Some(taken) if *taken >= self.0.most => return None,
            Some(taken) => *taken += 1,
            None => drop(places.insert(key.clone(), 1)),
        }
        Some(Entered {
            quota: self.clone(),
            key: key.clone(),
        })
    }
}

impl<K: Eq + Hash> Quota<K> {
    fn shard(&self, key: &K) -> &Mutex<HashMap<K, usize>> {
        let hash = self.0.hasher.hash_one(key);
        &self.0.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }

    /// How many keys have a place.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<K> Clone for Quota<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> Drop for Entered<K> {
    fn drop(&mut self) {
        let mut places = self.quota.shard(&self.key).lock();
        if let Some(taken) = places.get_mut(&self.key) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_key_has_as_many_places_as_it_may_and_gets_back_what_it_gives_back() {
        let quota = Quota::new(2);
        let first = quota.enter(&"a").unwrap();
        let second = quota.enter(&"a").unwrap();
        assert!(quota.enter(&"a").is_none());
        assert!(
            quota.enter(&"b").is_some(),
            "keys do not stand in each other's way"
        );
        drop(first);
        assert!(quota.enter(&"a").is_some());
        drop(second);
        assert_eq!(quota.len(), 0, "nobody is there, and nothing is remembered");
    }

    #[test]
    fn whoever_comes_at_once_from_several_threads_is_counted_as_if_one_after_the_other() {
        let quota = Quota::new(50);
        let entered: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let places: Vec<_> = (0..25).filter_map(|_| quota.enter(&1)).collect();
                        let entered = places.len();
                        std::mem::forget(places);
                        entered
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(entered, 50);
    }

    proptest! {
        #[test]
        fn places_are_counted_exactly(steps in vec((0_u8..4, any::<bool>()), 0..200)) {
            let quota = Quota::new(3);
            let mut held: [Vec<Entered<u8>>; 4] = Default::default();
            for (key, enters) in steps {
                let places = &mut held[usize::from(key)];
                if enters {
                    let free = places.len() < 3;
                    let entered = quota.enter(&key);
                    prop_assert_eq!(entered.is_some(), free);
                    places.extend(entered);
                } else {
                    places.pop();
                }
                prop_assert_eq!(quota.len(), held.iter().filter(|places| !places.is_empty()).count());
            }
        }
    }
}
