//! What dies in between: a node, the server, the bus.

use tidings_tests::{Postgres, Redis, eventually};
use tokio_util::task::TaskTracker;

use crate::{
    outbox::{Outbox, assert_in_order, config, heard},
    stream::{node, reader, reason},
};

#[tokio::test]
async fn a_node_that_is_killed_in_the_middle_loses_nothing_and_keeps_the_order() {
    let (Some(server), Some(redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let config = config(&server, "", "batch = 20");
    let listener = node(&redis, &config).await;
    let mut reader = reader(&listener).await;
    let mut victim = node(&redis, &config).await;
    let partitions = ["a", "b", "c", "d"];
    let mut adding = Vec::new();
    for partition in partitions {
        let outbox = Outbox::of(&server).await;
        adding.push(TaskTracker::new().spawn(async move {
            outbox.add_numbers(partition, 0..150).await;
        }));
    }
    // Somewhere in the middle.
    let mut all = heard(&mut reader, 200).await;
    victim.kill().await;
    all.extend(heard(&mut reader, 4 * 150 - 200).await);
    for adding in adding {
        adding.await.unwrap();
    }
    let outbox = Outbox::of(&server).await;
    outbox.settled().await;
    // Whatever was delivered twice would come before this.
    outbox.add(Some("z"), r#"["z", 0]"#).await;
    assert_eq!(heard(&mut reader, 1).await, [("z".to_owned(), 0)]);
    assert_in_order(&all, &partitions, 150);
    outbox.settled().await;
    assert_eq!(outbox.count("true").await, 0, "none was set aside");
}

#[tokio::test]
async fn a_node_that_is_told_to_end_finishes_what_it_has() {
    let (Some(server), Some(redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let config = config(&server, "", "");
    let mut leaving = node(&redis, &config).await;
    let staying = node(&redis, &config).await;
    let mut reader = reader(&staying).await;
    let outbox = Outbox::of(&server).await;
    outbox.add_numbers("a", 0..50).await;
    leaving.terminate().await;
    assert_eq!(leaving.exit().await.code, Some(0));
    outbox.add_numbers("a", 50..100).await;
    assert_in_order(&heard(&mut reader, 100).await, &["a"], 100);
    outbox.settled().await;
}

#[tokio::test]
async fn a_server_that_restarts_degrades_the_node_and_its_rows_are_published_once_in_order() {
    let (Some(mut server), Some(redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let node = node(&redis, &config(&server, "", "batch = 5")).await;
    let mut reader = reader(&node).await;
    let outbox = Outbox::of(&server).await;
    outbox.add_numbers("a", 0..100).await;
    let mut all = heard(&mut reader, 10).await;
    server.kill();
    let why = eventually("readiness says why", async || reason(&node, "source").await).await;
    assert!(why.starts_with("shop: postgres://postgres@127.0.0.1"), "{why}");
    assert!(!why.contains("hunter2"), "{why}");
    assert_eq!(node.metric("tidings_source_up").await, 0.0);
    server.up().await;
    node.wait_until_whole().await;
    let outbox = Outbox::of(&server).await;
    outbox.add_numbers("a", 100..110).await;
    all.extend(heard(&mut reader, 100).await);
    assert_in_order(&all, &["a"], 110);
    outbox.settled().await;
    assert_eq!(
        node.logs().matches("the source is away").count(),
        1,
        "one line for one failure"
    );
}

#[tokio::test]
async fn rows_wait_for_a_bus_that_is_away_however_often_they_are_tried() {
    let (Some(server), Some(mut redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let node = node(&redis, &config(&server, "", "attempts = 1\npoll = \"100ms\"")).await;
    redis.kill();
    node.wait_for_status("/health/redis", 503).await;
    let outbox = Outbox::of(&server).await;
    outbox.add_numbers("a", 0..20).await;
    eventually("it was tried a few times", async || {
        (node
            .metric(r#"tidings_source_events_total{source="shop",result="retried"}"#)
            .await
            >= 3.0)
            .then_some(())
    })
    .await;
    assert_eq!(outbox.count("failed_at IS NULL").await, 20);
    redis.up();
    node.wait_until_whole().await;
    outbox.settled().await;
    assert_eq!(outbox.count("true").await, 0, "none was set aside");
    let mut reader = reader(&node).await;
    outbox.add_numbers("b", 0..1).await;
    assert_eq!(heard(&mut reader, 1).await, [("b".to_owned(), 0)]);
}

#[tokio::test]
async fn a_row_that_is_refused_holds_up_its_partition_alone_and_is_set_aside_after_its_attempts() {
    let (Some(server), Some(redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let node = node(&redis, &config(&server, "", "attempts = 3\npoll = \"100ms\"")).await;
    let mut reader = reader(&node).await;
    // A name of this kind is the bus' own: what is published there is refused.
    let acl = [
        "ACL",
        "SETUSER",
        "default",
        "resetchannels",
        "&tidings:ch:{tasks:1}",
        "&tidings:control*",
    ];
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(acl[0])
        .arg(&acl[1..])
        .exec_async(&mut connection)
        .await
        .unwrap();
    let outbox = Outbox::of(&server).await;
    let insert = "INSERT INTO tidings_outbox (partition_key, type, channels, data) VALUES \
                  ('a', 'task.created', '{tasks:2}', '1'), ('a', 'task.created', '{tasks:1}', '[\"a\", 1]'), \
                  ('b', 'task.created', '{tasks:1}', '[\"b\", 0]')";
    outbox.0.batch_execute(insert).await.unwrap();
    assert_eq!(heard(&mut reader, 1).await, [("b".to_owned(), 0)]);
    assert_eq!(heard(&mut reader, 1).await, [("a".to_owned(), 1)]);
    outbox.settled().await;
    assert_eq!(outbox.count("failed_at IS NOT NULL AND failure <> ''").await, 1);
    assert_eq!(
        node.metric(r#"tidings_source_events_total{source="shop",result="retried"}"#)
            .await,
        2.0,
        "the third try was the last"
    );
}
