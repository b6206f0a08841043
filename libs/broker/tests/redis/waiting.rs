//! What is published while Redis is away, within a deadline.

use std::time::Duration;

use tidings_broker::{Broker, Error, Once, Published, Query, Target, test_util::RedisServer};
use tokio::time::Instant;

use crate::{
    away, command,
    common::{Listener, PATIENCE, channel, eventually, publication},
    node,
    rollback::RETENTION,
    up,
};

fn kept() -> Target {
    Target {
        retention: Some(RETENTION),
        ..Target::from(channel("a:1"))
    }
}

async fn publish(broker: &Broker, target: Target, patience: Duration) -> Result<Published, Error> {
    let deadline = Some(Instant::now() + patience);
    let publisher = broker.publisher();
    let mut results = publisher
        .publish_within(&[target], &publication("x"), deadline)
        .await;
    results.pop().unwrap()
}

async fn entries(broker: &Broker) -> usize {
    let query = Query {
        limit: 1000,
        ..Query::default()
    };
    let history = broker
        .streams()
        .read(&channel("a:1"), RETENTION, query, None)
        .await;
    history.unwrap().publications.len()
}

#[tokio::test]
async fn what_is_published_during_an_outage_arrives_once_after_it() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    server.kill();
    away(&broker).await;

    let waiting = tokio::join!(
        publish(&broker, kept(), PATIENCE),
        publish(&broker, Target::from(channel("b:1")), PATIENCE),
        publish(
            &broker,
            Target {
                once: Some(Once::new("e1")),
                ..kept()
            },
            PATIENCE
        ),
        async {
            // They have failed once by then.
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.up();
        }
    );
    for published in [waiting.0, waiting.1, waiting.2] {
        assert!(!published.unwrap().duplicate);
    }
    assert_eq!(entries(&broker).await, 2);
}

#[tokio::test]
async fn a_publish_whose_answer_is_lost_is_repeated_and_kept_once() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    publish(&broker, kept(), PATIENCE).await.unwrap();
    for count in 2..20 {
        // Redis takes the publish in and closes the connection before it answers.
        command(&server, &["CLIENT", "PAUSE", "50", "WRITE"]).await;
        let (published, ()) = tokio::join!(publish(&broker, kept(), PATIENCE), async {
            command(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        });
        assert!(!published.unwrap().duplicate);
        assert_eq!(eventually_entries(&broker).await, count);
    }
}

/// The same, once Redis lets us.
async fn eventually_entries(broker: &Broker) -> usize {
    let query = Query {
        limit: 1000,
        ..Query::default()
    };
    let streams = broker.streams();
    eventually(async || streams.positions(&[(&channel("a:1"), None)]).await[0].is_ok()).await;
    let history = streams.read(&channel("a:1"), RETENTION, query, None).await;
    history.unwrap().publications.len()
}

#[tokio::test]
async fn who_cannot_wait_longer_is_told_that_redis_is_away() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    server.kill();
    away(&broker).await;
    let refused = publish(&broker, kept(), Duration::from_millis(200)).await;
    assert!(matches!(refused, Err(Error::Away { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_redis_refuses_is_not_tried_again() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    command(&server, &["SET", "tidings:top:{a:1}", "no top"]).await;
    let begin = Instant::now();
    let refused = publish(&broker, kept(), PATIENCE).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert!(begin.elapsed() < PATIENCE);
}

#[tokio::test]
async fn no_more_waits_than_there_is_room_for() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    server.kill();
    away(&broker).await;
    let large = tidings_core::Publication {
        data: vec![b'1'; 40 << 20].into(),
        ..publication("")
    };
    let publisher = broker.publisher();
    let deadline = Some(Instant::now() + Duration::from_secs(2));
    let targets = [kept()];
    let (one, other) = tokio::join!(
        publisher.publish_within(&targets, &large, deadline),
        publisher.publish_within(&targets, &large, deadline),
    );
    let full = [one, other].concat().into_iter();
    let full = full
        .filter(|result| matches!(result, Err(Error::Away { reason }) if reason.contains("too much waits")));
    assert_eq!(full.count(), 1);
}

#[tokio::test]
async fn a_repeat_of_ones_own_is_told_by_its_key() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    let target = Target {
        once: Some(Once::new("e1")),
        ..kept()
    };
    let first = publish(&broker, target.clone(), PATIENCE).await.unwrap();
    let second = publish(&broker, target, PATIENCE).await.unwrap();
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    assert_eq!(first.position, second.position);
    listener.hear().await;
    listener.assert_silent(&broker.publisher()).await;
}

/// Too few replicas as after a failover, no memory left, a script that runs for long: none is about the publication.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refuses_all_writes_for_a_while_is_waited_for() {
    let begin_and_end: [[&[&str]; 2]; 3] = [
        [
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
        ],
        [
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
        ],
        [&["EVAL", "while true do end", "0"], &["SCRIPT", "KILL"]],
    ];
    for [begin, end] in begin_and_end {
        let Some(server) = RedisServer::start_with(&["--busy-reply-threshold", "10"]) else {
            return;
        };
        let broker = node(&server);
        up(&broker).await;
        publish(&broker, kept(), PATIENCE).await.unwrap();
        // A script does not answer before it is killed.
        let _ = tokio::time::timeout(Duration::from_millis(100), command(&server, begin)).await;
        let ends = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            command(&server, end).await;
        };
        // Who has to ask first which generation it is, is answered so, too.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let refused = broker.publisher().publish(&[kept()], &publication("x")).await;
        assert!(
            matches!(refused[..], [Err(Error::Away { .. })]),
            "{begin:?}: {refused:?}"
        );
        let is_known = async {
            let news = channel("a:1");
            eventually(async || broker.publisher().is_away(&news)).await;
            ends.await;
        };
        let (published, ()) = tokio::join!(publish(&broker, kept(), PATIENCE), is_known);
        assert!(published.is_ok(), "{begin:?}: {published:?}");
        eventually(async || !broker.publisher().is_away(&channel("a:1"))).await;
        assert_eq!(entries(&broker).await, 2, "once each");
    }
}
