//! What becomes of streams when Redis goes back in time.

use std::{num::NonZeroU32, time::Duration};

use tidings_broker::{Broker, Query, Target, Watermark, test_util::RedisServer};
use tidings_core::{Position, Retention};
use tokio::time::Instant;

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

/// Where the stream is, once that can be asked.
async fn top_if(broker: &Broker) -> Option<Position> {
    let mut tops = broker.streams().positions(&[(&channel("a:1"), None)]).await;
    tops.pop().unwrap().ok()
}

/// What a server says of its replication.
fn info(server: &RedisServer) -> String {
    redis::from_redis_value(server.ask(&["INFO", "replication"])).unwrap()
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
    eventually(async || {
        let top = top_if(broker).await;
        top.is_some_and(|top| top.epoch != before.epoch)
    })
    .await;
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
        .positions(&[(&channel("a:1"), Some(&lost.clone().into()))])
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
    assert!(begun.is_provisional());
    assert_eq!(lost.offset, 1);
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
        let asked = broker.streams().positions(&[(&news, Some(&known.into()))]).await;
        assert_eq!(asked[0].as_ref().unwrap(), &top);
    }
}

#[tokio::test]
async fn evidence_of_an_unknown_epoch_changes_a_streams_epoch_once_however_many_gateways_have_it() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let top = publish(&broker).await;
    let news = channel("a:1");
    // All were given before anything is compared.
    let at = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let compare = async |offset, epoch: &str| -> Position {
        let epoch = epoch.to_owned();
        let known = Watermark {
            position: Position { offset, epoch },
            at,
        };
        let asked = broker.streams().positions(&[(&news, Some(&known))]).await;
        asked.into_iter().next().unwrap().unwrap()
    };
    let changed = compare(77, "lost").await;
    assert_eq!(changed.offset, top.offset, "what is there stays");
    assert_ne!(changed.epoch, top.epoch);
    for offset in [77, 1, 80] {
        assert_eq!(compare(offset, "lost").await, changed);
    }
    assert_eq!(
        compare(1, &top.epoch).await,
        changed,
        "the stream's own former epoch"
    );
    assert_eq!(compare(0, "other").await, changed, "nothing was given there");
    let later = publish(&broker).await;
    assert_eq!((later.offset, &later.epoch), (2, &changed.epoch));
}

#[tokio::test]
async fn a_loss_is_noticed_by_its_publisher_after_two_crashes_between_two_snapshots() {
    let Some(mut server) = RedisServer::start_with(&["--save", ""]) else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let snapshot = publish(&broker).await;
    command(&server, &["SAVE"]).await;
    let mut epochs = vec![snapshot.epoch.clone()];
    for _ in 0..3 {
        publish(&broker).await;
        server.kill();
        server.up();
        eventually(async || {
            let top = top_if(&broker).await;
            top.is_some_and(|top| !epochs.contains(&top.epoch))
        })
        .await;
        epochs.push(top(&broker).await.epoch);
    }
}

#[tokio::test]
async fn a_loss_is_noticed_after_a_crash_that_undid_the_removal_of_the_stream() {
    let Some(mut server) = RedisServer::start_with(&["--save", ""]) else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let snapshot = publish(&broker).await;
    command(&server, &["SAVE"]).await;
    broker.streams().remove(&channel("a:1")).await.unwrap();
    let lost = publish(&broker).await;
    assert_eq!(lost.offset, 1);
    server.kill();
    server.up();
    eventually(async || {
        let top = top_if(&broker).await;
        top.is_some_and(|top| top.epoch != snapshot.epoch && top.epoch != lost.epoch)
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_cannot_be_compared_keeps_no_loss_of_others_from_being_noticed() {
    let Some(mut server) = RedisServer::start_with(&["--save", ""]) else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let other = Target {
        retention: Some(RETENTION),
        ..Target::from(channel("b:2"))
    };
    let published = broker.publisher().publish(&[other], &publication("x")).await;
    published[0].as_ref().unwrap();
    command(&server, &["SET", "tidings:top:{b:2}", "of another type"]).await;
    let mut epochs = vec![publish(&broker).await.epoch];
    command(&server, &["SAVE"]).await;
    for _ in 0..2 {
        publish(&broker).await;
        server.kill();
        server.up();
        eventually(async || {
            let top = top_if(&broker).await;
            top.is_some_and(|top| !epochs.contains(&top.epoch))
        })
        .await;
        epochs.push(top(&broker).await.epoch);
    }
}

#[tokio::test]
async fn a_redis_that_goes_back_to_one_snapshot_twice_gives_no_offset_twice() {
    let Some(mut server) = RedisServer::start_with(&["--save", ""]) else {
        return;
    };
    let first = node(&server);
    up(&first).await;
    let before = publish(&first).await;
    command(&server, &["SAVE"]).await;
    drop(first);
    let mut given = vec![before];
    for _ in 0..3 {
        server.kill();
        server.up();
        // Nobody is left that knows of what was published after the snapshot.
        let broker = node(&server);
        up(&broker).await;
        let next = publish(&broker).await;
        assert!(!given.contains(&next), "{next:?} of {given:?}");
        given.push(next);
    }
}

#[tokio::test]
async fn a_primary_that_forgets_whom_it_followed_makes_no_offset_jump() {
    let (Some(primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    replica.follow(&primary);
    lead(&replica).await;
    command(&replica, &["CONFIG", "SET", "repl-backlog-ttl", "1"]).await;
    let (one, other) = (node(&replica), node(&replica));
    up(&one).await;
    up(&other).await;
    let first = publish(&one).await;
    assert_eq!(publish(&other).await.offset, first.offset + 1);
    let zeros = "master_replid2:0000000000000000000000000000000000000000";
    eventually(async || info(&replica).contains(zeros)).await;
    // Both are busy all the time, and ask for the generation at different moments.
    let busy = tokio::time::Instant::now();
    let mut last = first.offset + 1;
    while busy.elapsed() < Duration::from_millis(1500) {
        for node in [&one, &other] {
            let next = publish(node).await.offset;
            assert_eq!(next, last + 1);
            last = next;
        }
    }
}

#[tokio::test]
async fn a_busy_connection_notices_that_its_primary_has_followed_another_meanwhile() {
    let (Some(primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    let broker = node(&primary);
    up(&broker).await;
    publish(&broker).await;
    replica.follow(&primary);
    lead(&replica).await;
    let lost = publish(&broker).await;
    primary.follow(&replica);
    lead(&primary).await;
    // Never idle: whatever is published meanwhile is evidence.
    eventually(async || {
        try_publish(&broker)
            .await
            .is_some_and(|now| now.epoch != lost.epoch)
    })
    .await;
}

#[tokio::test]
async fn a_stream_whose_offsets_come_to_their_end_begins_anew_under_another_epoch() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let before = publish(&broker).await;
    let end = (1_u64 << 53) - 2;
    command(
        &server,
        &["HSET", "tidings:top:{a:1}", "offset", &end.to_string()],
    )
    .await;
    let last = publish(&broker).await;
    assert_eq!((last.offset, &last.epoch), (end + 1, &before.epoch));
    let anew = publish(&broker).await;
    assert_eq!(anew.offset, 1);
    assert_ne!(anew.epoch, before.epoch);
    assert_eq!(kept(&broker, RETENTION).await, [(1, 0)]);
}

#[tokio::test]
async fn a_channel_that_is_only_asked_for_leaves_nothing_in_redis() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    kept(&broker, RETENTION).await;
    assert!(top(&broker).await.is_provisional());
    assert_eq!(
        server.ask(&["KEYS", "*"]),
        redis::Value::Array(vec![redis::Value::BulkString(b"tidings:format".to_vec())])
    );
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
