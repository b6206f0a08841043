//! Draws faults: each kind of a world as often as any other, each with a target and a length.

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    CHANNELS, Connections, Evicted, FANOUTS, Fault, GATEWAYS, PRESENCES, PUBLISHERS, Process, Replica, Wire,
    World,
};

pub(super) fn millis(chance: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(chance.random_range(range))
}

fn process(chance: &mut StdRng) -> Process {
    match chance.random_range(0..3) {
        0 => Process::Gateway(chance.random_range(0..GATEWAYS)),
        1 => Process::Fanout(chance.random_range(0..FANOUTS)),
        _ => Process::Presence(chance.random_range(0..PRESENCES)),
    }
}

/// The first gateway is never killed: those who must not lose their connection are there.
fn mortal(chance: &mut StdRng) -> Process {
    match process(chance) {
        Process::Gateway(_) => Process::Gateway(GATEWAYS - 1),
        process => process,
    }
}

/// One fault of those that a world has.
pub(super) fn fault(chance: &mut StdRng, world: World) -> Fault {
    // Each kind as often as any other that the world has.
    let mut kinds: Vec<fn(&mut StdRng) -> Fault> = vec![
        |chance| Fault::Pause(process(chance), pause(chance)),
        |chance| Fault::Kill(mortal(chance)),
        |chance| Fault::PublisherDies(chance.random_range(0..PUBLISHERS)),
    ];
    if world == World::Memory {
        kinds = vec![
            |chance| Fault::Pause(Process::Gateway(0), pause(chance)),
            |chance| Fault::PublisherDies(chance.random_range(0..PUBLISHERS)),
            |chance| Fault::PublisherDies(chance.random_range(0..PUBLISHERS)),
            |_| Fault::Kill(Process::Gateway(0)),
        ];
    } else {
        kinds.extend([
            (|_| Fault::ScriptFlush) as fn(&mut StdRng) -> Fault,
            |chance| {
                let all = [Connections::Normal, Connections::PubSub];
                Fault::ClientKill(*all.choose(chance).expect("two"))
            },
            |chance| Fault::Hang(chance.random_range(0..CHANNELS), pause(chance)),
            |chance| Fault::OutOfMemory(millis(chance, 50..1500)),
            |chance| Fault::NoPermission(millis(chance, 50..1500)),
        ]);
    }
    if world.is_alone() {
        kinds.extend([
            (|chance| Fault::Wire(None, wire(chance), pause(chance))) as fn(&mut StdRng) -> Fault,
            |chance| Fault::Wire(Some(process(chance)), wire(chance), pause(chance)),
            |_| Fault::Restart,
            |chance| Fault::ReadOnly(millis(chance, 50..1500)),
        ]);
    }
    if world == World::Rdb {
        kinds.extend([
            (|_| Fault::Snapshot) as fn(&mut StdRng) -> Fault,
            |_| Fault::Snapshot,
            |_| Fault::Restart,
            |chance| Fault::RestartWithoutFanouts(millis(chance, 500..4000)),
            |chance| Fault::RestartTwice(millis(chance, 500..3000)),
            |chance| {
                let all = [Evicted::Top, Evicted::Stream, Evicted::Both];
                let evicted = *all.choose(chance).expect("three");
                Fault::Evict(chance.random_range(0..CHANNELS), evicted)
            },
        ]);
    }
    if matches!(world, World::Sentinel | World::Cluster) {
        kinds.extend([
            (|chance| Fault::HandOver(chance.random_range(0..CHANNELS))) as fn(&mut StdRng) -> Fault,
            |chance| Fault::HandOver(chance.random_range(0..CHANNELS)),
            |chance| Fault::KillPrimary(chance.random_range(0..CHANNELS), Replica::InStep),
            |chance| {
                let behind = Replica::Behind(millis(chance, 200..2000));
                Fault::KillPrimary(chance.random_range(0..CHANNELS), behind)
            },
            |chance| Fault::HangPrimary(chance.random_range(0..CHANNELS)),
        ]);
    }
    if world == World::Cluster {
        kinds.extend([
            (|chance| Fault::MoveSlot(chance.random_range(0..CHANNELS), millis(chance, 500..4000)))
                as fn(&mut StdRng) -> Fault,
            |chance| Fault::MoveSlot(chance.random_range(0..CHANNELS), millis(chance, 500..4000)),
            |chance| Fault::KillShard(chance.random_range(0..CHANNELS), millis(chance, 3000..6000)),
        ]);
    }
    kinds.choose(chance).expect("there are some")(chance)
}

/// Mostly shorter than a lease, sometimes longer.
fn pause(chance: &mut StdRng) -> Duration {
    if chance.random_bool(0.8) {
        millis(chance, 50..2500)
    } else {
        millis(chance, 4500..6500)
    }
}

fn wire(chance: &mut StdRng) -> Wire {
    let all = [Wire::Cut, Wire::Silent, Wire::Slow];
    *all.choose(chance).expect("three")
}
