//! An event that is accepted reaches whom it should, in the right form.

use std::collections::HashMap;

use prost_types::Timestamp;
use tidings_broker::Broker;
use tidings_core::{Format, Namespace, Namespaces, TraceContext};
use tidings_fanout::{Deps, Payload};
use tidings_proto::fanout as proto;

use crate::harness::{Door, event, insecure, open_to_all, route};

#[tokio::test]
async fn an_event_reaches_the_channels_that_it_names_as_a_whole() {
    let mut door = Door::open(&insecure(), &[route("**", &["unused"], Payload::Data)]);
    door.listen(&["tasks:1", "tasks:2", "unused"]).await;

    let told = proto::Event {
        source: "task-service".to_owned(),
        subject: "task/1".to_owned(),
        time: Some(Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        ..event(&["tasks:2", "tasks:1", "tasks:2"])
    };
    let response = door.publish(told).await.unwrap();
    assert_eq!(response.event_id, "e1");
    let channels: Vec<_> = response
        .results
        .iter()
        .map(|result| result.channel.as_str())
        .collect();
    assert_eq!(channels, ["tasks:2", "tasks:1"]);
    assert!(response.results.iter().all(|result| result.error.is_none()));

    let heard = door.heard();
    assert_eq!(
        heard
            .iter()
            .map(|(channel, _)| channel.as_str())
            .collect::<Vec<_>>(),
        ["tasks:2", "tasks:1"]
    );
    for (_, publication) in heard {
        assert_eq!(
            (publication.id.as_str(), publication.kind.as_str()),
            ("e1", "task.created")
        );
        assert_eq!(publication.format, Format::Json);
        assert_eq!(
            publication.data,
            r#"{"id":"e1","type":"task.created","source":"task-service","time":"2023-11-14T22:13:20.000Z","subject":"task/1","data":{"id": 1}}"#
        );
    }
}

#[tokio::test]
async fn an_event_without_channels_goes_where_the_routes_say_in_their_form() {
    let routes = [
        route("task.*", &["tasks:{tenant}"], Payload::Data),
        route("task.created", &["user:{data.assignees}"], Payload::Event),
        route("task.*", &["audit"], Payload::Data),
    ];
    let mut door = Door::open(&insecure(), &routes);
    door.listen(&["tasks:acme", "user:ann", "user:bob", "audit"])
        .await;
    let told = proto::Event {
        attributes: HashMap::from([("tenant".to_owned(), "acme".to_owned())]),
        data: "{\n\"assignees\": [\"ann\", \"bob\"]}".into(),
        ..event(&[])
    };
    let response = door.publish(told).await.unwrap();
    let channels: Vec<_> = response
        .results
        .iter()
        .map(|result| result.channel.as_str())
        .collect();
    assert_eq!(channels, ["tasks:acme", "user:ann", "user:bob", "audit"]);

    let forms: HashMap<String, bool> = door
        .heard()
        .into_iter()
        .map(|(channel, publication)| {
            (
                channel,
                publication.data == "{ \"assignees\": [\"ann\", \"bob\"]}",
            )
        })
        .collect();
    let bare = ["tasks:acme", "audit"].map(|name| (name.to_owned(), true));
    let whole = ["user:ann", "user:bob"].map(|name| (name.to_owned(), false));
    assert_eq!(forms, bare.into_iter().chain(whole).collect());
}

#[tokio::test]
async fn data_that_is_not_json_arrives_as_it_was_sent() {
    let mut door = Door::open(&insecure(), &[route("**", &["raw"], Payload::Data)]);
    door.listen(&["raw"]).await;
    let told = proto::Event {
        data_content_type: "application/octet-stream".to_owned(),
        data: b"\x00\n\xff"[..].into(),
        ..event(&[])
    };
    door.publish(told).await.unwrap();
    let heard = door.heard();
    assert_eq!(heard[0].1.data, b"\x00\n\xff"[..]);
    assert_eq!(heard[0].1.format, Format::Binary);
}

#[tokio::test]
async fn an_event_that_nobody_asked_for_is_accepted_and_counted() {
    let door = Door::open(&insecure(), &[route("bill.*", &["bills"], Payload::Event)]);
    let response = door.publish(event(&[])).await.unwrap();
    assert_eq!(response.results, []);
    let metrics = door.metrics();
    assert!(metrics.contains("tidings_events_unrouted_total 1\n"), "{metrics}");
    assert!(
        metrics.contains("tidings_events_total{result=\"published\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn publications_are_counted_by_namespace() {
    let door = Door::open(&insecure(), &[]);
    door.publish(event(&["tasks:1", "tasks:2", "news"]))
        .await
        .unwrap();
    let metrics = door.metrics();
    for line in [
        "tidings_publications_total{namespace=\"tasks\",result=\"published\"} 2\n",
        "tidings_publications_total{namespace=\"\",result=\"published\"} 1\n",
        "tidings_publish_duration_seconds_count 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn the_callers_trace_travels_with_the_publication() {
    let mut door = Door::open(&insecure(), &[]);
    door.listen(&["tasks:1"]).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let metadata = [("traceparent", traceparent), ("tracestate", "vendor=1")];
    door.publish_with(event(&["tasks:1"]), &metadata).await.unwrap();
    assert_eq!(
        door.heard()[0].1.trace,
        Some(TraceContext {
            traceparent: traceparent.to_owned(),
            tracestate: "vendor=1".to_owned()
        })
    );
    let endless: &'static str = "x".repeat(4000).leak();
    let next = proto::Event {
        id: "e2".to_owned(),
        ..event(&["tasks:1"])
    };
    door.publish_with(next, &[("traceparent", endless)])
        .await
        .unwrap();
    assert_eq!(door.heard()[0].1.trace, None);
}

#[tokio::test]
async fn many_channels_are_one_request() {
    let mut door = Door::open(&insecure(), &[]);
    door.listen(&["c:9999"]).await;
    let names: Vec<String> = (0..10_000).map(|number| format!("c:{number}")).collect();
    let response = door
        .publish(proto::Event {
            channels: names.clone(),
            ..event(&[])
        })
        .await
        .unwrap();
    assert_eq!(
        response
            .results
            .into_iter()
            .map(|result| result.channel)
            .collect::<Vec<_>>(),
        names
    );
    assert_eq!(door.heard().len(), 1);
}

#[tokio::test]
async fn clients_hear_of_the_trace_where_their_namespace_says_so_and_the_events_own_tag_stands() {
    let namespace = |name: &str, traceparent_tag| Namespace {
        traceparent_tag,
        ..Namespace::open(name)
    };
    let namespaces = Namespaces::new(vec![namespace("traced", true), namespace("plain", false)]).unwrap();
    let deps = Deps {
        namespaces,
        ..open_to_all(&Broker::memory())
    };
    let mut door = Door::open_with(deps, &insecure(), &[]);
    let channels = ["traced:1", "plain:1", "traced:2"];
    door.listen(&channels).await;
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let tags = async |door: &mut Door, event, metadata: &[_]| {
        let response = door.publish_with(event, metadata).await.unwrap();
        let answered: Vec<_> = response.results.iter().map(|it| it.channel.as_str()).collect();
        assert_eq!(answered, channels);
        let heard = door.heard().into_iter();
        let tags = heard.map(|(channel, it)| (channel, it.tags.get("traceparent").cloned()));
        tags.collect::<HashMap<_, _>>()
    };

    let heard = tags(&mut door, event(&channels), &[("traceparent", caller)]).await;
    assert_eq!(heard["traced:1"].as_deref(), Some(caller));
    assert_eq!(heard["traced:2"].as_deref(), Some(caller));
    assert_eq!(heard["plain:1"], None);

    let untraced = proto::Event {
        id: "e2".to_owned(),
        ..event(&channels)
    };
    let heard = tags(&mut door, untraced, &[]).await;
    assert!(heard.values().all(Option::is_none), "{heard:?}");

    let own = proto::Event {
        id: "e3".to_owned(),
        tags: HashMap::from([("traceparent".to_owned(), "its own".to_owned())]),
        ..event(&channels)
    };
    let heard = tags(&mut door, own, &[("traceparent", caller)]).await;
    assert!(
        heard.values().all(|tag| tag.as_deref() == Some("its own")),
        "{heard:?}"
    );
}
