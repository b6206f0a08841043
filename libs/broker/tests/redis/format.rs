//! Nodes of different formats at one Redis.

use tidings_broker::{
    Broker, Error, FORMAT, Incoming, Status,
    redis::{Verdict, examine},
    test_util::{RedisCluster, RedisServer},
};

use crate::{
    command,
    common::{Listener, channel, eventually},
    node, up, wait_for,
};

const OTHER: &str = "9999";

async fn says_both_versions(broker: &Broker) {
    let own = format!("speaks format {FORMAT}:");
    let says = |status: &Status| match status {
        Status::Away { reason } => reason.contains("speak format 9999") && reason.contains(&own),
        Status::Up => false,
    };
    wait_for(broker, says).await;
}

#[tokio::test]
async fn a_node_of_another_format_uses_nothing_and_says_both_versions() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    command(&server, &["SET", "tidings:format", OTHER]).await;
    let broker = node(&server);
    says_both_versions(&broker).await;
    let asked = broker.streams().positions(&[(&channel("a:1"), None)]).await;
    assert!(
        matches!(&asked[0], Err(Error::Away { reason }) if reason.contains("format 9999")),
        "{asked:?}"
    );
    let target = channel("n:1").into();
    let published = broker
        .publisher()
        .publish(&[target], &crate::common::publication("x"))
        .await;
    assert!(published[0].is_err(), "nothing is published");
    let pool = broker.redis_pool().unwrap();
    assert!(pool.get().await.is_err(), "nor kept");
    let kept = pool
        .each(&[redis::cmd("PING")], None, crate::common::PATIENCE)
        .await;
    assert!(
        kept[0]
            .as_ref()
            .is_err_and(|why| why.to_string().contains("format 9999"))
    );
    let found = examine(&server.config()).await;
    assert!(
        found
            .iter()
            .any(|it| it.verdict == Verdict::Fail && it.text.contains("speak format 9999")),
        "{found:#?}"
    );
}

#[tokio::test]
async fn the_first_node_says_its_format_and_a_second_of_the_same_joins() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let (one, other) = (node(&server), node(&server));
    up(&one).await;
    up(&other).await;
    let says = || redis::from_redis_value::<Option<String>>(server.ask(&["GET", "tidings:format"])).unwrap();
    eventually(async || says() == Some(FORMAT.to_string())).await;
    let found = examine(&server.config()).await;
    assert!(
        found.iter().any(|it| it.text.contains("its nodes speak format")),
        "{found:#?}"
    );
}

#[tokio::test]
async fn a_node_that_meets_another_format_later_leaves_and_comes_back_with_its_own() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("a:1").await;
    command(&server, &["SET", "tidings:format", OTHER]).await;
    command(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    says_both_versions(&broker).await;
    let pool = broker.redis_pool().unwrap();
    assert!(pool.take().await.is_err(), "no connection of its own either");
    command(&server, &["DEL", "tidings:format"]).await;
    command(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    up(&broker).await;
    // Its subscriber's connection was there all the time.
    assert!(
        matches!(listener.next().await, Incoming::Gap),
        "messages were dropped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_cluster_say_their_format_too() {
    let Some(cluster) = tokio::task::spawn_blocking(RedisCluster::start).await.unwrap() else {
        return;
    };
    let broker = Broker::redis(&cluster.config()).unwrap();
    up(&broker).await;
    let key = "tidings:format";
    let owner = cluster.owner(cluster.slot(key));
    let says = || redis::from_redis_value::<Option<String>>(cluster.nodes[owner].ask(&["GET", key])).unwrap();
    eventually(async || says() == Some(FORMAT.to_string())).await;
    cluster.nodes[owner].ask(&["SET", key, OTHER]);
    says_both_versions(&Broker::redis(&cluster.config()).unwrap()).await;
}
