//! Who may do what at the door.

use tidings_auth::Method;
use tidings_fanout::Payload;
use tidings_proto::{
    fanout::{self as proto, fanout_client::FanoutClient},
    presence::{ListRequest, presence_client::PresenceClient},
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    harness::{Door, event, keyed, route, with},
    http::send,
};

const KEY: [(&str, &str); 1] = [("x-api-key", "secret-key")];

#[tokio::test]
async fn a_key_is_taken_from_where_clients_put_it() {
    let door = Door::open(&keyed(None, None), &[]);
    for metadata in [
        KEY,
        [("authorization", "apikey secret-key")],
        [("authorization", "Bearer secret-key")],
    ] {
        assert!(
            door.publish_with(event(&["a"]), &metadata).await.is_ok(),
            "{metadata:?}"
        );
    }
}

#[tokio::test]
async fn without_a_valid_key_nobody_gets_in_and_everyone_is_told_how() {
    let mut door = Door::open(&keyed(None, None), &[]);
    door.listen(&["a"]).await;
    for (metadata, reason) in [
        (vec![], "API_KEY_MISSING"),
        (vec![("authorization", "Basic c2VjcmV0")], "API_KEY_MISSING"),
        (vec![("x-api-key", "other")], "API_KEY_INVALID"),
        (vec![("authorization", "Bearer secret-ke")], "API_KEY_INVALID"),
    ] {
        let status = door.publish_with(event(&["a"]), &metadata).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{metadata:?}");
        assert!(
            status.message().contains("`x-api-key: KEY`"),
            "{}",
            status.message()
        );
        assert!(!status.message().contains("secret"), "{}", status.message());
        assert_eq!(status.get_details_error_info().unwrap().reason, reason);
    }
    assert_eq!(door.heard(), []);
    assert!(door.metrics().contains("tidings_api_keys_refused_total 4\n"));
}

#[tokio::test]
async fn a_key_reaches_as_far_as_its_scopes() {
    let config = keyed(Some(&["task.*"]), Some(&["tasks:*"]));
    let mut door = Door::open(
        &config,
        &[route("task.routed", &["tasks:1", "user:1"], Payload::Event)],
    );
    door.listen(&["tasks:1", "user:1"]).await;
    let refused = async |kind: &str, channels: &[&str]| {
        let event = tidings_proto::fanout::Event {
            r#type: kind.to_owned(),
            ..event(channels)
        };
        let status = door.publish_with(event, &KEY).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["key"], "tasks");
        (info.reason, status.message().to_owned())
    };

    let (reason, message) = refused("bill.paid", &["tasks:1"]).await;
    assert_eq!(reason, "EVENT_OUT_OF_SCOPE");
    assert_eq!(
        message,
        "the API key \"tasks\" may not publish events of type \"bill.paid\"; its scope is backends.key.events"
    );
    for (kind, channels) in [("task.created", &["tasks:1", "user:1"][..]), ("task.routed", &[])] {
        let (reason, message) = refused(kind, channels).await;
        assert_eq!(reason, "CHANNEL_OUT_OF_SCOPE");
        assert_eq!(
            message,
            "the API key \"tasks\" may not publish to channel user:1; its scope is backends.key.channels"
        );
    }
    assert_eq!(door.heard(), []);
    assert!(door.publish_with(event(&["tasks:1"]), &KEY).await.is_ok());
    assert_eq!(door.heard().len(), 1);
}

#[tokio::test]
async fn a_key_asks_for_what_its_methods_say_and_for_nothing_else() {
    let mut config = keyed(None, None);
    config.key[0].methods = Some(vec![Method::Publish]);
    let door = Door::open(&config, &[]);
    assert!(door.publish_with(event(&["a"]), &KEY).await.is_ok());
    let mut fanout = FanoutClient::new(door.channel().await);
    let refused = fanout
        .disconnect(with(proto::DisconnectRequest::default(), &KEY))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(
        refused.message(),
        "the API key \"tasks\" may not ask for \"disconnect\"; its scope is backends.key.methods"
    );
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.metadata["method"].as_str()),
        ("METHOD_OUT_OF_SCOPE", "disconnect")
    );
    let mut presence = PresenceClient::new(door.channel().await);
    let refused = presence
        .list(with(ListRequest::default(), &KEY))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let batch = r#"{"commands": [{"publish": {"channel": "a", "data": 1}}, {"history": {"channel": "a"}}]}"#;
    let answer = send(door.address, "POST /api/batch", &KEY, batch).await.json();
    assert!(answer["replies"][0]["publish"].is_object(), "{answer}");
    assert_eq!(answer["replies"][1]["error"]["code"], 103, "{answer}");

    config.key[0].methods = Some(vec![Method::History]);
    let door = Door::open(&config, &[]);
    let cloud_event = r#"{"specversion": "1.0", "id": "1", "source": "x", "type": "a"}"#;
    let headers = [KEY[0], ("content-type", "application/cloudevents+json")];
    let answer = send(door.address, "POST /v1/events", &headers, cloud_event).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let refused = door.publish_with(event(&["a"]), &KEY).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let answer = send(
        door.address,
        "POST /api/publish",
        &KEY,
        r#"{"channel": "a", "data": 1}"#,
    )
    .await;
    assert_eq!(answer.json()["error"]["code"], 103, "{answer:?}");
    let answer = send(door.address, "POST /api/history", &KEY, r#"{"channel": "a"}"#).await;
    assert!(answer.json()["result"].is_object(), "{answer:?}");
}
