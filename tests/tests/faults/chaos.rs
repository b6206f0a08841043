//! One fault after the other, as chance wills: ten seconds of it here, as long as `TIDINGS_CHAOS` says (in seconds) for who
//! wants more: `TIDINGS_CHAOS=3600 cargo test -p tidings-tests --test faults chaos -- --nocapture`. The seed that is printed
//! repeats the choices.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tidings_tests::fault::Wire;
use tokio::time::Instant;

use crate::scene::{Alone, Scene, asked_for};

/// Redis forgets nothing here: whoever is told that it missed something was told so without need, but not wrongly.
const KEEPS_ALL: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test(flavor = "multi_thread")]
async fn chaos_breaks_no_promise() {
    let Some(mut scene) = Scene::open(3, 30, &KEEPS_ALL).await else {
        return;
    };
    let seconds = asked_for("TIDINGS_CHAOS").unwrap_or(10);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut chance = StdRng::seed_from_u64(scene.seed);
    while Instant::now() < until {
        let moment = Duration::from_millis(chance.random_range(50..1500));
        match chance.random_range(0..5) {
            0 => disturb(&scene, Wire::Cut, moment).await,
            1 => disturb(&scene, Wire::Held, moment).await,
            2 => disturb(&scene, Wire::Slow(Duration::from_millis(30)), moment).await,
            3 => {
                scene.redis.server.pause();
                scene.endures(moment).await;
                scene.redis.server.resume();
            }
            _ => {
                scene.redis.server.kill();
                scene.redis.server.up();
            }
        }
        scene.goes_on().await;
    }
    scene.ends_well().await;
}

async fn disturb(scene: &Scene<Alone>, wire: Wire, moment: Duration) {
    scene.redis.wire.set(wire);
    scene.endures(moment).await;
    scene.redis.wire.set(Wire::Whole);
}
