//! What a backend does to connections while they last.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tidings_proto::fanout::{
    Clients, DisconnectRequest, RefreshRequest, SendRequest, SubscribeRequest, UnsubscribeRequest,
    fanout_client::FanoutClient,
};
use tidings_tests::{Backend, Sdk, Tidings, Way, in_every_way, token};
use tonic::transport::Channel;

use crate::node::{launch, publish};

/// A user of its own for each way, connected, and the backend.
async fn connected(way: Way, server: &Tidings) -> (Sdk, Clients, Backend, FanoutClient<Channel>) {
    let user = way.to_string();
    let sdk = Sdk::connect(way, &server.address(), &token(&user)).await;
    let clients = Clients {
        user,
        ..Clients::default()
    };
    let backend = Backend::new(&server.backends());
    let fanout = FanoutClient::new(backend.channel());
    (sdk, clients, backend, fanout)
}

#[tokio::test]
async fn it_is_disconnected_for_good_or_to_come_back() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let (mut sdk, clients, backend, mut fanout) = connected(way, &server).await;
        let mut disconnect = async |code, reason: &str| {
            let request = DisconnectRequest {
                clients: Some(clients.clone()),
                code,
                reason: reason.to_owned(),
                ..DisconnectRequest::default()
            };
            let done = fanout
                .disconnect(backend.request(request))
                .await
                .unwrap()
                .into_inner();
            assert_eq!((done.affected, done.complete), (1, true), "{way}");
        };
        disconnect(3011, "").await;
        assert_eq!(sdk.event("connecting").await["code"], 3011);
        sdk.event("connected").await;
        disconnect(4100, "moved").await;
        let told = sdk.event("connecting").await;
        assert_eq!((&told["code"], &told["reason"]), (&json!(4100), &json!("moved")));
        sdk.event("connected").await;
        disconnect(0, "").await;
        assert_eq!(sdk.event("disconnected").await["code"], 3503);
    })
    .await;
}

#[tokio::test]
async fn it_is_subscribed_and_unsubscribed_without_asking() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let (mut sdk, clients, backend, mut fanout) = connected(way, &server).await;
        let channel = way.channel("feed");
        let request = SubscribeRequest {
            clients: Some(clients.clone()),
            channel: channel.clone(),
            data: b"{\"welcome\":1}".as_slice().into(),
            ..SubscribeRequest::default()
        };
        let done = fanout
            .subscribe(backend.request(request))
            .await
            .unwrap()
            .into_inner();
        assert_eq!((done.affected, done.complete), (1, true), "{way}");
        let told = sdk.event("subscribed").await;
        assert_eq!(
            (&told["channel"], &told["server"]),
            (&json!(channel), &json!(true))
        );
        assert_eq!(
            (&told["recoverable"], &told["data"]),
            (&json!(true), &json!({ "welcome": 1 }))
        );
        publish(&server, &channel, &json!(1)).await;
        assert_eq!(sdk.hear().await["data"], 1);

        let request = UnsubscribeRequest {
            clients: Some(clients.clone()),
            channel: channel.clone(),
            ..UnsubscribeRequest::default()
        };
        fanout.unsubscribe(backend.request(request)).await.unwrap();
        assert_eq!(sdk.event("unsubscribed").await["channel"], *channel);
    })
    .await;
}

#[tokio::test]
async fn its_own_subscription_is_ended_for_good_or_to_be_taken_up_again() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let (mut sdk, clients, backend, mut fanout) = connected(way, &server).await;
        let channel = way.channel("chat");
        sdk.subscribe(&channel, json!({})).await;
        sdk.forget();
        let mut unsubscribe = async |code| {
            let request = UnsubscribeRequest {
                clients: Some(clients.clone()),
                channel: channel.clone(),
                code,
                ..UnsubscribeRequest::default()
            };
            fanout.unsubscribe(backend.request(request)).await.unwrap();
        };
        unsubscribe(2500).await;
        assert_eq!(sdk.event("subscribing").await["code"], 2500);
        sdk.event("subscribed").await;
        unsubscribe(0).await;
        assert_eq!(sdk.event("unsubscribed").await["code"], 2000);
    })
    .await;
}

#[tokio::test]
async fn it_is_sent_a_message_of_its_own() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let (mut sdk, clients, backend, mut fanout) = connected(way, &server).await;
        let request = SendRequest {
            clients: Some(clients),
            data: b"{\"for\":\"you\"}".as_slice().into(),
            ..SendRequest::default()
        };
        fanout.send(backend.request(request)).await.unwrap();
        // The Python SDK does not tell its application of them.
        if !matches!(way, Way::Python | Way::PythonProtobuf) {
            assert_eq!(sdk.event("message").await["data"], json!({ "for": "you" }));
        }
        sdk.subscribe(&way.channel("chat"), json!({})).await;
    })
    .await;
}

#[tokio::test]
async fn its_connection_is_good_for_as_long_as_the_backend_says() {
    let server = launch().start().await;
    in_every_way(async |way| {
        let (mut sdk, clients, backend, mut fanout) = connected(way, &server).await;
        let request = RefreshRequest {
            clients: Some(clients.clone()),
            expire_at: Some((SystemTime::now() + Duration::from_secs(3600)).into()),
            ..RefreshRequest::default()
        };
        let done = fanout
            .refresh(backend.request(request))
            .await
            .unwrap()
            .into_inner();
        assert_eq!((done.affected, done.complete), (1, true), "{way}");
        let request = RefreshRequest {
            clients: Some(clients),
            expired: true,
            ..RefreshRequest::default()
        };
        fanout.refresh(backend.request(request)).await.unwrap();
        assert_eq!(sdk.event("connecting").await["code"], 3005);
        sdk.event("connected").await;
    })
    .await;
}
