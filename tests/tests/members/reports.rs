//! Gateways report who is there, and it is seen from everywhere.

use std::time::Duration;

use tidings_broker::Broker;
use tidings_core::ClientInfo;
use tidings_gateway::presence::Error;
use tidings_presence::Store;
use tidings_runtime::Shutdown;

use crate::{
    gateway::{Gateway, LEASE, PATIENCE, channel, client},
    replica::presence,
};

#[tokio::test]
async fn who_joins_any_gateway_is_seen_from_every_gateway() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let (here, there) = (
        Gateway::start("g1", &presence, LEASE),
        Gateway::start("g2", &presence, LEASE),
    );
    let (ada, bob) = (client("ada"), client("bob"));
    here.joined("tasks", &ada);
    there.joined("tasks", &bob);
    for gateway in [&here, &there] {
        gateway.until("tasks", &[&ada, &bob]).await;
        assert_eq!(gateway.members.stats(&channel("tasks")).await.unwrap(), (2, 2));
    }
    here.left("tasks", &ada);
    there.until("tasks", &[&bob]).await;
    here.until("tasks", &[&bob]).await;

    there.members.goodbye().await;
    assert_eq!(here.members.list(&channel("tasks")).await.unwrap(), []);
}

#[tokio::test]
async fn a_gateway_with_more_members_than_one_update_holds_reports_them_all() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let gateway = Gateway::start("g1", &presence, LEASE);
    let mut clients: Vec<ClientInfo> = (0..2_500).map(|_| client("ada")).collect();
    // Large enough that bytes bound an update too.
    clients.extend((0..100).map(|_| ClientInfo {
        conn_info: vec![b' '; 60_000].into(),
        ..client("bob")
    }));
    for client in &clients {
        gateway.joined("tasks", client);
    }
    gateway.until("tasks", &clients.iter().collect::<Vec<_>>()).await;
    for client in &clients {
        gateway.left("tasks", client);
    }
    gateway.until("tasks", &[]).await;
}

#[tokio::test]
async fn more_members_than_an_answer_may_have_are_an_error_that_says_so() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let gateway = Gateway::start("g1", &presence, LEASE);
    for _ in 0..10_001 {
        gateway.joined("tasks", &client("ada"));
    }
    let all = async { while gateway.members.stats(&channel("tasks")).await.unwrap() != (10_001, 1) {} };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    let error = gateway.members.list(&channel("tasks")).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { max: 10_000, .. }), "{error}");
}

#[tokio::test]
async fn a_gateway_that_dies_is_gone_after_its_lease_and_one_that_says_goodbye_at_once() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let observer = Gateway::start("g0", &presence, LEASE);
    let (dies, leaves) = (
        Gateway::start("g1", &presence, Duration::from_secs(1)),
        Gateway::start("g2", &presence, Duration::from_secs(600)),
    );
    let (ada, bob) = (client("ada"), client("bob"));
    dies.joined("tasks", &ada);
    leaves.joined("tasks", &bob);
    observer.until("tasks", &[&ada, &bob]).await;
    leaves.members.goodbye().await;
    observer.until("tasks", &[&ada]).await;
    drop(dies);
    observer.until("tasks", &[]).await;
}
