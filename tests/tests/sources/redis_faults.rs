//! What dies in between: a node, the server, the bus.

use std::{collections::HashSet, time::Duration};
use tokio_util::task::TaskTracker;

use tidings_tests::{Redis, eventually};

use crate::stream::{STREAM, Stream, config, config_of, node, numbers, reader, reason};

/// As soon as can be configured.
const CLAIM: &str = "claim_after = \"1s\"\nbatch = 50";

#[tokio::test]
async fn a_node_that_is_killed_in_the_middle_loses_nothing_and_nothing_is_delivered_twice() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    let listener = node(&redis, &config(CLAIM)).await;
    let mut reader = reader(&listener).await;
    let mut victim = node(&redis, &config(CLAIM)).await;
    const COUNT: u64 = 600;
    let adding = TaskTracker::new().spawn(async move {
        for number in 0..COUNT {
            stream.add_number(number).await;
        }
        stream
    });
    // Somewhere in the middle.
    let mut heard = numbers(&mut reader, 200).await;
    victim.kill().await;
    heard.extend(numbers(&mut reader, COUNT as usize - 200).await);
    let mut stream = adding.await.unwrap();
    stream.settled().await;
    // Whatever was delivered twice would come before this.
    stream.add_number(COUNT).await;
    assert_eq!(numbers(&mut reader, 1).await, [COUNT]);
    let distinct: HashSet<_> = heard.iter().copied().collect();
    assert_eq!(distinct.len() as u64, COUNT, "each of them once");
    assert_eq!(stream.run::<u64>(&["EXISTS", "jobs:dead"]).await, 0);
}

#[tokio::test]
async fn what_a_dead_consumer_had_in_hand_is_claimed() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    let _: String = stream
        .run(&["XGROUP", "CREATE", STREAM, "tidings", "0", "MKSTREAM"])
        .await;
    for number in 0..5 {
        stream.add_number(number).await;
    }
    let read = ["XREADGROUP", "GROUP", "tidings", "dead", "STREAMS", STREAM, ">"];
    let _: redis::Value = stream.run(&read).await;
    let node = node(&redis, &config("claim_after = \"2s\"")).await;
    let mut reader = reader(&node).await;
    // Those were in hand when the reader came, or are delivered to it: either way they are acknowledged.
    stream.settled().await;
    assert_eq!(node.metric("tidings_source_claimed_total").await, 5.0);
    stream.add_number(9).await;
    let mut last = numbers(&mut reader, 1).await;
    while last != [9] {
        last = numbers(&mut reader, 1).await;
    }
}

#[tokio::test]
async fn an_entry_that_no_node_survives_is_set_aside() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    let _: String = stream
        .run(&["XGROUP", "CREATE", STREAM, "tidings", "0", "MKSTREAM"])
        .await;
    let id = stream.add_number(1).await;
    let _: redis::Value = stream
        .run(&["XREADGROUP", "GROUP", "tidings", "dead", "STREAMS", STREAM, ">"])
        .await;
    let count = ["XCLAIM", STREAM, "tidings", "dead", "0", &id, "RETRYCOUNT", "5"];
    let _: redis::Value = stream.run(&count).await;
    let _node = node(&redis, &config(CLAIM)).await;
    let aside = stream.aside(1).await;
    assert!(
        aside[0]["tidings-reason"].contains("no node finished it"),
        "{aside:?}"
    );
    stream.settled().await;
}

#[tokio::test]
async fn nodes_share_the_stream() {
    let Some(redis) = Redis::start() else { return };
    let nodes = [
        node(&redis, &config("batch = 5")).await,
        node(&redis, &config("batch = 5")).await,
    ];
    let mut reader = reader(&nodes[0]).await;
    let mut stream = Stream::of(&redis).await;
    for number in 0..300 {
        stream.add_number(number).await;
    }
    let heard: HashSet<_> = numbers(&mut reader, 300).await.into_iter().collect();
    assert_eq!(heard.len(), 300);
    stream.settled().await;
    for node in &nodes {
        assert!(
            node.metric("tidings_source_events_total").await > 0.0,
            "each had a part"
        );
    }
}

#[tokio::test]
async fn a_node_that_is_told_to_end_finishes_what_it_has_and_leaves_the_group() {
    let Some(redis) = Redis::start() else { return };
    let mut leaving = node(&redis, &config("")).await;
    let staying = node(&redis, &config("")).await;
    let mut reader = reader(&staying).await;
    let mut stream = Stream::of(&redis).await;
    for number in 0..100 {
        stream.add_number(number).await;
    }
    leaving.terminate().await;
    assert_eq!(leaving.exit().await.code, Some(0));
    for number in 100..200 {
        stream.add_number(number).await;
    }
    let heard: HashSet<_> = numbers(&mut reader, 200).await.into_iter().collect();
    assert_eq!(heard.len(), 200);
    stream.settled().await;
    assert_eq!(
        staying.metric("tidings_source_claimed_total").await,
        0.0,
        "it left nothing behind"
    );
    let consumers: Vec<redis::Value> = stream.run(&["XINFO", "CONSUMERS", STREAM, "tidings"]).await;
    assert_eq!(consumers.len(), 1);
}

#[tokio::test]
async fn a_server_that_goes_degrades_the_node_and_is_read_again_when_it_returns() {
    let Some(bus) = Redis::start() else { return };
    let Some(mut source) = Redis::start() else { return };
    let own = format!("url = \"{}\"", source.url());
    let node = node(&bus, &config(&own)).await;
    let mut reader = reader(&node).await;
    source.kill();
    let why = eventually("readiness says why", async || reason(&node, "source").await).await;
    assert!(why.starts_with("jobs: redis://127.0.0.1"), "{why}");
    assert_eq!(node.metric("tidings_source_up").await, 0.0);
    source.up();
    node.wait_until_whole().await;
    Stream::of(&source).await.add_number(3).await;
    assert_eq!(numbers(&mut reader, 1).await, [3]);
    assert_eq!(
        node.logs().matches("the source is away").count(),
        1,
        "one line for one failure"
    );
}

#[tokio::test]
async fn entries_wait_for_a_bus_that_is_away_however_often_they_are_tried() {
    let Some(mut bus) = Redis::start() else { return };
    let Some(source) = Redis::start() else { return };
    let own = format!("url = \"{}\"\nattempts = 1", source.url());
    let node = node(&bus, &config_of("", &own)).await;
    bus.kill();
    node.wait_for_status("/health/redis", 503).await;
    let mut stream = Stream::of(&source).await;
    let id = stream.add_number(3).await;
    eventually("it was tried a few times", async || {
        (node.metric("tidings_source_events_total").await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(stream.pending().await, 1, "{id} is still in hand");
    bus.up();
    node.wait_until_whole().await;
    stream.settled().await;
    assert_eq!(stream.run::<u64>(&["EXISTS", "jobs:dead"]).await, 0);
    // The rest goes as before.
    let mut reader = reader(&node).await;
    stream.add_number(4).await;
    assert_eq!(numbers(&mut reader, 1).await, [4]);
    tokio::time::timeout(Duration::from_secs(30), stream.settled())
        .await
        .unwrap();
}
