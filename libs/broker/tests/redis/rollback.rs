//! What becomes of streams when Redis goes back in time.

use std::{num::NonZeroU32, time::Duration};

use tidings_broker::{Broker, Query, Target, test_util::RedisServer};
use tidings_core::{Position, Retention};

use crate::{
    command,
    common::{channel, eventually, publication},
    node, up,
};

pub(crate) const RETENTION: Retention = Retention {
    size: NonZeroU32::new(100).unwrap(),
    ttl: Duration::from_secs(600),
};

/// Publishes to the stream `a:1`, when Redis lets it; where to.
async fn try_publish(broker: &Broker) -> Option<Position> {
    let target = Target {
        retention: Some(RETENTION),
        ..Target::from(channel("a:1"))
    };
    let mut results = broker.publisher().publish(&[target], &publication("x")).await;
    results.pop().unwrap().ok()?.position
}

async fn publish(broker: &Broker) -> Position {
    try_publish(broker).await.expect("Redis is there")
}

async fn top(broker: &Broker) -> Position {
    let mut tops = broker.streams().positions(&[channel("a:1")]).await;
    tops.pop().unwrap().unwrap()
}

/// How many entries the stream has.
async fn kept(broker: &Broker) -> usize {
    let query = Query {
        limit: 100,
        ..Query::default()
    };
    let history = broker.streams().read(&channel("a:1"), RETENTION, query).await;
    history.unwrap().publications.len()
}

pub(crate) async fn follow(server: &RedisServer, primary: &RedisServer) {
    let port = primary.port().to_string();
    command(server, &["REPLICAOF", "127.0.0.1", &port]).await;
    eventually(async || {
        let redis::Value::BulkString(info) = command(server, &["INFO", "replication"]).await else {
            return false;
        };
        String::from_utf8_lossy(&info).contains("master_link_status:up")
    })
    .await;
}

async fn lead(server: &RedisServer) {
    command(server, &["REPLICAOF", "NO", "ONE"]).await;
}

#[tokio::test]
async fn no_offset_is_given_twice_after_an_older_snapshot_was_restored() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    for _ in 0..3 {
        publish(&broker).await;
    }
    command(&server, &["SAVE"]).await;
    publish(&broker).await;
    let lost = publish(&broker).await;

    server.kill();
    server.up();
    eventually(async || try_publish(&broker).await.is_some()).await;
    let now = publish(&broker).await;
    assert_eq!((lost.offset, now.offset), (5, 5), "what is there is numbered on");
    assert_ne!(lost.epoch, now.epoch);
    assert_eq!(top(&broker).await, now);
    assert_eq!(kept(&broker).await, 5, "what came back is still there");
}

#[tokio::test]
async fn who_reads_first_after_a_restore_sees_another_epoch_and_all_others_the_same() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let (one, other) = (node(&server), node(&server));
    up(&one).await;
    up(&other).await;
    let before = publish(&one).await;
    command(&server, &["SAVE"]).await;
    publish(&other).await;

    server.kill();
    server.up();
    eventually(async || one.streams().positions(&[channel("a:1")]).await[0].is_ok()).await;
    let after = top(&one).await;
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
    eventually(async || try_publish(&other).await.is_some()).await;
    assert_eq!(top(&one).await.epoch, after.epoch);
    assert_eq!(top(&other).await.epoch, after.epoch);
}

#[tokio::test]
async fn no_offset_is_given_twice_after_a_failover_that_lost_the_newest_writes() {
    let (Some(mut primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    let broker = node(&primary);
    up(&broker).await;
    publish(&broker).await;
    follow(&replica, &primary).await;
    lead(&replica).await;
    let lost = publish(&broker).await;
    primary.kill();

    let broker = node(&replica);
    up(&broker).await;
    let now = publish(&broker).await;
    assert_eq!((lost.offset, now.offset), (2, 2));
    assert_ne!(lost.epoch, now.epoch);
}

#[tokio::test]
async fn no_offset_is_given_twice_by_a_primary_that_followed_another_meanwhile() {
    let (Some(primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    // Its connections live through all of it.
    let broker = node(&primary);
    up(&broker).await;
    publish(&broker).await;
    follow(&replica, &primary).await;
    lead(&replica).await;
    let lost = publish(&broker).await;
    follow(&primary, &replica).await;
    lead(&primary).await;
    // The second after which a connection is looked at again.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let now = publish(&broker).await;
    assert_eq!((lost.offset, now.offset), (2, 2));
    assert_ne!(lost.epoch, now.epoch);
}

#[tokio::test]
async fn a_first_replica_is_no_reason_for_another_epoch() {
    let (Some(primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    let broker = node(&primary);
    up(&broker).await;
    let before = publish(&broker).await;
    follow(&replica, &primary).await;
    let late = node(&primary);
    up(&late).await;
    assert_eq!(publish(&late).await.epoch, before.epoch);
    assert_eq!(publish(&broker).await.epoch, before.epoch);
}

#[tokio::test]
async fn a_lost_connection_is_no_reason_for_another_epoch() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let before = publish(&broker).await;
    command(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    eventually(async || try_publish(&broker).await.is_some()).await;
    assert_eq!(publish(&broker).await.epoch, before.epoch);
}

#[tokio::test]
async fn redis_that_is_emptied_under_a_connection_begins_other_epochs() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let before = publish(&broker).await;
    command(&server, &["FLUSHALL"]).await;
    let after = publish(&broker).await;
    assert_eq!((before.offset, after.offset), (1, 1));
    assert_ne!(before.epoch, after.epoch);
}
