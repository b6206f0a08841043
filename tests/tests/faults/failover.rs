//! A Redis of several processes, of which one dies, hangs or hands over.

use std::time::Duration;

use crate::scene::Scene;

const CLIENTS: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_primary_that_hands_over_to_its_replica() {
    let Some(scene) = Scene::watched(2, CLIENTS).await else {
        return;
    };
    tokio::task::block_in_place(|| scene.redis.fail_over());
    scene.goes_on().await;
    scene.ends_undisturbed_unless_something_was_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_without_a_word_when_a_primary_dies() {
    let Some(mut scene) = Scene::watched(2, CLIENTS).await else {
        return;
    };
    scene.redis.primary.kill();
    scene.goes_on().await;
    scene.ends_undisturbed_unless_something_was_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_missed_what_a_dead_primary_took_with_it_is_told() {
    let Some(mut scene) = Scene::watched(2, CLIENTS).await else {
        return;
    };
    // The replica hears of nothing more, because its primary does not know it any longer; it is promoted all the same.
    scene.redis.replica.ask(&[
        "CONFIG",
        "SET",
        "masterauth",
        "a password that the primary does not have",
    ]);
    scene.redis.primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    scene.goes_on().await;
    scene.redis.primary.kill();
    scene.goes_on().await;
    scene.ends_with_word_of_a_loss().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_without_a_word_when_a_primary_of_a_cluster_dies() {
    let Some(mut scene) = Scene::cluster(2, CLIENTS).await else {
        return;
    };
    let owner = scene.owner();
    scene.redis.nodes[owner].kill();
    scene.goes_on().await;
    scene.ends_undisturbed_unless_something_was_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_without_a_word_when_a_primary_of_a_cluster_hangs() {
    let Some(scene) = Scene::cluster(2, CLIENTS).await else {
        return;
    };
    let owner = scene.owner();
    scene.redis.nodes[owner].pause();
    // Long enough to be replaced; then it is a replica, and has to find that out.
    scene.goes_on().await;
    scene.redis.nodes[owner].resume();
    scene.endures(Duration::from_secs(1)).await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_slot_that_moves_back_and_forth() {
    let Some(scene) = Scene::cluster(2, CLIENTS).await else {
        return;
    };
    let slot = scene.slot();
    for step in 1..=4 {
        let to = (scene.owner() + step) % 3;
        if to != scene.owner() {
            tokio::task::block_in_place(|| scene.redis.move_slot(slot, to));
        }
        scene.goes_on().await;
    }
    scene.ends_undisturbed().await;
}
