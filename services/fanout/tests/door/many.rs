//! Many events in one call: each has its answer, in order, whatever becomes of the others.

use std::time::Duration;

use tidings_fanout::{Config, Payload};
use tidings_proto::fanout::{self as proto, fanout_client::FanoutClient};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_types::{StatusExt as _, pb};

use crate::harness::{Door, event, insecure, keyed, route};

fn numbered(number: usize, channels: &[&str]) -> proto::Event {
    proto::Event {
        id: format!("e{number}"),
        ..event(channels)
    }
}

fn request(event: proto::Event) -> proto::PublishRequest {
    proto::PublishRequest { event: Some(event) }
}

fn without_type() -> proto::Event {
    proto::Event {
        r#type: String::new(),
        ..numbered(1, &["a"])
    }
}

async fn batch(door: &Door, events: Vec<proto::Event>) -> Result<Vec<proto::PublishResponse>, Status> {
    let mut client = FanoutClient::new(door.channel().await).send_compressed(CompressionEncoding::Gzip);
    let response = client
        .publish_batch(proto::PublishBatchRequest { events })
        .await?;
    Ok(response.into_inner().responses)
}

#[tokio::test]
async fn a_batch_has_an_answer_for_each_event_and_one_that_is_wrong_stops_no_other() {
    let mut door = Door::open(&insecure(), &[route("bill.*", &["{nothing}:x"], Payload::Event)]);
    door.listen(&["a", "b"]).await;
    let unroutable = proto::Event {
        r#type: "bill.paid".to_owned(),
        ..numbered(2, &[])
    };
    let events = vec![
        numbered(0, &["a", "b"]),
        without_type(),
        unroutable,
        numbered(3, &["b"]),
        numbered(0, &["a", "b"]),
    ];
    let responses = batch(&door, events).await.unwrap();
    let codes: Vec<_> = responses
        .iter()
        .map(|response| response.error.as_ref().map(|error| error.code))
        .collect();
    let invalid = Some(Code::InvalidArgument as u32);
    assert_eq!(codes, [None, invalid, invalid, None, None]);
    let ids: Vec<_> = responses
        .iter()
        .map(|response| response.event_id.as_str())
        .collect();
    assert_eq!(ids, ["e0", "e1", "e2", "e3", "e0"]);
    assert_eq!([0, 4].map(|at: usize| responses[at].duplicate), [false, true]);
    assert!(responses[4].results.iter().all(|result| result.duplicate));

    // What is wrong is said to programs, too, as it would be for a single event.
    let error = responses[1].error.clone().unwrap();
    let status = pb::Status {
        code: i32::try_from(error.code).unwrap(),
        message: error.message,
        details: error.details,
    };
    let details = tonic_types::RpcStatusExt::get_details_bad_request(&status).unwrap();
    assert_eq!(details.field_violations[0].field, "event.type");

    let heard: Vec<_> = door
        .heard()
        .into_iter()
        .map(|(channel, heard)| (channel, heard.id))
        .collect();
    let told = |channel: &str, id: &str| (channel.to_owned(), id.to_owned());
    assert_eq!(heard, [told("a", "e0"), told("b", "e0"), told("b", "e3")]);
}

#[tokio::test]
async fn a_batch_that_is_empty_or_too_long_is_refused_as_a_whole() {
    let mut door = Door::open(&insecure(), &[]);
    door.listen(&["a"]).await;
    for count in [0, 1001] {
        let status = batch(&door, vec![numbered(0, &["a"]); count]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            format!("events: are {count}; a batch has 1 to 1000")
        );
    }
    assert_eq!(door.heard(), []);
}

#[tokio::test]
async fn a_stream_is_answered_in_order_while_it_goes_on() {
    let mut door = Door::open(&insecure(), &[]);
    door.listen(&["a"]).await;
    let mut client = FanoutClient::new(door.channel().await);
    let (events, requests) = mpsc::channel(8);
    events.send(request(numbered(0, &["a"]))).await.unwrap();
    let answers = client
        .publish_stream(ReceiverStream::new(requests))
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap().event_id, "e0");

    events.send(request(without_type())).await.unwrap();
    let refused = answers.next().await.unwrap().unwrap();
    assert_eq!(refused.error.unwrap().code, Code::InvalidArgument as u32);

    // Far more than may be under way.
    const MANY: usize = 1000;
    let tell = async move {
        for number in 2..MANY {
            events.send(request(numbered(number, &["b"]))).await.unwrap();
        }
    };
    let take = async {
        for number in 2..MANY {
            let answer = answers.next().await.unwrap().unwrap();
            assert_eq!((answer.event_id, answer.error), (format!("e{number}"), None));
        }
    };
    tokio::join!(tell, take);
    assert!(answers.next().await.is_none());
    assert_eq!(door.heard().len(), 1);
}

#[tokio::test]
async fn a_stream_ends_as_the_server_leaves_after_what_it_has_read_is_answered() {
    let door = Door::open(&insecure(), &[]);
    let mut client = FanoutClient::new(door.channel().await);
    let (events, requests) = mpsc::channel(8);
    events.send(request(numbered(0, &["a"]))).await.unwrap();
    let answers = client
        .publish_stream(ReceiverStream::new(requests))
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap().event_id, "e0");
    door.shutdown.request();
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_details_retry_info().is_some());
    door.shutdown.wait().await;
}

#[tokio::test]
async fn a_key_beyond_its_rate_is_told_when_to_come_back() {
    let mut config: Config = keyed(None, None);
    config.key[0].rate = Some("2/h".parse().unwrap());
    let mut door = Door::open(&config, &[]);
    door.listen(&["a"]).await;
    let key = [("x-api-key", "secret-key")];
    for number in 0..2 {
        door.publish_with(numbered(number, &["a"]), &key).await.unwrap();
    }
    let status = door.publish_with(numbered(2, &["a"]), &key).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "the API key \"tasks\" publishes faster than its rate (2/h)"
    );
    let after = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(
        after > Duration::from_secs(29 * 60) && after <= Duration::from_secs(30 * 60),
        "{after:?}"
    );
    assert_eq!(door.heard().len(), 2);
    assert!(
        door.metrics()
            .contains("tidings_events_total{result=\"limited\"} 1\n")
    );
}
