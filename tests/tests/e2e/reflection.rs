//! What gRPC tools find at the backends' door without having our files.

use tidings_tests::{Backend, Launch, in_time};
use tokio_stream::StreamExt as _;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[tokio::test]
async fn services_are_listed_and_healthy() {
    let node = Launch::new("standalone").start().await;
    let channel = Backend::new(&node.backends()).channel();

    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = in_time("the list of services", answers.next())
        .await
        .unwrap()
        .unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let services: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["tidings.fanout.v1.Fanout", "tidings.presence.v1.Presence"] {
        assert!(services.iter().any(|listed| listed == service), "{services:?}");
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let health = HealthClient::new(channel.clone())
            .check(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(health.status().as_str_name(), "SERVING");
    }
}
