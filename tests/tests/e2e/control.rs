//! What a backend does with connections, by way of any node of a cluster.

use serde_json::json;
use tidings_proto::fanout::{
    Clients, ControlResponse, DisconnectRequest, SendRequest, SubscribeRequest, fanout_client::FanoutClient,
};
use tidings_tests::{Backend, Client, Redis, event, token};

use crate::cluster;

fn ada() -> Option<Clients> {
    Some(Clients {
        user: "ada".to_owned(),
        ..Clients::default()
    })
}

fn all(affected: u32) -> ControlResponse {
    ControlResponse {
        affected,
        complete: true,
    }
}

fn to_ada(data: &str) -> SendRequest {
    SendRequest {
        clients: ada(),
        data: data.to_owned().into(),
        ..SendRequest::default()
    }
}

#[tokio::test]
async fn a_backend_reaches_a_users_connections_on_every_node() {
    let Some(redis) = Redis::start() else { return };
    let nodes = [
        cluster::node(&redis.url()).await,
        cluster::node(&redis.url()).await,
    ];
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(Client::connect(&node.websocket(), &token("ada")).await);
    }
    let backend = Backend::new(&nodes[0].backends());
    let mut fanout = FanoutClient::new(backend.channel());

    let request = SubscribeRequest {
        clients: ada(),
        channel: "tasks:1".to_owned(),
        data: r#"{"why":"assigned"}"#.into(),
        ..SubscribeRequest::default()
    };
    let answer = fanout.subscribe(backend.request(request)).await;
    assert_eq!(answer.unwrap().into_inner(), all(2));
    for client in &mut clients {
        let push = client.push().await;
        assert_eq!(push["channel"], "tasks:1");
        assert_eq!(push["subscribe"]["data"], json!({"why": "assigned"}));
    }
    backend
        .publish(event("task.created", "7", &["tasks:1"]))
        .await
        .unwrap();
    for client in &mut clients {
        assert_eq!(client.hear().await.1["data"], json!(7));
    }

    let answer = fanout.send(backend.request(to_ada("[1]"))).await;
    assert_eq!(answer.unwrap().into_inner(), all(2));
    for client in &mut clients {
        assert_eq!(client.push().await, json!({"message": {"data": [1]}}));
    }

    let request = DisconnectRequest {
        clients: ada(),
        code: 4500,
        reason: "banned".to_owned(),
        ..DisconnectRequest::default()
    };
    let answer = fanout.disconnect(backend.request(request)).await;
    assert_eq!(answer.unwrap().into_inner(), all(2));
    for mut client in clients {
        assert_eq!(client.closed().await, (4500, "banned".to_owned()));
    }
}
