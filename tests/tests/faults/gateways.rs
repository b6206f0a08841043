//! Gateways die and are replaced, while their clients recover.

use std::time::Duration;

use tidings_tests::fault::Wire;

use crate::scene::{Cast, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_gateway_that_is_killed_recover_on_another() {
    let Some(mut scene) = Scene::open(3, 100, &[]).await else {
        return;
    };
    // Not the first, where the publisher is.
    scene.nodes[1].kill().await;
    scene.goes_on().await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_recover_while_the_bus_is_cut_miss_nothing_either() {
    let Some(mut scene) = Scene::open(3, 60, &[]).await else {
        return;
    };
    scene.redis.wire.set(Wire::Cut);
    scene.nodes[1].kill().await;
    scene.endures(Duration::from_secs(1)).await;
    scene.redis.wire.set(Wire::Whole);
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_hands_its_clients_over_without_a_loss() {
    let Some(mut scene) = Scene::open(3, 60, &[]).await else {
        return;
    };
    scene.nodes[1].terminate().await;
    scene.goes_on().await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_that_come_back_at_once_miss_nothing() {
    let crowd = Cast {
        restless: false,
        ..Cast::of(2, 1000)
    };
    let Some(mut scene) = Scene::with(crowd, &[]).await else {
        return;
    };
    scene.nodes[0].kill().await;
    scene.goes_on().await;
    scene.ends_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dying_fanout_was_told_is_published_once_when_another_is_told_it_again() {
    let many = Cast {
        batch: 50,
        ..Cast::of(3, 12)
    };
    let Some(mut scene) = Scene::with(many, &[]).await else {
        return;
    };
    // The publisher says its numbers to the first that takes them.
    scene.nodes[0].kill().await;
    scene.goes_on().await;
    scene.nodes[1].kill().await;
    scene.goes_on().await;
    scene.ends_undisturbed().await;
}
