//! What holds for Redis alone: what upkeep asks of it, and what becomes of a store when it is away.

use std::collections::BTreeSet;

use tidings_broker::test_util::RedisServer;

use super::{Who, write::Places};
use crate::{
    member::{Change, Member},
    store::{Backend, Error, fixture::*},
};

#[tokio::test]
async fn keeping_a_lease_touches_no_member() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let store = on(&server);
    let lease = attach(&store, "g1", LONG).await;
    let all: Vec<Member> = (0..1_000).map(|_| member(&channel("tasks"), "ada")).collect();
    store.apply(&lease, joins(&all)).await.unwrap();

    // The first call of each script loads it.
    store.renew(&lease, LONG).await.unwrap();
    store.ended().await.unwrap();
    store.note_generations().await.unwrap();
    command::<()>(&server, &["CONFIG", "RESETSTAT"]).await;
    for _ in 0..10 {
        store.renew(&lease, LONG).await.unwrap();
        store.note_generations().await.unwrap();
        assert_eq!(store.ended().await.unwrap().leases, []);
    }
    let info: String = command(&server, &["INFO", "commandstats"]).await;
    let commands: BTreeSet<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next())
        .collect();
    // The scripts and what they call, how the pool sees that a connection still lives, and which generation Redis is.
    let expected = BTreeSet::from([
        "info",
        "evalsha",
        "time",
        "hgetall",
        "hset",
        "ping",
        "unwatch",
        "config|resetstat",
    ]);
    assert_eq!(commands, expected);
    assert!(info.contains("cmdstat_evalsha:calls=30,"), "{info}");
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_and_one_that_was_restarted_is_used_again() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let store = on(&server);
    let lease = attach(&store, "g1", LONG).await;
    let ada = member(&channel("tasks"), "ada");
    store.apply(&lease, joins([&ada])).await.unwrap();

    server.kill();
    assert!(matches!(
        store.renew(&lease, LONG).await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(
        store.members(&channel("tasks"), None, 10).await,
        Err(Error::Unavailable(_))
    ));
    let change = vec![Change::Left(ada.id())];
    assert!(matches!(
        store.apply(&lease, change).await,
        Err(Error::Unavailable(_))
    ));

    // Empty: the scripts and the leases are gone.
    server.up();
    assert!(matches!(
        store.renew(&lease, LONG).await,
        Err(Error::Ended { .. })
    ));
    let lease = attach(&store, "g1", LONG).await;
    store.apply(&lease, joins([&ada])).await.unwrap();
    assert_eq!(seen(&store, "tasks").await, [ada]);
}

#[tokio::test]
async fn a_redis_that_hangs_is_an_error() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let store = on(&server);
    let lease = attach(&store, "g1", LONG).await;
    server.pause();
    assert!(matches!(
        store.renew(&lease, LONG).await,
        Err(Error::Unavailable(_))
    ));
    server.resume();
    store.renew(&lease, LONG).await.unwrap();
}

#[tokio::test]
async fn a_member_whose_next_write_was_stopped_halfway_is_swept_with_its_older_lease() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let store = on(&server);
    let Backend::Redis(redis) = &store.0 else {
        panic!("a store in Redis");
    };
    let ada = member(&channel("tasks"), "ada");
    let first = attach(&store, "g1", LONG).await;
    store.apply(&first, joins([&ada])).await.unwrap();
    // It is noted under the second lease, and then its writer dies, or Redis does.
    let second = attach(&store, "g1", LONG).await;
    let noted = Places::from([(Who::User("ada".into()), vec![ada.id()])]);
    assert_eq!(redis.enter(&second, &noted).await.unwrap(), []);

    let third = attach(&store, "g1", LONG).await;
    store.supersede(&third).await.unwrap();
    let mut left = Vec::new();
    for lease in store.ended().await.unwrap().leases {
        left.extend(sweep(&store, &lease).await);
    }
    assert_eq!(left, [ada.id()]);
    leave(&store, &third).await;
    assert_eq!(keys(&server).await, [] as [String; 0]);
}
