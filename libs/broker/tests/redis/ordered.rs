//! Publications of one caller in order, whatever happens to Redis meanwhile.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tidings_broker::{
    Broker, Error, Once, OrderedPublisher, Published, Query, Status, Target,
    test_util::{RedisCluster, RedisServer},
};
use tidings_core::Retention;
use tokio::time::Instant;

use crate::{
    command,
    common::{Listener, channel, eventually, publication},
    node,
    rollback::RETENTION,
    up,
};

const CHANNELS: [&str; 3] = ["a:1", "a:2", "b:3"];

/// More than any case publishes.
const PLENTY: Retention = Retention {
    size: std::num::NonZeroU32::new(20_000).unwrap(),
    ..RETENTION
};

fn kept(name: &str) -> Target {
    Target {
        retention: Some(PLENTY),
        ..Target::from(channel(name))
    }
}

fn keyed(name: &str, key: &str) -> Target {
    Target {
        once: Some(Once::new(key)),
        ..kept(name)
    }
}

fn later() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(20))
}

/// What is in a stream, in its order.
async fn stream(broker: &Broker, name: &str) -> Vec<String> {
    let query = Query {
        limit: 20_000,
        ..Query::default()
    };
    let (streams, name) = (broker.streams(), channel(name));
    let read = async || streams.read(&name, PLENTY, query, None).await;
    eventually(async || read().await.is_ok()).await;
    let publications = read().await.unwrap().publications.into_iter();
    publications
        .map(|it| String::from_utf8(it.data.to_vec()).unwrap())
        .collect()
}

/// What is to be in each stream, in its order.
type Expected = HashMap<&'static str, Vec<String>>;

/// Publishes 3,000, to channels at random.
async fn publish_all(broker: Broker, seed: u64) -> Expected {
    let mut random = StdRng::seed_from_u64(seed);
    let publisher = broker.publisher().ordered();
    let mut expected = Expected::new();
    let mut answers = Vec::new();
    for number in 0..3000 {
        let some: Vec<_> = CHANNELS.into_iter().filter(|_| random.random_bool(0.5)).collect();
        let targets: Vec<_> = some.iter().map(|name| kept(name)).collect();
        for name in some {
            expected.entry(name).or_default().push(number.to_string());
        }
        answers.push(publisher.publish(&targets, &publication(&number.to_string()), later()));
        if random.random_bool(0.01) {
            tokio::time::sleep(Duration::from_millis(random.random_range(1..20))).await;
        }
    }
    for answer in join_all(answers).await.concat() {
        answer.unwrap();
    }
    expected
}

/// Each publication is there once, and in order.
async fn check(broker: &Broker, expected: Expected) {
    eventually(async || *broker.status().borrow() == Status::Up).await;
    for name in CHANNELS {
        let found = stream(broker, name).await;
        assert!(found == expected[name], "{name}: {found:?}");
    }
}

/// Does something to a Redis again and again for as long as it lives.
fn again_and_again(
    server: &RedisServer,
    commands: &'static [&'static [&'static str]],
) -> tokio::task::JoinHandle<()> {
    let url = server.url();
    tokio::runtime::Handle::current().spawn(async move {
        let client = redis::Client::open(url).unwrap();
        loop {
            for words in commands {
                if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
                    let mut command = redis::cmd(words[0]);
                    command.arg(&words[1..]);
                    // The connection itself may be killed by it.
                    let _ = command.exec_async(&mut connection).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_publisher_keeps_the_order_of_each_channel() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let expected = publish_all(broker.clone(), 1).await;
    check(&broker, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_is_kept_while_redis_forgets_scripts_and_kills_connections() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let trouble = again_and_again(
        &server,
        &[&["SCRIPT", "FLUSH"], &["CLIENT", "KILL", "TYPE", "normal"]],
    );
    let expected = publish_all(broker.clone(), 2).await;
    trouble.abort();
    check(&broker, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_is_kept_while_redis_hangs_and_is_restarted() {
    let Some(mut server) = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let work = tokio::runtime::Handle::current().spawn(publish_all(broker.clone(), 3));
    let trouble = tokio::task::spawn_blocking(move || {
        server.pause();
        std::thread::sleep(Duration::from_millis(2500));
        server.resume();
        server.kill();
        server.up();
        server
    });
    let _server = trouble.await.unwrap();
    check(&broker, work.await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_receive_a_channel_without_history_in_the_order_of_its_publisher() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("n:1").await;
    let publisher = broker.publisher().ordered();
    let answers: Vec<_> = (0..2000)
        .map(|number: u32| {
            let target = Target::from(channel("n:1"));
            publisher.publish(&[target], &publication(&number.to_string()), later())
        })
        .collect();
    join_all(answers).await;
    for number in 0..2000_u32 {
        assert_eq!(listener.hear().await.1, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_is_kept_while_slots_of_a_cluster_move() {
    let Some(cluster) = tokio::task::spawn_blocking(RedisCluster::start).await.unwrap() else {
        return;
    };
    let broker = Broker::redis(&cluster.config()).unwrap();
    up(&broker).await;
    let work = tokio::runtime::Handle::current().spawn(publish_all(broker.clone(), 4));
    let moving = tokio::task::spawn_blocking(move || {
        for name in CHANNELS {
            let slot = cluster.slot(name);
            let from = cluster.owner(slot);
            cluster.move_slot(slot, (from + 1) % 3);
        }
        cluster
    });
    let _cluster = moving.await.unwrap();
    check(&broker, work.await.unwrap()).await;
}

async fn answer(
    publisher: &OrderedPublisher,
    target: Target,
    deadline: Option<Instant>,
) -> Result<Published, Error> {
    let answers = publisher.publish(&[target], &publication("x"), deadline);
    answers.await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_refused_aborts_its_later_publications_until_the_failed_one_is_repeated() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let publisher = broker.publisher().ordered();
    answer(&publisher, keyed("a:1", "zeroth"), later()).await.unwrap();
    command(&server, &["SET", "tidings:stream:{a:1}", "of another type"]).await;
    let keys = ["first", "second", "third"];
    let answers = keys.map(|key| answer(&publisher, keyed("a:1", key), later()));
    let other = answer(&publisher, keyed("a:2", "first"), later()).await;
    assert!(other.is_ok(), "other channels go on: {other:?}");
    let answers = join_all(answers).await;
    assert!(matches!(answers[0], Err(Error::Refused { .. })), "{answers:?}");
    assert!(
        answers[1..]
            .iter()
            .all(|it| matches!(it, Err(Error::Refused { .. } | Error::Aborted { .. }))),
        "{answers:?}"
    );
    let later_one = answer(&publisher, keyed("a:1", "fourth"), later()).await;
    assert!(matches!(later_one, Err(Error::Aborted { .. })), "{later_one:?}");

    command(&server, &["DEL", "tidings:stream:{a:1}"]).await;
    let still = answer(&publisher, keyed("a:1", "second"), later()).await;
    assert!(
        matches!(still, Err(Error::Aborted { .. })),
        "not before the first: {still:?}"
    );
    for key in keys {
        answer(&publisher, keyed("a:1", key), later()).await.unwrap();
    }
    assert_eq!(stream(&broker, "a:1").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_runs_out_of_time_aborts_the_later_ones() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    server.kill();
    eventually(async || broker.publisher().is_away(&channel("a:1"))).await;
    let publisher = broker.publisher().ordered();
    let soon = Some(Instant::now() + Duration::from_millis(300));
    let (first, second) = tokio::join!(
        answer(&publisher, keyed("a:1", "first"), soon),
        answer(&publisher, keyed("a:1", "second"), later()),
    );
    assert!(matches!(first, Err(Error::Away { .. })), "{first:?}");
    assert!(matches!(second, Err(Error::Aborted { .. })), "{second:?}");
    server.up();
    for key in ["first", "second"] {
        let published = answer(&publisher, keyed("a:1", key), later()).await.unwrap();
        assert!(!published.duplicate);
    }
}
