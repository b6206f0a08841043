//! What Redis denies for a while (ACL), and allows again: publications, and subscriptions, which the client does not request again
//! because they are in force for it all the time.

use tidings_broker::{
    Broker, Error, Incoming, Once, Target,
    test_util::{RedisCluster, RedisServer},
};

use crate::{
    command,
    common::{self, Listener, channel, eventually},
    node,
    streams::{ask, kept, publish},
    up,
};

/// What users may subscribe to from now on.
async fn allow(server: &RedisServer, channels: &str) {
    let user = ["ACL", "SETUSER", "default", "resetchannels", channels];
    command(server, &user).await;
}

/// Waits until a subscription to `tasks:1` was denied.
async fn is_denied(server: &RedisServer) {
    eventually(async || {
        let log = command(server, &["ACL", "LOG"]).await;
        format!("{log:?}").contains("tidings:ch:{tasks:1}")
    })
    .await;
}

#[tokio::test]
async fn a_subscription_that_redis_denied_for_a_while_is_in_force_again_afterwards() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    // It ends the connections that are subscribed to what is denied.
    allow(&server, "&tidings:ch:{other:*").await;
    is_denied(&server).await;
    up(&broker).await;
    allow(&server, "&*").await;
    assert_eq!(
        listener.next().await,
        Incoming::Gap,
        "it may have missed something"
    );
    common::publish(&broker.publisher(), "tasks:1", "hello").await;
    assert_eq!(listener.hear().await.1, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_denied_where_its_slot_has_moved_is_in_force_there_afterwards() {
    let Some(cluster) = tokio::task::spawn_blocking(RedisCluster::start).await.unwrap() else {
        return;
    };
    let broker = Broker::redis(&cluster.config()).unwrap();
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    let slot = cluster.slot("tasks:1");
    let to = (cluster.owner(slot) + 1) % 3;
    // Users are not replicated, nor moved with slots.
    allow(&cluster.nodes[to], "&tidings:ch:{other:*").await;
    cluster.move_slot(slot, to);
    is_denied(&cluster.nodes[to]).await;
    allow(&cluster.nodes[to], "&*").await;
    let subscribed = ["PUBSUB", "SHARDNUMSUB", "tidings:ch:{tasks:1}"];
    eventually(async || format!("{:?}", command(&cluster.nodes[to], &subscribed).await).contains("int(1)"))
        .await;
    common::publish(&broker.publisher(), "tasks:1", "hello").await;
    while !matches!(listener.next().await, Incoming::Publication(..)) {}
}

#[tokio::test]
async fn a_publication_that_is_denied_is_kept_once_and_sent_by_the_repeat_that_is_allowed() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    command(&server, &["ACL", "SETUSER", "default", "resetchannels"]).await;
    let keyed = |target: Target| Target {
        once: Some(Once::new("7")),
        ..target
    };
    let refused = publish(&broker, keyed(kept("tasks:1"))).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    let again = publish(&broker, keyed(kept("tasks:1"))).await;
    assert!(matches!(again, Err(Error::Refused { .. })), "{again:?}");
    assert_eq!(
        ask::<u64>(&server, &["XLEN", "tidings:stream:{tasks:1}"]).await,
        1
    );

    // Nothing is done where nothing is kept: it is refused until it is allowed.
    for _ in 0..2 {
        let refused = publish(&broker, keyed(channel("tasks:2").into())).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    }
    command(&server, &["ACL", "SETUSER", "default", "allchannels"]).await;
    let allowed = publish(&broker, keyed(channel("tasks:2").into())).await.unwrap();
    assert!(!allowed.duplicate);

    // What is in the stream reaches its subscribers with the repeat, once, and not while Redis refuses writes.
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    command(&server, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let busy = publish(&broker, keyed(kept("tasks:1"))).await;
    assert!(matches!(busy, Err(Error::Away { .. })), "{busy:?}");
    command(&server, &["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    let sent = publish(&broker, keyed(kept("tasks:1"))).await.unwrap();
    assert!(sent.duplicate, "it is there since the first");
    assert_eq!(listener.hear_position().await.1, sent.position.clone().unwrap());
    let again = publish(&broker, keyed(kept("tasks:1"))).await.unwrap();
    assert_eq!((again.duplicate, again.position), (true, sent.position));
    listener.assert_silent(&broker.publisher()).await;
}
