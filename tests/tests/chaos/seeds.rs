//! Seeds that are run each time: a few of each world, and those that once failed, each with what it found.

use crate::plan::{Plan, World};

/// A run: its world, its seed, how many faults, and of which kind (empty: of any).
pub(crate) struct Seed(pub(crate) World, u64, usize, &'static str);

impl Seed {
    pub(crate) fn plan(&self) -> Plan {
        let Self(world, seed, faults, kind) = *self;
        Plan::only(seed, world, faults, kind)
    }
}

/// Run by the test command, together in less than three minutes.
pub(crate) const FIXED: &[Seed] = &[
    Seed(World::Memory, 3, 4, ""),
    // Joins and leaves that a gateway missed while its bus was gone; order of a source; repeats in channels without history
    // while no memory is left.
    Seed(World::Aof, 1, 4, ""),
    // Publishers that see the replication history at different times.
    Seed(World::Aof, 2, 1, "ReadOnly"),
    // Order of a stream and a source through a hang that is longer than a lease.
    Seed(World::Aof, 2, 3, "Hang"),
    Seed(World::Rdb, 7, 4, ""),
    // Members after Redis went back to a snapshot, twice; a client from before the first publication.
    Seed(World::Rdb, 2, 2, "RestartTwice"),
    Seed(World::Volatile, 2, 4, ""),
    Seed(World::Sentinel, 1, 2, ""),
    // Members after a failover that lost some.
    Seed(World::Sentinel, 1, 1, "HandOver"),
    // Order while a slot moves, which takes seconds.
    Seed(World::Cluster, 1, 2, "MoveSlot"),
    Seed(World::Cluster, 1, 2, ""),
    // Members of a shard that lost some while others kept all.
    Seed(World::Cluster, 3, 1, "KillShard"),
];
