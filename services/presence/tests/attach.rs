//! Gateways attach, move and die; what others see of it. The store's own rules are in its contract.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Gateway, LEASE, joined, left, member, presence, redis_store, serve, until_users, users};
use tidings_broker::{
    Broker, Incoming,
    test_util::{Recorder, RedisServer},
};
use tidings_presence::Store;
use tidings_proto::presence::{Member, Snapshot, StatsRequest, StatsResponse, gateway_update::Update};
use tidings_runtime::Shutdown;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn who_joined_is_seen_until_it_leaves() {
    let shutdown = Shutdown::new();
    let over_tcp = serve(&Store::new(&Broker::memory()), &shutdown);
    come_and_go(&over_tcp).await;
    let in_process = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    come_and_go(&in_process).await;
}

async fn come_and_go(channel: &Channel) {
    let (ada, bob, eve) = (
        member("tasks", "ada"),
        member("tasks", "bob"),
        member("news", "eve"),
    );
    let mut gateway = Gateway::attach(channel, "g1", LEASE, std::slice::from_ref(&ada)).await;
    assert_eq!(users(channel, "tasks").await, ["ada"]);
    gateway
        .change(vec![joined(&bob), joined(&eve), left(&ada)])
        .await
        .unwrap();
    assert_eq!(users(channel, "tasks").await, ["bob"]);
    assert_eq!(users(channel, "news").await, ["eve"]);
    let stats = common::client(channel)
        .stats(StatsRequest {
            channel: "news".to_owned(),
        })
        .await
        .unwrap();
    assert_eq!(stats.into_inner(), StatsResponse { clients: 1, users: 1 });
    gateway.heartbeat().await.unwrap();
    gateway.goodbye().await.unwrap();
    assert_eq!(users(channel, "tasks").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_members_of_a_killed_gateway_vanish_when_its_lease_ends_and_not_before() {
    let (shutdown, store) = (Shutdown::new(), Store::new(&Broker::memory()));
    let presence = presence(&store);
    drop(shutdown.spawn(presence.clone().run_sweeper(shutdown.clone())));
    let channel = presence.connect_in_process(&shutdown);

    let dead = Gateway::attach(&channel, "g1", LEASE, &[member("tasks", "ada")]).await;
    let mut alive = Gateway::attach(&channel, "g2", LEASE, &[member("tasks", "bob")]).await;
    drop(dead);
    for _ in 0..3 {
        tokio::time::advance(LEASE / 4).await;
        alive.heartbeat().await.unwrap();
        assert_eq!(users(&channel, "tasks").await, ["ada", "bob"]);
    }
    tokio::time::advance(LEASE / 4).await;
    alive.heartbeat().await.unwrap();
    assert_eq!(users(&channel, "tasks").await, ["bob"]);
    while !store.ended().await.unwrap().leases.is_empty() {
        alive.heartbeat().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(users(&channel, "tasks").await, ["bob"]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stalls_for_longer_than_its_lease_is_told_to_attach_again() {
    let shutdown = Shutdown::new();
    let presence = presence(&Store::new(&Broker::memory()));
    // Otherwise nobody asks the store for so long: an outage, which is counted out.
    drop(shutdown.spawn(presence.clone().run_sweeper(shutdown.clone())));
    let channel = presence.connect_in_process(&shutdown);
    let stalled = Gateway::attach(&channel, "g1", LEASE, &[member("tasks", "ada")]).await;
    assert_eq!(stalled.ended().await.code(), Code::DeadlineExceeded);
    assert_eq!(users(&channel, "tasks").await, [""; 0]);
    let _again = Gateway::attach(&channel, "g1", LEASE, &[member("tasks", "ada")]).await;
    assert_eq!(users(&channel, "tasks").await, ["ada"]);
}

#[tokio::test]
async fn a_gateway_moves_from_one_replica_to_another_and_nobody_blinks() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let shutdown = Shutdown::new();
    let (here, there) = (
        serve(&redis_store(&server), &shutdown),
        serve(&redis_store(&server), &shutdown),
    );
    let (ada, bob, eve) = (
        member("tasks", "ada"),
        member("tasks", "bob"),
        member("tasks", "eve"),
    );

    let mut old = Gateway::attach(&here, "g1", LEASE, &[ada.clone(), bob]).await;
    assert_eq!(users(&there, "tasks").await, ["ada", "bob"]);

    let mut new = Gateway::connect(&there).await;
    new.hello("g1", LEASE).await.unwrap();
    new.tell(Update::Snapshot(Snapshot {
        members: vec![ada],
        last: false,
    }))
    .await
    .unwrap();
    assert_eq!(
        users(&here, "tasks").await,
        ["ada", "bob"],
        "until the snapshot is whole"
    );
    new.tell(Update::Snapshot(Snapshot {
        members: vec![eve],
        last: true,
    }))
    .await
    .unwrap();
    assert_eq!(users(&here, "tasks").await, ["ada", "eve"]);
    assert_eq!(users(&there, "tasks").await, ["ada", "eve"]);

    let late = old
        .change(vec![joined(&member("tasks", "zoe"))])
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::Aborted, "{late:?}");
    assert_eq!(users(&here, "tasks").await, ["ada", "eve"]);
    new.heartbeat().await.unwrap();
}

#[tokio::test]
async fn who_comes_moves_and_goes_with_a_gateway_is_announced_coming_and_going_once() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let shutdown = Shutdown::new();
    let recorder = Recorder::new(&Broker::redis(&server.config()).unwrap(), &["tasks"]).await;
    let [here, there, nowhere] = std::array::from_fn(|_| serve(&redis_store(&server), &shutdown));
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| Member {
        announced: true,
        ..member("tasks", user)
    });
    let quiet = member("tasks", "zoe");
    let everyone = [&ada, &bob, &quiet].map(Clone::clone);

    let old = Gateway::attach(&here, "g1", LEASE, &everyone).await;
    assert_eq!(sorted(&recorder).await, ["ada came", "bob came"]);
    let mut new = Gateway::attach(&there, "g1", LEASE, &everyone).await;
    drop(old);
    new.change(vec![joined(&eve), left(&ada), left(&quiet)])
        .await
        .unwrap();
    assert_eq!(sorted(&recorder).await, ["ada went", "eve came"]);

    new.goodbye().await.unwrap();
    until_users(&nowhere, "tasks", &[]).await;
    recorder.until(2).await;
    assert_eq!(sorted(&recorder).await, ["bob went", "eve went"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_says_too_late_is_not_announced() {
    let (shutdown, broker) = (Shutdown::new(), Broker::memory());
    let recorder = Recorder::new(&broker, &["tasks"]).await;
    let channel = presence(&Store::new(&broker)).connect_in_process(&shutdown);
    let ada = Member {
        announced: true,
        ..member("tasks", "ada")
    };
    let mut old = Gateway::attach(&channel, "g1", LEASE, &[]).await;
    let _new = Gateway::attach(&channel, "g1", LEASE, &[]).await;
    let late = old.change(vec![joined(&ada)]).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted, "{late:?}");
    assert_eq!(sorted(&recorder).await, [""; 0]);
}

/// What was announced since the last time, in no order.
async fn sorted(recorder: &Recorder) -> Vec<String> {
    let announced = recorder.heard().await.into_iter();
    let mut announced: Vec<String> = announced
        .map(|incoming| match incoming {
            Incoming::Join(_, info) => format!("{} came", info.user),
            Incoming::Leave(_, info) => format!("{} went", info.user),
            other => panic!("neither join nor leave: {other:?}"),
        })
        .collect();
    announced.sort();
    announced
}

#[tokio::test]
async fn a_dead_gateways_keys_are_gone_after_a_while() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let shutdown = Shutdown::new();
    let replicas: [Channel; 3] = std::array::from_fn(|_| serve(&redis_store(&server), &shutdown));
    let members: Vec<_> = (0..500)
        .map(|n| member(&format!("tasks:{}", n % 7), "ada"))
        .collect();
    drop(Gateway::attach(&replicas[0], "g1", Duration::from_secs(1), &members).await);
    until_users(&replicas[1], "tasks:3", &[]).await;

    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    loop {
        let mut keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await
            .unwrap();
        // What is left beside the leases is about the store, and no lease.
        let left: Vec<String> = redis::cmd("HKEYS")
            .arg("tidings:{leases}")
            .query_async(&mut connection)
            .await
            .unwrap();
        keys.retain(|key| key != "tidings:format");
        if keys == ["tidings:{leases}"] && !left.iter().any(|field| field.contains('/')) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_replica_that_stops_sends_its_gateways_elsewhere() {
    let shutdown = Shutdown::new();
    let channel = serve(&Store::new(&Broker::memory()), &shutdown);
    let gateway = Gateway::attach(&channel, "g1", LEASE, &[]).await;
    shutdown.request();
    let status = gateway.ended().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    shutdown.wait().await;
}

#[tokio::test]
async fn a_gateway_that_drains_can_say_goodbye_in_process_after_the_shutdown_was_requested() {
    let shutdown = Shutdown::new();
    let channel = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[member("tasks", "ada")]).await;
    shutdown.request();
    gateway.goodbye().await.unwrap();
    assert_eq!(users(&channel, "tasks").await, [""; 0]);
    shutdown.wait().await;
}

#[tokio::test]
async fn the_internal_door_says_that_it_serves() {
    let shutdown = Shutdown::new();
    let channel = serve(&Store::new(&Broker::memory()), &shutdown);
    let request = HealthCheckRequest {
        service: "tidings.presence.v1.Presence".to_owned(),
    };
    let answer = HealthClient::new(channel)
        .check(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}
