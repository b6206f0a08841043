//! Subscriptions that Redis allows, denies for a while (ACL), and allows again. Nobody asks for them again: they are wanted all the
//! time.

use std::time::Duration;

use tidings_broker::{
    Broker, Incoming,
    test_util::{RedisCluster, RedisServer},
};

use crate::{
    command,
    common::{Listener, channel, eventually, publication, publish},
    node, up,
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
    publish(&broker.publisher(), "tasks:1", "hello").await;
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
    let sending = async {
        let publisher = broker.publisher();
        loop {
            let _ = publisher
                .publish(&[channel("tasks:1").into()], &publication("x"))
                .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let receiving = async { while !matches!(listener.next().await, Incoming::Publication(..)) {} };
    tokio::select! {
        () = receiving => {}
        () = sending => {}
    }
}
