//! A primary that changes, watched by real Sentinels.

use std::{collections::HashSet, time::Duration};

use tidings_broker::{
    Broker, Incoming, Target,
    redis::{Config, RedisUrl, Sentinel, Verdict},
    test_util::{RedisServer, Watched},
};
use tidings_core::{Position, Publication};
use tokio::time::timeout;

use crate::{
    common::{Listener, PATIENCE, channel, eventually, publication},
    rollback::RETENTION,
    up,
};

/// Everything watched, started without holding up the other tests. `None` where there is no Redis.
async fn watched() -> Option<Watched> {
    tokio::task::spawn_blocking(Watched::start).await.unwrap()
}

fn node(redis: &Watched) -> Broker {
    Broker::redis(&redis.config()).unwrap()
}

/// Publishes to the stream `a:1`, when the bus lets it; where to.
async fn try_publish(broker: &Broker) -> Option<Position> {
    let target = Target {
        retention: Some(RETENTION),
        ..Target::from(channel("a:1"))
    };
    let mut results = broker.publisher().publish(&[target], &publication("x")).await;
    results.pop().unwrap().ok()?.position
}

/// Publishes until it works.
async fn publish(broker: &Broker) -> Position {
    let published = async {
        loop {
            if let Some(position) = try_publish(broker).await {
                return position;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, published).await.expect("nothing was published")
}

#[tokio::test]
async fn publishing_goes_on_at_the_new_primary_and_subscribers_are_told_of_the_gap() {
    let Some(mut redis) = watched().await else {
        return;
    };
    let broker = node(&redis);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    let before = publish(&broker).await;
    assert_eq!(listener.hear_position().await.1, before);

    redis.primary.kill();
    let mut given = HashSet::from([(before.epoch, before.offset)]);
    for _ in 0..50 {
        let Position { offset, epoch } = publish(&broker).await;
        assert!(given.insert((epoch, offset)), "offset {offset} was given twice");
    }
    up(&broker).await;
    assert_eq!(listener.next().await, Incoming::Gap);
    let last = publish(&broker).await;
    let heard = async {
        loop {
            if let Incoming::Publication(_, Publication { position, .. }) = listener.next().await
                && position.as_ref() == Some(&last)
            {
                return;
            }
        }
    };
    timeout(PATIENCE, heard)
        .await
        .expect("the new primary's publications are not heard");
}

#[tokio::test]
async fn a_primary_that_is_replaced_in_order_loses_its_connections_to_the_new_one() {
    let Some(redis) = watched().await else {
        return;
    };
    let broker = node(&redis);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    publish(&broker).await;
    redis.fail_over();
    // Everything is on the new one: what is published there alone is heard.
    let direct = crate::node(&redis.replica);
    up(&direct).await;
    eventually(async || {
        publish(&direct).await;
        try_publish(&broker).await.is_some()
    })
    .await;
    let last = publish(&broker).await;
    let heard = async {
        loop {
            if let Incoming::Publication(_, Publication { position, .. }) = listener.next().await
                && position.as_ref() == Some(&last)
            {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("the bus is elsewhere");
}

#[tokio::test]
async fn nothing_goes_to_a_former_primary_that_takes_itself_for_the_primary_once_the_sentinels_have_named_another()
 {
    let Some(redis) = watched().await else {
        return;
    };
    let broker = node(&redis);
    up(&broker).await;
    publish(&broker).await;
    // The Sentinels cannot make it a replica, and end no connection to it: as if they did not reach it, where clients do.
    redis
        .primary
        .ask(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof", "-client"]);
    redis.fail_over();
    let length = |server: &RedisServer| -> u64 {
        redis::from_redis_value(server.ask(&["XLEN", "tidings:stream:{a:1}"])).unwrap()
    };
    let plain = async || {
        let target = Target::from(channel("n:1"));
        broker
            .publisher()
            .publish(&[target], &publication("x"))
            .await
            .remove(0)
    };
    // Its connections are never idle.
    eventually(async || {
        let _ = (try_publish(&broker).await, plain().await);
        length(&redis.replica) > length(&redis.primary)
    })
    .await;
    let (before, calls) = (length(&redis.primary), publishes(&redis.primary));
    for _ in 0..50 {
        publish(&broker).await;
        plain().await.unwrap();
    }
    assert_eq!(length(&redis.primary), before);
    assert_eq!(publishes(&redis.primary), calls, "without history, too");
    let mut pooled = broker.redis_pool().unwrap().get().await.unwrap();
    let port: (String, String) = redis::cmd("CONFIG")
        .arg(&["GET", "port"])
        .query_async(&mut pooled)
        .await
        .unwrap();
    assert_eq!(
        port.1,
        redis.replica.port().to_string(),
        "what others keep goes there, too"
    );
}

/// How often something was published at a server.
fn publishes(server: &RedisServer) -> String {
    let stats: String = redis::from_redis_value(server.ask(&["INFO", "commandstats"])).unwrap();
    let publishes = stats.lines().find(|line| line.starts_with("cmdstat_publish:"));
    publishes
        .and_then(|line| line.split(',').next())
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn sentinels_that_cannot_say_where_the_primary_is_are_named() {
    let Some(redis) = watched().await else {
        return;
    };
    let node = format!("redis://127.0.0.1:{}", redis.sentinels().next().unwrap());
    let config = Config {
        url: None,
        sentinel: Some(Sentinel {
            master: "other".to_owned(),
            nodes: vec![RedisUrl::parse(&node).unwrap()],
            username: None,
            password: None,
            db: 0,
            tls_name: None,
        }),
        ..redis.primary.config()
    };
    let reason = crate::away(&Broker::redis(&config).unwrap()).await;
    for part in ["\"other\"", &node, "it watches no"] {
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn what_waits_during_a_failover_is_published_once_at_the_new_primary() {
    let Some(mut redis) = watched().await else {
        return;
    };
    let broker = node(&redis);
    up(&broker).await;
    publish(&broker).await;
    redis.primary.kill();
    let target = Target {
        retention: Some(RETENTION),
        ..Target::from(channel("b:1"))
    };
    let deadline = Some(tokio::time::Instant::now() + PATIENCE);
    let (publisher, publication) = (broker.publisher(), publication("x"));
    let targets = [target];
    let waiting = (0..20).map(|_| publisher.publish_within(&targets, &publication, deadline));
    let mut offsets = HashSet::new();
    for mut published in futures_util::future::join_all(waiting).await {
        offsets.insert(published.pop().unwrap().unwrap().position.unwrap().offset);
    }
    assert_eq!(offsets, (1..=20).collect());
}

#[tokio::test]
async fn a_look_at_redis_says_which_sentinels_answer_and_where_the_primary_is() {
    let Some(redis) = watched().await else {
        return;
    };
    let found = tidings_broker::redis::examine(&redis.config()).await;
    let says = |verdict, part: &str| {
        let mut of = found.iter().filter(|finding| finding.verdict == verdict);
        assert!(
            of.any(|finding| finding.text.contains(part)),
            "{part}: {found:#?}"
        );
    };
    let primary = format!("the primary is at 127.0.0.1:{}", redis.primary.port());
    says(Verdict::Ok, &primary);
    says(Verdict::Warn, "Sentinel redis://127.0.0.1:1:");
    says(Verdict::Ok, "a primary with a replica in step");
    says(Verdict::Warn, "min-replicas-to-write is 0");
    assert!(
        found.iter().all(|finding| finding.verdict != Verdict::Fail),
        "{found:#?}"
    );
}
