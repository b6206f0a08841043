//! Seeds that are run each time: a few of each world, and those that once failed, each with what it found.

use crate::plan::World;

/// A run: its world, its seed, how many faults.
pub(crate) type Seed = (World, u64, usize);

/// Run by the test command, together in less than three minutes.
pub(crate) const FIXED: &[Seed] = &[
    (World::Memory, 1, 4),
    (World::Aof, 1, 5),
    (World::Rdb, 1, 5),
    (World::Volatile, 1, 4),
    (World::Sentinel, 1, 3),
    (World::Cluster, 1, 4),
];
