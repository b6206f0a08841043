//! What is wrong with an event is said by status, field and words.

use std::time::Duration;

use bytesize::ByteSize;
use tidings_broker::{self as broker, Broker, redis, test_util::RedisServer};
use tidings_fanout::{Config, Payload};
use tidings_proto::fanout as proto;
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_types::StatusExt as _;

use crate::harness::{Door, event, insecure, open_to_all, route};

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().expect("details");
    details
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

#[tokio::test]
async fn a_malformed_event_is_refused_by_its_fields_and_published_nowhere() {
    let mut door = Door::open(&insecure(), &[]);
    door.listen(&["good"]).await;
    let wrong = proto::Event {
        r#type: String::new(),
        data: "{\"id\": ".into(),
        ..event(&["good", "b d", "good"])
    };
    let status = door.publish(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(fields(&status), ["event.type", "event.channels[1]", "event.data"]);
    assert!(
        status.message().starts_with("event.type: is required"),
        "{}",
        status.message()
    );
    assert!(
        status.message().ends_with("(and 2 more, see the details)"),
        "{}",
        status.message()
    );
    assert_eq!(door.heard(), []);
    assert!(
        door.metrics()
            .contains("tidings_events_total{result=\"invalid\"} 1\n")
    );
}

#[tokio::test]
async fn an_event_that_lacks_what_a_route_needs_is_refused_by_route_and_field() {
    let mut door = Door::open(
        &insecure(),
        &[
            route("**", &["audit"], Payload::Event),
            route("task.*", &["user:{data.assignee.id}"], Payload::Event),
        ],
    );
    door.listen(&["audit"]).await;
    let status = door.publish(event(&[])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(fields(&status), ["event.data.assignee.id"]);
    assert_eq!(
        status.message(),
        "event.data.assignee.id: route 2 (\"task.*\"), channel \"user:{data.assignee.id}\": \
         the event has no data.assignee.id"
    );
    assert_eq!(door.heard(), []);
}

#[tokio::test]
async fn a_request_without_an_event_is_refused() {
    let door = Door::open(&insecure(), &[]);
    let mut client = proto::fanout_client::FanoutClient::new(door.channel().await);
    let status = client
        .publish(proto::PublishRequest { event: None })
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "event: is required")
    );
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_the_limit() {
    let config = Config {
        message_size: ByteSize::kib(4),
        ..insecure()
    };
    let door = Door::open(&config, &[]);
    let large = proto::Event {
        data: format!("\"{}\"", "x".repeat(5000)).into(),
        ..event(&["a"])
    };
    let status = door.publish(large).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "the request is larger than 4096 bytes, which backends.message_size allows"
    );
    let small = proto::Event {
        data: format!("\"{}\"", "x".repeat(3000)).into(),
        ..event(&["a"])
    };
    assert!(door.publish(small.clone()).await.is_ok());

    // The limit is that of what a compressed request becomes.
    let mut client = proto::fanout_client::FanoutClient::new(door.channel().await)
        .send_compressed(CompressionEncoding::Gzip);
    assert!(
        client
            .publish(proto::PublishRequest { event: Some(small) })
            .await
            .is_ok()
    );
    let bomb = proto::Event {
        data: format!("\"{}\"", "x".repeat(1_000_000)).into(),
        ..event(&["a"])
    };
    let status = client
        .publish(proto::PublishRequest { event: Some(bomb) })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn while_the_bus_is_away_a_backend_is_told_when_to_retry() {
    // A port that was free a moment ago: nobody answers there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("redis://{nobody}").parse().unwrap();
    let broker = Broker::redis(&redis::Config::new(url)).unwrap();
    let door = Door::open_with(open_to_all(&broker), &insecure(), &[]);
    let status = door.publish(event(&["a", "b"])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        status.message().contains("retry with the same event id"),
        "{}",
        status.message()
    );
    let retry = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn what_the_bus_refuses_is_told_channel_by_channel() {
    let acl = [
        "--user",
        "default",
        "on",
        "nopass",
        "+@all",
        "~*",
        "resetchannels",
        "&tidings:ch:{open:*",
    ];
    let Some(server) = RedisServer::start_with(&acl) else {
        return;
    };
    let broker = Broker::redis(&server.config()).unwrap();
    let up = |status: &broker::Status| *status == broker::Status::Up;
    broker.status().wait_for(up).await.unwrap();
    let door = Door::open_with(open_to_all(&broker), &insecure(), &[]);

    let response = door.publish(event(&["closed:1", "open:1"])).await.unwrap();
    let [closed, open] = response.results.as_slice() else {
        panic!("{response:?}")
    };
    let error = closed.error.as_ref().unwrap();
    assert_eq!(error.code, Code::FailedPrecondition as u32);
    assert!(error.message.contains(" refused: "), "{}", error.message);
    assert_eq!(open.error, None);

    // Another event: the first is kept in the channel, where a retry finds it.
    let other = proto::Event {
        id: "e2".to_owned(),
        ..event(&["closed:1"])
    };
    let status = door.publish(other).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.get_details_error_info().unwrap().reason, "BUS_REFUSED");
    let metrics = door.metrics();
    for line in [
        "tidings_events_total{result=\"partly\"} 1\n",
        "tidings_events_total{result=\"failed\"} 1\n",
        "tidings_publications_total{namespace=\"closed\",result=\"failed\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}
