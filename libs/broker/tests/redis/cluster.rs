//! A real Redis Cluster: slots that move, primaries that are replaced, nodes that are gone.

use std::collections::BTreeSet;

use tidings_broker::{
    Broker, Error, Incoming, Query, Status, Target, redis::Verdict, test_util::RedisCluster,
};
use tidings_core::Position;
use tokio::time::{Instant, timeout};

use crate::{
    common::{Listener, PATIENCE, channel, eventually, publication},
    rollback::RETENTION,
    up, wait_for,
};

/// One without replicas, started without holding up the other tests. `None` where there is no Redis.
async fn cluster() -> Option<RedisCluster> {
    tokio::task::spawn_blocking(RedisCluster::start).await.unwrap()
}

fn node(cluster: &RedisCluster) -> Broker {
    Broker::redis(&cluster.config()).unwrap()
}

fn kept(name: &str) -> Target {
    Target {
        retention: Some(RETENTION),
        ..Target::from(channel(name))
    }
}

/// The names of channels, one at each primary.
fn everywhere(cluster: &RedisCluster) -> Vec<String> {
    let mut names: Vec<Option<String>> = vec![None; 3];
    for number in 0.. {
        let name = format!("a:{number}");
        let owner = cluster.owner(cluster.slot(&name));
        names[owner].get_or_insert(name);
        if names.iter().all(Option::is_some) {
            break;
        }
    }
    names.into_iter().flatten().collect()
}

/// Publishes to a stream within a while; where to.
async fn publish(broker: &Broker, name: &str) -> Result<Position, Error> {
    let deadline = Some(Instant::now() + PATIENCE);
    let publisher = broker.publisher();
    let mut results = publisher
        .publish_within(&[kept(name)], &publication("x"), deadline)
        .await;
    Ok(results.pop().unwrap()?.position.unwrap())
}

/// The offsets that a listener hears in a stream, until it has heard `last`.
async fn hears(listener: &mut Listener, last: &Position) -> BTreeSet<u64> {
    let mut offsets = BTreeSet::new();
    let hearing = async {
        loop {
            if let Incoming::Publication(_, publication) = listener.next().await {
                let position = publication.position.unwrap();
                assert!(offsets.insert(position.offset), "{position:?} was heard twice");
                if position == *last {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, hearing)
        .await
        .expect("what was published is not heard");
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_its_stream_and_its_subscribers_along() {
    let Some(cluster) = cluster().await else { return };
    let (broker, other) = (node(&cluster), node(&cluster));
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    let first = publish(&broker, "a:1").await.unwrap();
    assert_eq!(hears(&mut listener, &first).await, [1].into());

    let slot = cluster.slot("a:1");
    let to = (cluster.owner(slot) + 1) % 3;
    cluster.move_slot(slot, to);
    // The other has published nothing yet, and goes the old way at first.
    let second = publish(&other, "a:1").await.unwrap();
    assert_eq!(second.epoch, first.epoch, "nothing was lost");
    // It is received, or missed while the slot moved; then the gap comes after it. The subscriber may have moved before.
    let moved = async {
        loop {
            match listener.next().await {
                Incoming::Gap => return,
                Incoming::Publication(_, publication) => {
                    assert_eq!(publication.position.as_ref(), Some(&second));
                }
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, moved)
        .await
        .expect("there was a gap, and nobody said so");
    let third = publish(&broker, "a:1").await.unwrap();
    assert_eq!(third.offset, second.offset + 1);
    let heard = hears(&mut listener, &third).await;
    assert!(
        heard.is_subset(&[second.offset, third.offset].into()),
        "{heard:?}"
    );
    let query = Query {
        limit: 10,
        ..Query::default()
    };
    let history = broker
        .streams()
        .read(&channel("a:1"), RETENTION, query, None)
        .await
        .unwrap();
    assert_eq!(history.publications.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_a_slot_is_on_its_way_is_kept_and_published_once() {
    let Some(cluster) = cluster().await else { return };
    let broker = node(&cluster);
    up(&broker).await;
    let first = publish(&broker, "a:1").await.unwrap();
    let slot = cluster.slot("a:1");
    let to = (cluster.owner(slot) + 1) % 3;
    let migration = cluster.begin_move(slot, to);
    // All of it is here still.
    let here = broker.streams().positions(&[(&channel("a:1"), None)]).await;
    assert_eq!(here[0].as_ref().unwrap(), &first);
    // Nobody can say where what is new belongs, until all is there.
    let waiting = async { tokio::join!(publish(&broker, "a:1"), publish(&broker, "a:1")) };
    let ends = async {
        tokio::task::yield_now().await;
        cluster.end_move(migration);
    };
    let ((one, two), ()) = tokio::join!(waiting, ends);
    let offsets: BTreeSet<u64> = [one.unwrap(), two.unwrap()]
        .into_iter()
        .map(|at| at.offset)
        .collect();
    let query = Query {
        limit: 10,
        ..Query::default()
    };
    let history = broker
        .streams()
        .read(&channel("a:1"), RETENTION, query, None)
        .await
        .unwrap();
    assert_eq!(history.top.epoch, first.epoch);
    let there: Vec<u64> = history
        .publications
        .iter()
        .map(|it| it.position.as_ref().unwrap().offset)
        .collect();
    assert_eq!(there, [1].into_iter().chain(offsets).collect::<Vec<_>>());
}

/// Moves the keys of a channel to where its slot is on its way to, and does not end the move.
fn move_keys(cluster: &RedisCluster, name: &str, from: usize, to: usize) {
    let port = cluster.nodes[to].port().to_string();
    let slot = cluster.slot(name).to_string();
    let keys = cluster.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
    for key in redis::from_redis_value::<Vec<String>>(keys).unwrap() {
        cluster.nodes[from].ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_keys_have_moved_is_used_before_the_move_of_its_slot_has_ended() {
    let Some(cluster) = cluster().await else { return };
    let (broker, other) = (node(&cluster), node(&cluster));
    up(&broker).await;
    up(&other).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    let first = publish(&broker, "a:1").await.unwrap();
    assert_eq!(hears(&mut listener, &first).await, [1].into());
    let slot = cluster.slot("a:1");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let migration = cluster.begin_move(slot, to);
    move_keys(&cluster, "a:1", from, to);

    for number in 1..=3 {
        let next = publish(&other, "a:1").await.unwrap();
        assert_eq!(next.epoch, first.epoch, "nothing was lost");
        assert!(
            hears(&mut listener, &next).await.len() == 1,
            "it is received at once"
        );
        let top = broker
            .streams()
            .positions(&[(&channel("a:1"), Some(&next.clone().into()))])
            .await;
        assert_eq!(top[0].as_ref().unwrap(), &next);
        let query = Query {
            limit: 10,
            ..Query::default()
        };
        let read = broker
            .streams()
            .read(&channel("a:1"), RETENTION, query, None)
            .await;
        assert_eq!(read.unwrap().publications.len(), number + 1);
    }
    cluster.end_move(migration);
    publish(&other, "a:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_never_published_is_used_while_its_slot_moves() {
    let Some(cluster) = cluster().await else { return };
    let broker = node(&cluster);
    up(&broker).await;
    let slot = cluster.slot("a:1");
    let to = (cluster.owner(slot) + 1) % 3;
    let migration = cluster.begin_move(slot, to);
    let position = broker.streams().positions(&[(&channel("a:1"), None)]).await;
    assert!(position[0].as_ref().unwrap().is_provisional());
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    let first = publish(&broker, "a:1").await.unwrap();
    assert_eq!(hears(&mut listener, &first).await, [1].into());
    cluster.end_move(migration);
    assert_eq!(publish(&broker, "a:1").await.unwrap().epoch, first.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_receives_on_after_its_slot_has_moved_there_and_back_at_once() {
    let Some(cluster) = cluster().await else { return };
    let broker = node(&cluster);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("n:1").await;
    let slot = cluster.slot("n:1");
    let from = cluster.owner(slot);
    for number in 0..8 {
        cluster.move_slot(slot, (from + 1) % 3);
        tokio::time::sleep(std::time::Duration::from_millis(number * 5)).await;
        cluster.move_slot(slot, from);
        let received = async {
            loop {
                crate::common::publish(&broker.publisher(), "n:1", "x").await;
                let next = timeout(std::time::Duration::from_millis(50), listener.next()).await;
                if matches!(next, Ok(Incoming::Publication(..))) {
                    return;
                }
            }
        };
        timeout(PATIENCE, received).await.expect("the subscriber is deaf");
        listener.drain();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_felt_by_its_own_slots_only() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    for node in &cluster.nodes {
        node.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let names = everywhere(&cluster);
    let broker = node(&cluster);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    for name in &names {
        listener.subscribe(name).await;
    }
    let here = publish(&broker, &names[0]).await.unwrap();
    assert_eq!(hears(&mut listener, &here).await, [1].into());
    cluster.nodes[1].kill();

    let reason = wait_for(&broker, |status| matches!(status, Status::Away { .. })).await;
    let port = cluster.nodes[1].port().to_string();
    let Status::Away { reason } = reason else {
        unreachable!()
    };
    assert!(
        reason.contains(&port) || reason.contains("have no owner"),
        "{reason}"
    );
    for name in [&names[0], &names[2]] {
        let position = publish(&broker, name).await.unwrap();
        hears(&mut listener, &position).await;
        listener.unsubscribe(name).await;
        listener.subscribe(name).await;
    }
    let publisher = broker.publisher();
    let away = names.iter().map(|name| publisher.is_away(&channel(name)));
    assert_eq!(away.collect::<Vec<_>>(), [false, true, false]);
    let mut results = publisher.publish(&[kept(&names[1])], &publication("x")).await;
    assert!(matches!(results.pop().unwrap(), Err(Error::Away { .. })));
    let refused = listener.subscriber.subscribe(&channel(&names[1])).await;
    assert!(matches!(refused, Err(Error::Away { .. })), "{refused:?}");

    cluster.nodes[1].up();
    up(&broker).await;
    let back = publish(&broker, &names[1]).await.unwrap();
    hears(&mut listener, &back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_and_everything_goes_on_there() {
    let started = tokio::task::spawn_blocking(RedisCluster::with_replicas).await;
    let Some(mut cluster) = started.unwrap() else {
        return;
    };
    let names = everywhere(&cluster);
    let broker = node(&cluster);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    for name in &names {
        listener.subscribe(name).await;
        publish(&broker, name).await.unwrap();
    }
    let before = publish(&broker, &names[1]).await.unwrap();
    hears_all(&mut listener, 4).await;
    cluster.nodes[1].ask(&["WAIT", "1", "5000"]);
    cluster.nodes[1].kill();

    let mut given = BTreeSet::from([before.offset]);
    for _ in 0..20 {
        let position = publish(&broker, &names[1]).await.unwrap();
        assert_eq!(position.epoch, before.epoch, "nothing was lost");
        assert!(given.insert(position.offset), "{position:?} was given twice");
    }
    up(&broker).await;
    let last = publish(&broker, &names[1]).await.unwrap();
    eventually_hears(&mut listener, &last).await;
    let elsewhere = publish(&broker, &names[0]).await.unwrap();
    eventually_hears(&mut listener, &elsewhere).await;
}

async fn hears_all(listener: &mut Listener, count: usize) {
    for _ in 0..count {
        assert!(matches!(listener.next().await, Incoming::Publication(..)));
    }
}

async fn eventually_hears(listener: &mut Listener, last: &Position) {
    let hearing = async {
        loop {
            if let Incoming::Publication(_, publication) = listener.next().await
                && publication.position.as_ref() == Some(last)
            {
                return;
            }
        }
    };
    timeout(PATIENCE, hearing).await.expect("it is not heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_at_start_is_joined_when_it_comes() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    for node in &mut cluster.nodes {
        node.kill();
    }
    let broker = node(&cluster);
    let listener = Listener::new(&broker);
    let refused = listener.subscriber.subscribe(&channel("a:1")).await;
    assert!(matches!(refused, Err(Error::Away { .. })), "{refused:?}");
    for node in &mut cluster.nodes {
        node.up();
    }
    up(&broker).await;
    let mut listener = listener;
    assert_eq!(listener.next().await, Incoming::Gap);
    let position = publish(&broker, "a:1").await.unwrap();
    hears(&mut listener, &position).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_something_there_reaches_all_of_it() {
    let Some(cluster) = cluster().await else { return };
    let broker = node(&cluster);
    let pool = broker.redis_pool().unwrap();
    let mut connection = pool.get().await.unwrap();
    let names = everywhere(&cluster);
    let mut pipeline = redis::pipe();
    pipeline
        .cmd("SCRIPT")
        .arg("LOAD")
        .arg("return {KEYS[1], ARGV[1]}")
        .ignore();
    let script = redis::Script::new("return {KEYS[1], ARGV[1]}");
    for name in &names {
        pipeline.cmd("SET").arg(name).arg(1).ignore();
        pipeline.cmd("INCR").arg(name);
        pipeline
            .cmd("EVALSHA")
            .arg(script.get_hash())
            .arg(1)
            .arg(name)
            .arg("x");
    }
    type Each = (i64, (String, String));
    let all: Vec<redis::Value> = pipeline.query_async(&mut connection).await.unwrap();
    let all = all
        .chunks(2)
        .map(|pair| redis::from_redis_value::<Each>(redis::Value::Array(pair.to_vec())).unwrap());
    let expected = names.iter().map(|name| (2, (name.clone(), "x".to_owned())));
    assert_eq!(all.collect::<Vec<_>>(), expected.collect::<Vec<Each>>());
    // A script that only some of them know, by the library's own way.
    let other = redis::Script::new("return redis.call('GET', KEYS[1])");
    for name in &names {
        let found: i64 = other.key(name).invoke_async(&mut connection).await.unwrap();
        assert_eq!(found, 2);
    }
    let wrong: redis::RedisResult<()> = redis::cmd("HGET")
        .arg(&names[0])
        .arg("x")
        .query_async(&mut connection)
        .await;
    assert_eq!(wrong.unwrap_err().code(), Some("WRONGTYPE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_the_cluster_says_how_each_of_its_nodes_is() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    let found = tidings_broker::redis::examine(&cluster.config()).await;
    let says = |found: &[tidings_broker::redis::Finding], verdict, parts: &[&str]| {
        let says = found.iter().any(|finding| {
            finding.verdict == verdict && parts.iter().all(|part| finding.text.contains(part))
        });
        assert!(says, "{parts:?}: {found:#?}");
    };
    for node in &cluster.nodes {
        let port = node.port().to_string();
        says(&found, Verdict::Ok, &[&port, "round trip"]);
    }
    says(&found, Verdict::Ok, &["all slots have an owner"]);
    says(&found, Verdict::Warn, &["without replicas"]);
    assert!(
        found.iter().all(|finding| finding.verdict != Verdict::Fail),
        "{found:#?}"
    );

    let port = cluster.nodes[1].port().to_string();
    cluster.nodes[1].kill();
    eventually(async || {
        let found = tidings_broker::redis::examine(&cluster.config()).await;
        found
            .iter()
            .any(|finding| finding.verdict == Verdict::Fail && finding.text.contains(&port))
    })
    .await;
}
