//! Redis goes away, hangs, or loses everything.

use std::time::Duration;

use tidings_tests::{eventually, fault::Wire};

use crate::scene::Scene;

const CLIENTS: u64 = 12;

/// Cuts the wire for so long.
async fn cut_for(time: Duration) {
    let Some(scene) = Scene::open(2, CLIENTS, &[]).await else {
        return;
    };
    scene.redis.wire.set(Wire::Cut);
    scene.endures(time).await;
    scene.redis.wire.set(Wire::Whole);
    scene.ends_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_when_the_bus_is_cut_for_a_moment() {
    cut_for(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_when_the_bus_is_cut_for_a_while() {
    cut_for(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_when_the_bus_is_cut_for_long() {
    cut_for(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_when_the_bus_is_cut_again_and_again() {
    let Some(scene) = Scene::open(2, CLIENTS, &[]).await else {
        return;
    };
    for _ in 0..5 {
        scene.redis.wire.set(Wire::Cut);
        scene.endures(Duration::from_millis(200)).await;
        scene.redis.wire.set(Wire::Whole);
        scene.endures(Duration::from_millis(700)).await;
    }
    scene.ends_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_when_nothing_gets_through_and_nobody_says_so() {
    let Some(scene) = Scene::open(2, CLIENTS, &[]).await else {
        return;
    };
    scene.redis.wire.set(Wire::Held);
    scene.endures(Duration::from_secs(5)).await;
    scene.redis.wire.set(Wire::Whole);
    scene.ends_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_when_redis_hangs() {
    let Some(scene) = Scene::open(2, CLIENTS, &[]).await else {
        return;
    };
    scene.redis.server.pause();
    scene.endures(Duration::from_secs(10)).await;
    scene.redis.server.resume();
    scene.ends_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_when_redis_dies_and_has_kept_nothing() {
    let Some(mut scene) = Scene::open(2, CLIENTS, &[]).await else {
        return;
    };
    scene.redis.server.kill();
    scene.redis.server.up();
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_anything_when_redis_dies_and_has_kept_all() {
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut scene) = Scene::open(2, CLIENTS, &arguments).await else {
        return;
    };
    scene.redis.server.kill();
    scene.redis.server.up();
    scene.ends_undisturbed().await;
}

/// Redis, whose memory is full, drops a key of the stream, again and again.
async fn evict(kind: &str) {
    let Some(scene) = Scene::open(2, CLIENTS, &[]).await else {
        return;
    };
    for _ in 0..5 {
        scene.forget(kind);
        scene.goes_on().await;
    }
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_when_the_memory_of_redis_is_full() {
    let Some(scene) = Scene::open(2, CLIENTS, &[]).await else {
        return;
    };
    let server = &scene.redis.server;
    // What expires is dropped first, which is all that streams have.
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    eventually("Redis drops what it has", async || {
        let gone = ::redis::from_redis_value::<bool>(server.ask(&["EXISTS", &scene.key("top")]));
        (!gone.unwrap()).then_some(())
    })
    .await;
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    scene.ends_with_word_of_a_loss().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_when_redis_forgets_where_the_stream_is() {
    evict("top").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_when_redis_forgets_what_was_kept() {
    evict("stream").await;
}
