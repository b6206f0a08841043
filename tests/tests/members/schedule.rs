//! Faults drawn from a seed, one after the other, while a thousand clients roam: presence is right afterwards, joins and leaves
//! came in turns for everyone who looked on, and nobody left without a cause.
//!
//! `TIDINGS_PRESENCE_SEEDS=7,8,9` runs other seeds than the fixed ones; `TIDINGS_PRESENCE_SEEDS=1..100` a hundred of them.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    faults::{LEASE, turn},
    scene::Scene,
};

const FAULTS: usize = 3;

/// Seeds of every run, each for a reason. 9: gateways that gave up on a busy presence too soon lost their leases.
const SEEDS: &[u64] = &[9];

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Redis hangs for so long.
    Hang(Duration),
    /// Redis is killed, and comes back after so long with all that it had.
    Restart(Duration),
    /// A presence replica stands still.
    PauseReplica(usize, Duration),
    /// The third gateway stands still.
    PauseGateway(Duration),
    /// A presence replica is killed.
    KillReplica,
    /// The third gateway is killed.
    KillGateway,
}

fn draw(chance: &mut StdRng) -> Fault {
    let long = Duration::from_millis(chance.random_range(200..9_000));
    match chance.random_range(0..6) {
        0 => Fault::Hang(long),
        1 => Fault::Restart(long),
        2 => Fault::PauseReplica(chance.random_range(0..3), long),
        3 => Fault::PauseGateway(long),
        4 => Fault::KillReplica,
        _ => Fault::KillGateway,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_right_after_random_faults() {
    let _turn = turn().await;
    for seed in seeds() {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let kept = ["--appendonly", "yes"];
    let Some(mut scene) = Scene::open(&kept, LEASE).await else {
        return;
    };
    let mut chance = StdRng::seed_from_u64(seed);
    let (mut dead_replicas, mut dead_gateway) = (Vec::new(), false);
    for _ in 0..FAULTS {
        let fault = draw(&mut chance);
        println!("seed {seed}: {fault:?}");
        match fault {
            Fault::Hang(long) => {
                scene.redis.pause();
                sleep(long).await;
                scene.redis.resume();
            }
            Fault::Restart(long) => {
                scene.redis.kill();
                sleep(long).await;
                scene.redis.up();
            }
            Fault::PauseReplica(n, long) if !dead_replicas.contains(&n) => {
                scene.replicas[n].pause().await;
                sleep(long).await;
                scene.replicas[n].resume().await;
                // Its gateways notice within half a lease, and may come to it again.
                scene.all_stay &= long < Duration::from_secs(2);
            }
            Fault::PauseGateway(long) if !dead_gateway => {
                scene.gateways[2].pause().await;
                sleep(long).await;
                scene.gateways[2].resume().await;
            }
            Fault::KillReplica if dead_replicas.len() < 2 => {
                scene.replicas[dead_replicas.len()].kill().await;
                dead_replicas.push(dead_replicas.len());
            }
            Fault::KillGateway if !dead_gateway => {
                scene.gateways[2].kill().await;
                dead_gateway = true;
            }
            _ => {}
        }
        // Some follow at once.
        if chance.random_bool(0.7) {
            scene.goes_on().await;
        }
    }
    scene.ends_well(true).await;
}

fn seeds() -> Vec<u64> {
    let wanted = std::env::var_os("TIDINGS_PRESENCE_SEEDS").and_then(|wanted| wanted.into_string().ok());
    let Some(wanted) = wanted else {
        return SEEDS.to_vec();
    };
    match wanted.split_once("..") {
        Some((first, last)) => (first.parse().unwrap()..=last.parse().unwrap()).collect(),
        None => wanted.split(',').map(|seed| seed.parse().unwrap()).collect(),
    }
}
