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
    let mut tops = broker.streams().positions(&[(&channel("a:1"), None)]).await;
    tops.pop().unwrap().unwrap()
}

/// Where the entries of the stream are, and what each follows.
async fn kept(broker: &Broker, retention: Retention) -> Vec<(u64, u64)> {
    let query = Query {
        limit: 100,
        ..Query::default()
    };
    let history = broker
        .streams()
        .read(&channel("a:1"), retention, query, None)
        .await;
    let publications = history.unwrap().publications.into_iter();
    let places = publications.map(|it| (it.position.as_ref().unwrap().offset, it.follows().unwrap()));
    places.collect()
}

/// Whether the stream has another epoch than `before`, or soon will.
async fn changes(broker: &Broker, before: &Position) {
    eventually(async || top(broker).await.epoch != before.epoch).await;
}

async fn lead(server: &RedisServer) {
    command(server, &["REPLICAOF", "NO", "ONE"]).await;
}

#[tokio::test]
async fn a_stream_that_has_lost_what_was_acknowledged_gets_another_epoch() {
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
    assert_eq!(
        kept(&broker, RETENTION).await.len(),
        5,
        "what came back is still there"
    );
}

#[tokio::test]
async fn a_stream_in_which_nothing_more_happens_gets_another_epoch_too_if_it_has_lost_something() {
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
    eventually(async || one.streams().positions(&[(&channel("a:1"), None)]).await[0].is_ok()).await;
    changes(&one, &before).await;
    assert_eq!(top(&one).await, top(&other).await);
    assert_eq!(top(&one).await.offset, 1);
}

#[tokio::test]
async fn a_restart_that_loses_nothing_keeps_the_epoch() {
    let Some(mut server) = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    publish(&broker).await;
    let before = publish(&broker).await;

    server.kill();
    server.up();
    eventually(async || try_publish(&broker).await.is_some()).await;
    let now = top(&broker).await;
    assert_eq!(now.epoch, before.epoch);
    let places = kept(&broker, RETENTION).await;
    assert_eq!(places[..2], [(1, 0), (2, 1)]);
    assert_eq!(places[2], (now.offset, 2), "a seam says what it follows");
}

#[tokio::test]
async fn a_seam_counts_for_nothing_in_the_size_of_a_stream() {
    let Some(mut server) = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    for _ in 0..3 {
        publish(&broker).await;
        server.kill();
        server.up();
        eventually(async || try_publish(&broker).await.is_some()).await;
    }
    let places = kept(&broker, RETENTION).await;
    assert!(places.is_sorted() && places.len() >= 6, "{places:?}");
    assert!(places.windows(2).all(|pair| pair[1].1 == pair[0].0), "{places:?}");
    for size in 1..6 {
        let retention = Retention {
            size: NonZeroU32::new(size).unwrap(),
            ..RETENTION
        };
        let newest = &places[places.len() - size as usize..];
        assert_eq!(kept(&broker, retention).await, newest);
    }
}

#[tokio::test]
async fn no_offset_is_given_twice_after_a_failover_that_lost_what_nobody_there_knows_of() {
    let (Some(mut primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    let broker = node(&primary);
    up(&broker).await;
    publish(&broker).await;
    replica.follow(&primary);
    lead(&replica).await;
    let lost = publish(&broker).await;
    primary.kill();

    let broker = node(&replica);
    up(&broker).await;
    let now = publish(&broker).await;
    assert_eq!((lost.offset, &lost.epoch), (2, &now.epoch));
    assert!(now.offset > lost.offset);
    assert_eq!(kept(&broker, RETENTION).await, [(1, 0), (now.offset, 1)]);

    // Somebody knows of it after all.
    let asked = broker
        .streams()
        .positions(&[(&channel("a:1"), Some(&lost))])
        .await;
    let told = asked.into_iter().next().unwrap().unwrap();
    assert_ne!(told.epoch, lost.epoch);
    assert_eq!(told.offset, now.offset);
    let later = publish(&broker).await;
    assert_eq!((later.offset, later.epoch), (now.offset + 1, told.epoch));
}

#[tokio::test]
async fn no_offset_is_given_twice_in_a_stream_that_lost_all_it_had() {
    let (Some(mut primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    let broker = node(&primary);
    up(&broker).await;
    let begun = top(&broker).await;
    replica.follow(&primary);
    lead(&replica).await;
    let lost = publish(&broker).await;
    assert_eq!((lost.offset, &lost.epoch), (1, &begun.epoch));
    primary.kill();

    let broker = node(&replica);
    up(&broker).await;
    let now = publish(&broker).await;
    assert!(now.epoch != lost.epoch || now.offset > lost.offset, "{now:?}");
}

#[tokio::test]
async fn what_is_known_of_a_stream_that_has_it_changes_nothing() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    publish(&broker).await;
    let top = publish(&broker).await;
    let news = channel("a:1");
    for offset in 0..=2 {
        let known = Position {
            offset,
            ..top.clone()
        };
        let asked = broker.streams().positions(&[(&news, Some(&known))]).await;
        assert_eq!(asked[0].as_ref().unwrap(), &top);
    }
    let elsewhere = Position {
        offset: 77,
        epoch: "elsewhere".into(),
    };
    let asked = broker.streams().positions(&[(&news, Some(&elsewhere))]).await;
    assert_eq!(asked[0].as_ref().unwrap(), &top, "another life of the stream");
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
    replica.follow(&primary);
    lead(&replica).await;
    let lost = publish(&broker).await;
    primary.follow(&replica);
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
    replica.follow(&primary);
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
