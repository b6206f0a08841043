//! Processes are stopped and killed while a thousand clients roam between them.

use std::time::Duration;

use tidings_tests::eventually;
use tokio::sync::{Mutex, MutexGuard};

use crate::scene::Scene;

/// So long that a gateway on a busy machine keeps it.
pub(crate) const LEASE: &str = "6s";

/// One thousand clients at a time are enough for a machine.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_slept_for_longer_than_its_lease_finds_out_and_reports_everyone_again() {
    let _turn = turn().await;
    let Some(scene) = Scene::open(&[], LEASE).await else {
        return;
    };
    scene.gateways[2].pause().await;
    eventually("nobody is seen at the gateway that sleeps", async || {
        (scene.gateways_of_members().await?.len() == 2).then_some(())
    })
    .await;
    scene.gateways[2].resume().await;
    eventually("it is there again", async || {
        (scene.gateways_of_members().await?.len() == 3).then_some(())
    })
    .await;
    assert!(scene.gateways[2].logs().matches("attached to presence").count() > 1);
    scene.ends_well(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_right_after_redis_was_killed() {
    let _turn = turn().await;
    let kept = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut scene) = Scene::open(&kept, LEASE).await else {
        return;
    };
    for _ in 0..2 {
        scene.redis.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.redis.up();
        scene.goes_on().await;
    }
    scene.ends_well(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hung_for_longer_than_a_lease_ends_no_lease_and_nobody_misses_a_join_or_leave() {
    let _turn = turn().await;
    let Some(scene) = Scene::open(&[], LEASE).await else {
        return;
    };
    scene.redis.pause();
    tokio::time::sleep(Duration::from_secs(8)).await;
    scene.redis.resume();
    scene.goes_on().await;
    scene.ends_well(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_right_after_a_replica_was_killed() {
    let _turn = turn().await;
    let Some(mut scene) = Scene::open(&[], LEASE).await else {
        return;
    };
    scene.replicas[0].kill().await;
    scene.goes_on().await;
    scene.ends_well(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_right_after_a_gateway_was_killed_and_then_two_of_the_replicas_that_swept_it() {
    let _turn = turn().await;
    let Some(mut scene) = Scene::open(&[], LEASE).await else {
        return;
    };
    scene.gateways[2].kill().await;
    eventually("nobody is seen at the dead gateway", async || {
        (scene.gateways_of_members().await?.len() == 2).then_some(())
    })
    .await;
    // All three look every second: they are at it now, or will be.
    let before = scene.leaves();
    eventually("leaves are heard", async || {
        (scene.leaves() > before + 20).then_some(())
    })
    .await;
    scene.replicas[0].kill().await;
    scene.replicas[1].kill().await;
    scene.goes_on().await;
    scene.ends_well(true).await;
}
