//! Presence, or its Redis, is away for a while.

use std::{net::Ipv4Addr, time::Duration};

use tidings_broker::{Broker, test_util::RedisServer};
use tidings_gateway::presence::Error;
use tidings_presence::Store;
use tidings_runtime::{Shutdown, health::Check};
use tonic::transport::Channel;

use crate::{
    gateway::{Gateway, LEASE, channel, client},
    replica::{Replica, presence},
};

#[tokio::test]
async fn while_presence_is_away_clients_come_and_go_and_it_hears_of_it_when_it_is_back() {
    let first = Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &Store::new(&Broker::memory()));
    let address = first.address;
    let gateway = Gateway::start("g1", &first.channel(), LEASE);
    let (ada, bob, eve) = (client("ada"), client("bob"), client("eve"));
    gateway.joined("tasks", &ada);
    gateway.joined("tasks", &bob);
    gateway.until("tasks", &[&ada, &bob]).await;
    assert_eq!(gateway.health.check("presence"), Check::Up);

    first.stop().await;
    gateway.left("tasks", &ada);
    gateway.joined("tasks", &eve);
    let error = gateway.members.list(&channel("tasks")).await.unwrap_err();
    assert!(matches!(error, Error::Away { .. }), "{error}");
    gateway
        .until_health(|check| matches!(check, Check::Away { .. }))
        .await;

    // It remembers nothing: the gateway does.
    let second = Replica::start(address, &Store::new(&Broker::memory()));
    gateway.until("tasks", &[&bob, &eve]).await;
    gateway.until_health(|check| *check == Check::Up).await;
    gateway.members.goodbye().await;
    second.stop().await;
}

#[tokio::test]
async fn a_goodbye_to_nobody_does_not_keep_the_process() {
    let nowhere = Channel::from_static("http://127.0.0.1:1").connect_lazy();
    let gateway = Gateway::start("g1", &nowhere, LEASE);
    gateway.joined("tasks", &client("ada"));
    gateway
        .until_health(|check| matches!(check, Check::Away { reason } if reason.contains("presence is away")))
        .await;
    gateway.members.goodbye().await;
    gateway.shutdown.wait().await;
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_told_again() {
    let Some(mut redis) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&redis.config()).unwrap();
    let store = Store::new(&broker);
    let presence = presence(&store).connect_in_process(&Shutdown::new());
    let gateway = Gateway::start("g1", &presence, Duration::from_secs(1));
    let ada = client("ada");
    gateway.joined("tasks", &ada);
    gateway.until("tasks", &[&ada]).await;
    redis.kill();
    assert!(gateway.members.list(&channel("tasks")).await.is_err());
    redis.up();
    gateway.until("tasks", &[&ada]).await;
}
