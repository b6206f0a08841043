//! Routes in force: what they add to events, and how others take their place.

use tidings_broker::Broker;
use tidings_core::{Namespace, Namespaces};
use tidings_fanout::{Deps, Fanout, Payload, Route};
use tidings_proto::fanout as proto;

use crate::harness::{Door, event, insecure, open_to_all, route};

#[tokio::test]
async fn a_route_adds_tags_and_says_what_a_repeat_is() {
    let routes = [Route {
        tags: [("status", "{data.status}"), ("by", "{tenant}")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into(),
        idempotency_key: Some("{subject}".to_owned()),
        ..route("task.*", &["tasks"], Payload::Data)
    }];
    let mut door = Door::open(&insecure(), &routes);
    door.listen(&["tasks"]).await;
    let told = |id: &str, subject: &str| proto::Event {
        id: id.to_owned(),
        subject: subject.to_owned(),
        data: r#"{"status": "open"}"#.into(),
        attributes: [("tenant".to_owned(), "acme".to_owned())].into(),
        tags: [("by".to_owned(), "ann".to_owned())].into(),
        ..event(&[])
    };
    assert!(!door.publish(told("e1", "task/1")).await.unwrap().duplicate);
    assert!(door.publish(told("e2", "task/1")).await.unwrap().duplicate);
    assert!(!door.publish(told("e2", "task/2")).await.unwrap().duplicate);

    let heard = door.heard();
    assert_eq!(heard.len(), 2);
    let tags = [("by", "ann"), ("status", "open")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(heard[0].1.tags, tags.into());

    let status = door
        .publish(proto::Event {
            data: "{}".into(),
            ..told("e3", "task/3")
        })
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        r#"event.data.status: route 1 ("task.*"), tag "status": the event has no data.status"#
    );
}

#[tokio::test]
async fn new_routes_take_the_place_of_old_ones_as_a_whole_or_not_at_all() {
    let mut door = Door::open(&insecure(), &[route("task.*", &["old"], Payload::Event)]);
    door.listen(&["old", "new"]).await;
    let told = |id: &str| proto::Event {
        id: id.to_owned(),
        ..event(&[])
    };
    door.publish(told("e1")).await.unwrap();

    let wrong = [
        route("task.*", &["new"], Payload::Event),
        route("task.*", &["x:{"], Payload::Event),
    ];
    assert_eq!(
        door.routes.replace(&wrong).unwrap_err().to_string(),
        r#"route 2 ("task.*"): channel "x:{": the braces do not match at byte 2"#
    );
    door.publish(told("e2")).await.unwrap();
    assert_eq!(door.routes.replace(&wrong[..1]), Ok(1));
    door.publish(told("e3")).await.unwrap();

    let heard: Vec<_> = door
        .heard()
        .into_iter()
        .map(|(channel, heard)| (channel, heard.id))
        .collect();
    let told = |channel: &str, id: &str| (channel.to_owned(), id.to_owned());
    assert_eq!(heard, [told("old", "e1"), told("old", "e2"), told("new", "e3")]);
    for count in [
        "tidings_routes 1\n",
        "result=\"refused\"} 1\n",
        "result=\"replaced\"} 1\n",
    ] {
        assert!(door.metrics().contains(count), "{count}");
    }
}

#[tokio::test]
async fn a_route_into_a_namespace_that_is_not_configured_is_refused_before_anything_listens() {
    let namespaces = Namespaces::new(vec![Namespace {
        name: "tasks".to_owned(),
        ..Namespace::default()
    }])
    .unwrap();
    let bind = |channel: &str| {
        let deps = Deps {
            namespaces: namespaces.clone(),
            ..open_to_all(&Broker::memory())
        };
        let routes = [route("**", &[channel], Payload::Event)];
        Fanout::bind(&insecure(), &routes, deps, &mut Default::default())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(bind("tasks:{id}"), Ok(()));
    assert_eq!(bind("{subject}:{id}"), Ok(()));
    assert_eq!(
        bind("bills:{id}").unwrap_err(),
        "route 1 (\"**\"): channel \"bills:{id}\" is in the namespace \"bills\", which is not configured; \
         add a [[namespace]] with name = \"bills\""
    );
    assert!(
        bind("lobby")
            .unwrap_err()
            .ends_with("name = \"\", which is for the channels that have none")
    );
}
