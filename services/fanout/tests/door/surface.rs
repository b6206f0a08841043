//! What the door answers besides events: health, reflection, and no to everything else.

use tidings_fanout::{Config, Fanout, Payload, door};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{Door, insecure, keyed, open_to_all, route};

#[tokio::test]
async fn anyone_may_ask_whether_the_services_are_up() {
    let door = Door::open(&keyed(None, None), &[]);
    let mut client = HealthClient::new(door.channel().await);
    for service in ["", "tidings.fanout.v1.Fanout"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    // Nobody said where presence runs.
    for service in ["other", "tidings.presence.v1.Presence"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let refused = client.check(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{service}");
    }
}

#[tokio::test]
async fn who_watches_health_hears_of_the_end_and_does_not_hold_it_up() {
    let door = Door::open(&insecure(), &[]);
    let mut client = HealthClient::new(door.channel().await);
    let mut watch = client
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    door.shutdown.request();
    let last = watch.message().await.unwrap().map(|answer| answer.status());
    assert!(matches!(last, None | Some(ServingStatus::NotServing)), "{last:?}");
    door.shutdown.wait().await;
}

#[tokio::test]
async fn anyone_may_ask_what_is_spoken_here() {
    let door = Door::open(&keyed(None, None), &[]);
    let channel = door.channel().await;

    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(
        names.contains(&"tidings.fanout.v1.Fanout".to_owned()),
        "{names:?}"
    );
    assert!(
        names.contains(&"tidings.presence.v1.Presence".to_owned()),
        "{names:?}"
    );

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let symbol = "tidings.fanout.v1.Fanout.Publish".to_owned();
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol),
        ),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(
        matches!(
            answer,
            v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_path_that_is_not_served_is_answered_in_the_callers_language() {
    let door = Door::open(&keyed(None, None), &[]);
    let answer = door.http("GET /nope?x=1").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("content-type: application/json"), "{answer}");
    assert!(
        answer.contains(r#"{"error":"/nope is not here: this is the backends' door"#),
        "{answer}"
    );

    let answer = door.http("POST /tidings.fanout.v1.Fanout/Publish").await;
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");

    let mut grpc = tonic::client::Grpc::new(door.channel().await);
    for path in ["/other.Service/Method", "/tidings.fanout.v1.Fanout/Other"] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<_, HealthCheckRequest>::default();
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request
            .metadata_mut()
            .insert("x-api-key", "secret-key".parse().unwrap());
        let answer = grpc.unary(request, path.parse().unwrap(), codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_protobuf_is_the_callers_fault() {
    let door = Door::open(&insecure(), &[]);
    let mut grpc = tonic::client::Grpc::new(door.channel().await);
    grpc.ready().await.unwrap();
    // Its first field is a text, where a publish has a message.
    let request = HealthCheckRequest {
        service: "x".to_owned(),
    };
    let codec = tonic_prost::ProstCodec::<_, HealthCheckRequest>::default();
    let path = "/tidings.fanout.v1.Fanout/Publish".parse().unwrap();
    let status = grpc
        .unary(tonic::Request::new(request), path, codec)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().starts_with("the request cannot be read: "),
        "{status:?}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_is_said_before_anything_listens() {
    let open = |config: &Config, routes: &[tidings_fanout::Route]| {
        let broker = tidings_broker::Broker::memory();
        let mut registry = prometheus_client::registry::Registry::default();
        Fanout::bind(config, routes, open_to_all(&broker), &mut registry)
            .map(drop)
            .unwrap_err()
    };
    let no_keys = Config {
        insecure: false,
        ..insecure()
    };
    assert!(matches!(open(&no_keys, &[]), door::Error::Config(_)));
    let wrong = [route("task..x", &["a"], Payload::Event)];
    assert!(matches!(open(&insecure(), &wrong), door::Error::Routes(_)));

    let door = Door::open(&insecure(), &[]);
    let taken = Config {
        listen: door.address,
        ..insecure()
    };
    let error = open(&taken, &[]);
    assert!(error.to_string().contains(&door.address.to_string()), "{error}");
}
