//! A seed to a schedule: which faults come when, to what, for how long. Pure: the same seed is the same schedule.

mod draw;

use std::{fmt, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use self::draw::{fault, millis};

/// What the nodes' bus is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// One node without a Redis.
    Memory,
    /// One Redis that keeps everything: an append-only file, written through.
    Aof,
    /// One Redis that keeps what its last snapshot has.
    Rdb,
    /// One Redis that keeps nothing through its end.
    Volatile,
    /// A primary, a replica and three Sentinels.
    Sentinel,
    /// Three primaries, each with a replica.
    Cluster,
}

/// How many there are of everything.
pub(crate) const CHANNELS: usize = 3;
pub(crate) const GATEWAYS: usize = 2;
pub(crate) const FANOUTS: usize = 2;
pub(crate) const PRESENCES: usize = 2;
pub(crate) const PUBLISHERS: usize = 4;

/// Draws for each fault of a plan of one kind.
const DRAWS: usize = 200;

/// A process of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Gateway(usize),
    Fanout(usize),
    Presence(usize),
}

/// What happens to the wire between processes and their Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Cut,
    Silent,
    Slow,
}

/// What a replica has when its primary ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replica {
    /// Everything but what is under way.
    InStep,
    /// Nothing of what its primary acknowledged for this long before.
    Behind(Duration),
}

/// One thing that goes wrong. Whatever it breaks is whole again when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The wire of all processes, or of one.
    Wire(Option<Process>, Wire, Duration),
    /// SIGSTOP of Redis: of the one, of the primary, of the primary that has this channel.
    Hang(usize, Duration),
    /// SIGKILL of Redis, which starts again at once with what it keeps.
    Restart,
    /// Redis writes a snapshot: what it goes back to from then on.
    Snapshot,
    /// Redis goes back to a snapshot of so long ago, and after as long a time again.
    RestartTwice(Duration),
    /// Redis goes back to a snapshot of so long ago while all fanouts die: what was acknowledged, only gateways know.
    RestartWithoutFanouts(Duration),
    /// Redis forgets the keys of a channel, as when it evicts: its `top`, its `stream` or both.
    Evict(usize, Evicted),
    /// `SCRIPT FLUSH`.
    ScriptFlush,
    /// `CLIENT KILL TYPE`: of subscribers, or of everybody else.
    ClientKill(Connections),
    /// No memory is left for writes.
    OutOfMemory(Duration),
    /// Redis is a replica of nobody for a while.
    ReadOnly(Duration),
    /// The user may run no script for a while.
    NoPermission(Duration),
    /// `SENTINEL FAILOVER`, `CLUSTER FAILOVER`: the primary (of this channel) hands over.
    HandOver(usize),
    /// SIGKILL of the primary (of this channel); its replica takes over, and it comes back as a replica.
    KillPrimary(usize, Replica),
    /// SIGSTOP of the primary (of this channel) until its replica has taken over, then SIGCONT.
    HangPrimary(usize),
    /// A primary and its replica are gone for a while; other channels go on.
    KillShard(usize, Duration),
    /// The slot of a channel moves to another primary, key by key, for so long.
    MoveSlot(usize, Duration),
    /// SIGSTOP of a process of ours.
    Pause(Process, Duration),
    /// SIGKILL of a process of ours, which starts again at once.
    Kill(Process),
    /// A publisher ends without a word, and another one begins.
    PublisherDies(usize),
}

/// Which keys of a channel are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evicted {
    Top,
    Stream,
    Both,
}

/// Which connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    Normal,
    PubSub,
}

/// A fault, after so long without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) calm: Duration,
    pub(crate) fault: Fault,
}

/// How much publishers publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Bursts, many under way.
    Busy,
    /// One event now and then: what is lost is not followed by something that shows it.
    Calm,
}

/// What happens in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) world: World,
    pub(crate) pace: Pace,
    pub(crate) steps: Vec<Step>,
}

impl World {
    pub(crate) const ALL: [Self; 6] = [
        Self::Memory,
        Self::Aof,
        Self::Rdb,
        Self::Volatile,
        Self::Sentinel,
        Self::Cluster,
    ];

    /// By its name in the environment.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|world| world.to_string() == name)
    }

    fn is_alone(self) -> bool {
        matches!(self, Self::Aof | Self::Rdb | Self::Volatile)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Aof => "aof",
            Self::Rdb => "rdb",
            Self::Volatile => "volatile",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

impl Fault {
    /// The name of its kind.
    fn kind(self) -> String {
        let text = format!("{self:?}");
        text.split('(').next().unwrap_or_default().to_owned()
    }

    /// Whether what was acknowledged may be lost by it in such a world.
    pub(crate) fn may_lose(self, world: World) -> bool {
        match self {
            Self::Restart | Self::RestartTwice(_) | Self::RestartWithoutFanouts(_) => world != World::Aof,
            Self::Evict(..) | Self::HangPrimary(_) | Self::KillPrimary(..) | Self::HandOver(_) => true,
            // A shard comes back empty.
            Self::KillShard(..) => true,
            Self::Hang(..) => world == World::Sentinel || world == World::Cluster,
            Self::Kill(_) => world == World::Memory,
            _ => false,
        }
    }

    /// How many losses it may be: each is one notice at most to each client of a channel.
    pub(crate) fn losses(self, world: World) -> usize {
        match self {
            Self::RestartTwice(_) => 2,
            _ => usize::from(self.may_lose(world)),
        }
    }
}

impl Plan {
    /// So many faults, as the seed has it.
    pub(crate) fn of(seed: u64, world: World, count: usize) -> Self {
        Self::only(seed, world, count, "")
    }

    /// The same with faults of one kind, which is named as in [`Fault`]; an empty name is every kind.
    ///
    /// # Panics
    /// When the world has no such fault.
    pub(crate) fn only(seed: u64, world: World, count: usize, kind: &str) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let drawn = std::iter::repeat_with(|| Step {
            calm: millis(&mut chance, 200..1200),
            fault: fault(&mut chance, world),
        });
        let is_it = |step: &Step| kind.is_empty() || step.fault.kind() == kind;
        let steps: Vec<Step> = drawn.take(count * DRAWS).filter(is_it).take(count).collect();
        assert_eq!(
            steps.len(),
            count,
            "there is no fault {kind} in the world {world}"
        );
        let is_calm = StdRng::seed_from_u64(!seed).random_bool(0.3);
        let pace = if is_calm { Pace::Calm } else { Pace::Busy };
        Self {
            seed,
            world,
            pace,
            steps,
        }
    }

    /// How often a stream may come to another Redis process, or to one with another replication history: each is one
    /// jump of its offsets at most.
    pub(crate) fn generations(&self) -> usize {
        let changes = |step: &Step| match step.fault {
            Fault::RestartTwice(_) => 2,
            Fault::Restart
            | Fault::RestartWithoutFanouts(_)
            | Fault::ReadOnly(_)
            | Fault::HandOver(_)
            | Fault::KillPrimary(..)
            | Fault::HangPrimary(_)
            | Fault::KillShard(..)
            | Fault::MoveSlot(..) => 1,
            // Long enough to be replaced.
            Fault::Hang(..) => usize::from(!self.world.is_alone()),
            _ => 0,
        };
        self.steps.iter().map(changes).sum()
    }

    /// How many losses there may be.
    pub(crate) fn losses(&self) -> usize {
        self.steps.iter().map(|step| step.fault.losses(self.world)).sum()
    }

    /// Whether what presence keeps may be lost, or go back in time.
    pub(crate) fn may_lose_members(&self) -> bool {
        let loses = |step: &Step| match step.fault {
            Fault::Evict(..) => false,
            Fault::HandOver(_) => self.world != World::Cluster,
            fault => fault.losses(self.world) > 0,
        };
        self.steps.iter().any(loses)
    }

    /// How many primaries were replaced that went on: what they published to gateways then is gone, though no publisher was told
    /// of it and no client got it.
    pub(crate) fn former_primaries(&self) -> usize {
        let is_one = |step: &&Step| match step.fault {
            Fault::HangPrimary(_) => true,
            // A Cluster's primary hands over to a replica that has everything.
            Fault::HandOver(_) => self.world != World::Cluster,
            _ => false,
        };
        self.steps.iter().filter(is_one).count()
    }

    /// Whether a process was stopped or killed so that what only it knew may be gone.
    pub(crate) fn kills(&self, process: Process) -> bool {
        let killed = |step: &Step| match step.fault {
            Fault::Kill(killed) => killed == process,
            Fault::RestartWithoutFanouts(_) => matches!(process, Process::Fanout(_)),
            _ => false,
        };
        self.steps.iter().any(killed)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "TIDINGS_CHAOS_SEED={} TIDINGS_CHAOS_WORLD={} ({:?})",
            self.seed, self.world, self.pace
        )?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {index}: after {:?} {:?}", step.calm, step.fault)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_schedule_in_every_world() {
        for world in World::ALL {
            let (one, other) = (Plan::of(77, world, 50), Plan::of(77, world, 50));
            assert_eq!(one, other);
            assert_eq!(one.to_string(), other.to_string());
            assert_ne!(one.steps, Plan::of(78, world, 50).steps);
        }
    }

    #[test]
    fn a_longer_schedule_begins_like_a_shorter_one_of_the_same_seed() {
        let (short, long) = (Plan::of(5, World::Cluster, 3), Plan::of(5, World::Cluster, 30));
        assert_eq!(short.steps[..], long.steps[..3]);
    }

    #[test]
    fn every_kind_of_fault_of_a_world_is_drawn_and_none_of_another() {
        let drawn = |world| -> std::collections::BTreeSet<String> {
            let name = |step: &Step| step.fault.kind();
            Plan::of(1, world, 2000).steps.iter().map(name).collect()
        };
        assert_eq!(drawn(World::Memory).len(), 3);
        assert_eq!(drawn(World::Aof).len(), 11);
        assert_eq!(drawn(World::Rdb).len(), 15);
        assert_eq!(drawn(World::Sentinel).len(), 11);
        assert_eq!(drawn(World::Cluster).len(), 13);
        assert!(drawn(World::Cluster).contains("MoveSlot") && !drawn(World::Aof).contains("MoveSlot"));
    }

    #[test]
    fn a_redis_that_keeps_everything_loses_nothing() {
        assert_eq!(Plan::of(3, World::Aof, 500).losses(), 0);
        assert!(Plan::of(3, World::Rdb, 500).losses() > 50);
    }

    #[test]
    fn a_plan_of_one_kind_has_no_other_fault() {
        let plan = Plan::only(7, World::Cluster, 20, "MoveSlot");
        assert_eq!(plan.steps.len(), 20);
        assert!(plan.steps.iter().all(|step| step.fault.kind() == "MoveSlot"));
        assert_eq!(Plan::only(7, World::Aof, 5, ""), Plan::of(7, World::Aof, 5));
    }

    #[test]
    fn a_world_is_found_by_its_name() {
        for world in World::ALL {
            assert_eq!(World::named(&world.to_string()), Some(world));
        }
        assert_eq!(World::named("mysql"), None);
    }
}
