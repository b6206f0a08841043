//! What is a loss, and what is none: evidence from after an epoch has ended, answers that only repeat what is known, and
//! acknowledgements while others are under way.

use std::time::Duration;

use futures_util::future::join_all;
use tidings_broker::{Broker, Target, Version, Watermark, test_util::RedisServer};
use tidings_core::Position;
use tokio::time::Instant;

use crate::{
    command,
    common::{channel, eventually, publication},
    node,
    rollback::RETENTION,
    up,
};

fn target(name: &str) -> Target {
    Target {
        retention: Some(RETENTION),
        ..Target::from(channel(name))
    }
}

/// Publishes to a stream; where to, and whether nothing was done.
async fn publish_to(broker: &Broker, target: Target) -> Option<(Position, bool)> {
    let mut results = broker.publisher().publish(&[target], &publication("x")).await;
    let published = results.pop()?.ok()?;
    Some((published.position?, published.duplicate))
}

async fn publish(broker: &Broker) -> Position {
    let published = publish_to(broker, target("a:1")).await;
    published.expect("Redis is there").0
}

/// Where the stream is, asked with this evidence; once that can be asked.
async fn top(broker: &Broker, known: Option<&Watermark>) -> Position {
    eventually(async || {
        let mut tops = broker.streams().positions(&[(&channel("a:1"), known)]).await;
        tops.pop().unwrap().is_ok()
    })
    .await;
    let mut tops = broker.streams().positions(&[(&channel("a:1"), known)]).await;
    tops.pop().unwrap().unwrap()
}

/// A primary goes on for a moment after another was promoted. What it acknowledged before the stream left its epoch was
/// told with that; what it acknowledges afterwards is one more loss.
#[tokio::test]
async fn what_a_former_primary_acknowledged_after_the_epoch_had_changed_is_one_more_loss() {
    for goes_on in [false, true] {
        let (Some(mut former), Some(mut replica)) = (RedisServer::start(), RedisServer::start()) else {
            return;
        };
        replica.follow(&former);
        let publisher = node(&former);
        up(&publisher).await;
        let replicated = publish(&publisher).await;
        eventually(async || top(&node(&replica), None).await == replicated).await;
        replica.stop_replication(&former);
        let lost = publish(&publisher).await;
        // How long ago it was is known but for the time that a command is on its way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        command(&replica, &["REPLICAOF", "NO", "ONE"]).await;
        // A gateway that received it presents it to the new primary.
        let told = top(&node(&replica), Some(&lost.clone().into())).await;
        assert_ne!(told.epoch, lost.epoch);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if goes_on {
            assert_eq!(publish(&publisher).await.epoch, lost.epoch);
        }

        // The publisher is led to the new primary.
        former.kill();
        let port = former.port();
        drop(former);
        replica.resume_replication();
        let mut heir = RedisServer::reserve_port(port, &[]).unwrap();
        heir.up();
        heir.follow(&replica);
        command(&heir, &["REPLICAOF", "NO", "ONE"]).await;
        replica.kill();
        let next = eventually_published(&publisher).await;
        assert_ne!(next.epoch, lost.epoch);
        assert_eq!(next.epoch != told.epoch, goes_on, "{next:?} after {told:?}");
        // Once.
        assert_eq!(top(&publisher, None).await.epoch, next.epoch);
    }
}

/// The publisher that had the answer is gone, and a gateway is left that received the publication.
#[tokio::test]
async fn what_a_former_primary_sent_to_a_gateway_after_the_epoch_had_changed_is_one_more_loss() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let given = publish(&broker).await;
    let gateway = node(&server);
    let received = |after: u64, ago: u64| Watermark {
        position: Position {
            offset: given.offset + after,
            ..given.clone()
        },
        at: Instant::now().checked_sub(Duration::from_millis(ago)).unwrap(),
    };
    let changed = top(&gateway, Some(&received(5, 1000))).await;
    assert_ne!(changed.epoch, given.epoch);
    let before = top(&gateway, Some(&received(6, 1000))).await;
    assert_eq!(before, changed, "it came before the change");
    // Received just now: after the change, from a millisecond after it on.
    eventually(async || top(&gateway, Some(&received(7, 0))).await.epoch != changed.epoch).await;
    let again = top(&gateway, None).await;
    assert_eq!(top(&gateway, Some(&received(7, 0))).await, again, "once");
}

/// Evidence is as old as it says, and was on its way for a while after that. What the stream had when it left an epoch is
/// no loss, however late that is said.
#[tokio::test]
async fn what_was_given_before_an_epoch_ended_is_no_loss_however_long_a_publish_is_on_its_way() {
    for removed in [false, true] {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let publisher = node(&server);
        up(&publisher).await;
        let given = publish(&publisher).await;
        let other = node(&server);
        if removed {
            other.streams().remove(&channel("a:1")).await.unwrap();
        } else {
            // A gateway presents what a primary that was replaced had given.
            let lost = Position {
                offset: given.offset + 5,
                ..given.clone()
            };
            top(&other, Some(&lost.clone().into())).await;
        }
        let changed = top(&other, None).await;
        assert_ne!(changed.epoch, given.epoch);
        // The generation of Redis is known: the pause is not spent on asking for it.
        let _ = publish_to(&publisher, target("b:1")).await;
        command(&server, &["CLIENT", "PAUSE", "200", "ALL"]).await;
        let next = publish(&publisher).await;
        assert_eq!((next.epoch, next.offset), (changed.epoch, changed.offset + 1));
    }
}

async fn eventually_published(broker: &Broker) -> Position {
    loop {
        if let Some((position, _)) = publish_to(broker, target("a:1")).await {
            return position;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_version_that_is_too_old_after_a_restart_that_lost_nothing_is_no_loss() {
    let Some(mut server) = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let versioned = |number| Target {
        version: Some(Version {
            number,
            epoch: "rows".into(),
        }),
        ..target("a:1")
    };
    let (first, _) = publish_to(&broker, versioned(5)).await.unwrap();
    server.kill();
    server.up();
    let mut old = None;
    while old.is_none() {
        old = publish_to(&broker, versioned(3)).await;
    }
    assert_eq!(old, Some((first.clone(), true)), "where the stream is");
    let (next, duplicate) = publish_to(&broker, versioned(6)).await.unwrap();
    assert!(!duplicate);
    assert_eq!(next.epoch, first.epoch, "nothing was lost");
    assert_eq!(top(&broker, None).await, next);
}

/// How many scripts a server has run.
async fn scripts(server: &RedisServer) -> usize {
    let answer = command(server, &["INFO", "commandstats"]).await;
    let info: String = redis::from_redis_value(answer).unwrap();
    let calls = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap_or(0)
}

#[tokio::test]
async fn publishes_that_overlap_ask_no_more_of_redis_than_those_that_do_not() {
    const OTHERS: usize = 300;
    const PUBLISHERS: usize = 8;
    const EACH: usize = 200;
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    for n in 0..OTHERS {
        publish_to(&broker, target(&format!("b:{n}"))).await.unwrap();
    }
    // Everything that is known is compared once.
    command(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    let before = scripts(&server).await;
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let broker = &broker;
        async move {
            for _ in 0..EACH {
                while publish_to(broker, target(&format!("a:{publisher}")))
                    .await
                    .is_none()
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    });
    join_all(publishers).await;
    let ran = scripts(&server).await - before;
    let most = PUBLISHERS * EACH + 4 * (OTHERS + PUBLISHERS);
    assert!(ran <= most, "{ran} scripts, {most} at most");
}
