//! An outbox in which thousands of partitions wait: for the bus, or because they are refused.

use std::time::Duration;

use tidings_tests::{Client, Postgres, Redis, eventually, token};
use tokio::time::Instant;

use crate::{
    outbox::{Outbox, assert_in_order, config, heard},
    stream::{node, reader},
};

const PUBLISHED: &str = r#"tidings_source_events_total{source="shop",result="published"}"#;
const RETRIED: &str = r#"tidings_source_events_total{source="shop",result="retried"}"#;

#[tokio::test]
async fn an_outbox_goes_on_within_moments_of_the_bus_coming_back_however_many_rows_wait() {
    let (Some(server), Some(mut redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let node = node(&redis, &config(&server, "", "")).await;
    redis.kill();
    node.wait_for_status("/health/redis", 503).await;
    let outbox = Outbox::of(&server).await;
    let insert = "INSERT INTO tidings_outbox (type, channels, data) \
                  SELECT 'task.created', '{tasks:1}', to_jsonb(number) FROM generate_series(1, 20000) AS number";
    outbox.0.batch_execute(insert).await.unwrap();
    // More than 1000 partitions have found the bus unavailable.
    eventually("it was tried for a while", async || {
        (node.metric(RETRIED).await >= 2000.0).then_some(())
    })
    .await;
    redis.up();
    let back = Instant::now();
    eventually("the first row is published", async || {
        (node.metric(PUBLISHED).await > 0.0).then_some(())
    })
    .await;
    // The target is 2 s.
    assert!(back.elapsed() < Duration::from_secs(20), "{:?}", back.elapsed());
    eventually("thousands are published", async || {
        (node.metric(PUBLISHED).await > 5000.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rows_that_are_refused_are_dead_lettered_and_other_partitions_go_on_though_thousands_wait() {
    let (Some(server), Some(redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let node = node(&redis, &config(&server, "", "attempts = 4")).await;
    let mut reader = reader(&node).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut acl = redis::cmd("ACL");
    acl.arg(&[
        "SETUSER",
        "default",
        "resetchannels",
        "&tidings:ch:{tasks:1}",
        "&tidings:control*",
    ]);
    acl.exec_async(&mut connection).await.unwrap();
    let outbox = Outbox::of(&server).await;
    let insert = "INSERT INTO tidings_outbox (partition_key, type, channels, data) \
                  SELECT 'refused-' || number, 'task.created', '{tasks:2}', '1' FROM generate_series(1, 3000) AS number";
    outbox.0.batch_execute(insert).await.unwrap();
    eventually("the first are refused", async || {
        (node.metric(RETRIED).await > 0.0).then_some(())
    })
    .await;
    let begin = Instant::now();
    outbox.add_numbers("good", 0..10).await;
    assert_in_order(&heard(&mut reader, 10).await, &["good"], 10);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let deadline = Instant::now() + Duration::from_secs(120);
    while outbox.count("failed_at IS NOT NULL").await < 3000 {
        assert!(Instant::now() < deadline, "they are never dead-lettered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(node.metric(RETRIED).await >= 9000.0, "each was tried four times");
    let lines = node.logs().matches("the bus refused a publication").count() as u64;
    let minutes = begin.elapsed().as_secs() / 60;
    assert!(
        (1..=2 + minutes).contains(&lines),
        "{lines} lines for 12000 refusals"
    );
    outbox.settled().await;
}

#[tokio::test]
async fn partitions_keep_their_order_though_connections_and_scripts_of_the_bus_are_lost() {
    let (Some(server), Some(redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let node = node(&redis, &config(&server, "", "batch = 7")).await;
    let mut reader = Client::connect(&node.websocket(), &token("ada")).await;
    reader.subscribe("tasks:1").await;
    let outbox = Outbox::of(&server).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut bus = client.get_multiplexed_async_connection().await.unwrap();
    let (partitions, count) = (["a", "b", "c"], 100);
    for number in 0..count {
        for partition in partitions {
            let data = format!(r#"["{partition}", {number}]"#);
            outbox.add(Some(partition), &data).await;
        }
        match number % 25 {
            10 => redis::cmd("SCRIPT")
                .arg("FLUSH")
                .exec_async(&mut bus)
                .await
                .unwrap(),
            20 => {
                let mut kill = redis::cmd("CLIENT");
                kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
                kill.exec_async(&mut bus).await.unwrap();
            }
            _ => {}
        }
    }
    assert_in_order(&heard(&mut reader, 3 * count as usize).await, &partitions, count);
    outbox.settled().await;
    assert_eq!(outbox.count("true").await, 0, "none was dead-lettered");
}
