//! A thousand clients roam while gateways lose presence and find it again.

use std::{net::Ipv4Addr, time::Duration};

use tidings_broker::{Broker, test_util::RedisServer};
use tidings_presence::Store;
use tidings_tests::fault::{Faulty, Wire};
use tonic::transport::Channel;

use crate::{
    crowd::Crowd,
    gateway::{Gateway, PATIENCE, channel},
    replica::Replica,
};

#[tokio::test]
async fn presence_is_right_after_a_thousand_clients_roamed_and_every_replica_was_restarted() {
    let Some(redis) = RedisServer::start() else { return };
    let broker = Broker::redis(&redis.config()).unwrap();
    let store = Store::new(&broker);
    let mut replica = Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &store);
    let gateways = [Gateway::start("g1", &replica.channel(), Duration::from_secs(2))];
    let rooms = &[
        "room:0", "room:1", "room:2", "room:3", "room:4", "room:5", "room:6",
    ];
    let mut crowd = Crowd::new(&broker, rooms).await;
    for round in 0..30 {
        crowd.roams(round, &gateways);
        tokio::task::yield_now().await;
        if round % 10 == 5 {
            let address = replica.address;
            replica.stop().await;
            replica = Replica::start(address, &store);
        }
    }
    crowd.is_seen_rightly(&gateways[0], &store).await;
    gateways[0].members.goodbye().await;
}

#[tokio::test]
async fn presence_is_right_after_a_gateway_was_cut_off_for_less_and_for_longer_than_its_lease() {
    let Some(redis) = RedisServer::start() else { return };
    let broker = Broker::redis(&redis.config()).unwrap();
    let store = Store::new(&broker);
    let replica = Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &store);
    let wire = Faulty::start(replica.address.port()).await;
    let cut_off = Channel::from_shared(wire.redis_url().replace("redis", "http")).unwrap();
    let lease = Duration::from_secs(1);
    let gateways = [
        Gateway::start("g1", &cut_off.connect_lazy(), lease),
        Gateway::start("g2", &replica.channel(), lease),
    ];
    let mut crowd = Crowd::new(&broker, &["room:0", "room:1", "room:2"]).await;
    for (round, state) in [
        Wire::Whole,
        Wire::Cut,
        Wire::Whole,
        Wire::Held,
        Wire::Whole,
        Wire::Cut,
        Wire::Whole,
    ]
    .into_iter()
    .enumerate()
    {
        wire.set(state);
        crowd.roams(round, &gateways);
        match (round, state) {
            // Less than the lease, and then longer: until its members are nowhere to be seen.
            (_, Wire::Whole) => tokio::time::sleep(lease / 3).await,
            (1, _) => tokio::time::sleep(lease / 5).await,
            _ => {
                let gone = async {
                    while !is_alone(&store, "room:0", "g2").await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::time::timeout(PATIENCE, gone).await.unwrap();
            }
        }
    }
    crowd.is_seen_rightly(&gateways[1], &store).await;
    for gateway in &gateways {
        gateway.members.goodbye().await;
    }
    replica.stop().await;
}

/// Whether all that are seen in a channel are one gateway's.
async fn is_alone(store: &Store, room: &str, gateway: &str) -> bool {
    let page = store.members(&channel(room), None, 1_000).await.unwrap();
    page.members.iter().all(|(_, its)| its.as_str() == gateway)
}
