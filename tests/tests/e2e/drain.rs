//! SIGTERM: a node sends its clients elsewhere and leaves.

use tidings_tests::{Backend, Client, Launch, Plain, Redis, eventually, token};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

#[tokio::test]
async fn clients_are_told_to_come_back_and_the_process_ends_well() {
    let Some(redis) = Redis::start() else { return };
    let mut node = Launch::new("standalone")
        .redis(&redis)
        .env("TIDINGS_DRAIN__OVER", "1s")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["ada", "bob", "cid"] {
        let mut client = Client::connect(&node.websocket(), &token(user)).await;
        client.subscribe("tasks:1").await;
        clients.push(client);
    }
    let mut plain = Plain::connect(&node.plain(&format!("tasks:1?token={}", token("dan")))).await;

    node.terminate().await;
    for client in &mut clients {
        assert_eq!(client.closed().await, (3001, "shutdown".to_owned()));
    }
    assert_eq!(plain.closed().await.0, 3001);
    let exit = node.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn a_node_without_clients_ends_at_once_though_its_drain_may_be_long() {
    let mut node = Launch::new("standalone")
        .env("TIDINGS_DRAIN__OVER", "10m")
        .start()
        .await;
    node.terminate().await;
    assert_eq!(node.exit().await.code, Some(0));
}

#[tokio::test]
async fn while_it_drains_it_is_alive_and_not_ready() {
    let mut node = Launch::new("standalone")
        .env("TIDINGS_DRAIN__OVER", "10m")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["ada", "bob"] {
        clients.push(Client::connect(&node.websocket(), &token(user)).await);
    }
    node.terminate().await;
    node.wait_for_status("/health/ready", 503).await;
    assert_eq!(node.get("/health/live").await.unwrap().0, 200);
    let mut health = HealthClient::new(Backend::new(&node.backends()).channel());
    eventually("gRPC's own health says so too", async || {
        let whole = health.check(HealthCheckRequest::default()).await.ok()?;
        (whole.into_inner().status() == ServingStatus::NotServing).then_some(())
    })
    .await;
    // Somebody is in a hurry: the second signal.
    node.terminate().await;
    node.exit().await;
}
