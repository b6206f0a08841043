//! Who may do what at the door.

use tidings_fanout::Payload;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Door, event, keyed, route};

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
