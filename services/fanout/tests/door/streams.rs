//! What a namespace keeps, and that an event is published once however often it is sent.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use tidings_broker::{Broker, Query, Status as Bus, redis, test_util::RedisServer};
use tidings_core::{Channel, Namespace, Namespaces, Retention};
use tidings_fanout::{Deps, Payload, Route};
use tidings_proto::fanout::{self as proto, ChannelResult};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    harness::{Door, event, insecure, route},
    proxy,
};

/// `tasks` and `open` keep what is published, `news` does not, and there is no other.
fn deps(broker: &Broker) -> Deps {
    let kept = Namespace::open;
    let news = Namespace {
        name: "news".to_owned(),
        ..Namespace::default()
    };
    Deps {
        node: "test".to_owned(),
        broker: broker.clone(),
        namespaces: Namespaces::new(vec![kept("tasks"), kept("open"), news]).unwrap(),
        presence: None,
    }
}

fn door(routes: &[Route]) -> Door {
    Door::open_with(deps(&Broker::memory()), &insecure(), routes)
}

/// The same event as [`event`] with another id; empty: the door makes one.
fn named(id: &str, channels: &[&str]) -> proto::Event {
    proto::Event {
        id: id.to_owned(),
        ..event(channels)
    }
}

/// The same, from channels that had it already.
fn repeated(results: &[ChannelResult]) -> Vec<ChannelResult> {
    let repeated = |result: &ChannelResult| ChannelResult {
        duplicate: true,
        ..result.clone()
    };
    results.iter().map(repeated).collect()
}

fn offsets(results: &[ChannelResult]) -> Vec<(&str, u64)> {
    results
        .iter()
        .map(|result| (result.channel.as_str(), result.offset))
        .collect()
}

/// The ids in a channel's stream, oldest first.
async fn kept(broker: &Broker, channel: &str) -> Vec<String> {
    let channel = Channel::parse(channel).unwrap();
    let retention: Retention = Namespace::open("").retention().unwrap();
    let all = Query {
        limit: 100,
        ..Query::default()
    };
    let history = broker
        .streams()
        .read(&channel, retention, all, None)
        .await
        .unwrap();
    let ids = history.publications.into_iter().map(|publication| publication.id);
    ids.collect()
}

async fn up(broker: &Broker) {
    let up = |status: &Bus| *status == Bus::Up;
    broker.status().wait_for(up).await.unwrap();
}

#[tokio::test]
async fn a_channel_that_keeps_its_publications_numbers_them() {
    let mut door = door(&[]);
    door.listen(&["tasks:1", "news:1"]).await;
    let mut epochs = Vec::new();
    for (id, offset) in [("e1", 1), ("e2", 2), ("e3", 3)] {
        let response = door.publish(named(id, &["tasks:1", "news:1"])).await.unwrap();
        assert!(!response.duplicate);
        assert_eq!(offsets(&response.results), [("tasks:1", offset), ("news:1", 0)]);
        let [tasks, news] = response.results.as_slice() else {
            panic!("{response:?}")
        };
        assert_eq!(news.epoch, "");
        epochs.push(tasks.epoch.clone());

        let heard = door
            .heard()
            .into_iter()
            .map(|(_, publication)| publication.position);
        let positions: Vec<_> = heard.map(|at| at.map(|at| (at.offset, at.epoch))).collect();
        assert_eq!(positions, [Some((offset, tasks.epoch.clone())), None]);
    }
    assert!(!epochs[0].is_empty());
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_nobody_hears_it_again() {
    let mut door = door(&[]);
    door.listen(&["tasks:1", "news:1"]).await;
    let told = event(&["tasks:1", "news:1"]);
    let first = door.publish(told.clone()).await.unwrap();
    assert!(!first.duplicate);
    assert_eq!(door.heard().len(), 2);
    door.publish(named("e2", &["tasks:1"])).await.unwrap();
    assert_eq!(door.heard().len(), 1);

    // What else it says is of no account: it is the same event.
    let repeat = proto::Event {
        data: "2".into(),
        ..told.clone()
    };
    for repeat in [told.clone(), repeat] {
        let again = door.publish(repeat).await.unwrap();
        assert!(again.duplicate);
        assert_eq!(
            (&again.event_id, &again.results),
            (&first.event_id, &repeated(&first.results))
        );
    }
    assert_eq!(door.heard(), []);

    let elsewhere = proto::Event {
        source: "another".to_owned(),
        ..told
    };
    let response = door.publish(elsewhere).await.unwrap();
    assert!(!response.duplicate);
    assert_eq!(offsets(&response.results), [("tasks:1", 3), ("news:1", 0)]);
    assert_eq!(door.heard().len(), 2);

    let metrics = door.metrics();
    for line in [
        "tidings_events_total{result=\"published\"} 3\n",
        "tidings_events_total{result=\"duplicate\"} 2\n",
        "tidings_publications_total{namespace=\"tasks\",result=\"published\"} 3\n",
        "tidings_publications_total{namespace=\"tasks\",result=\"duplicate\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_repeat_reaches_only_the_channels_that_do_not_have_it() {
    let routes = [
        route("task.*", &["tasks:{data.teams}"], Payload::Data),
        route("task.*", &["tasks:all"], Payload::Event),
    ];
    let mut door = door(&routes);
    door.listen(&["tasks:a", "tasks:b", "tasks:all"]).await;
    let told = |data: &'static str| proto::Event {
        data: data.into(),
        ..event(&[])
    };
    door.publish(told(r#"{"teams": ["a"]}"#)).await.unwrap();
    assert_eq!(door.heard().len(), 2);
    let response = door.publish(told(r#"{"teams": ["a", "b"]}"#)).await.unwrap();
    assert!(!response.duplicate);
    assert_eq!(
        offsets(&response.results),
        [("tasks:a", 1), ("tasks:b", 1), ("tasks:all", 1)]
    );
    let heard: Vec<_> = door.heard().into_iter().map(|(channel, _)| channel).collect();
    assert_eq!(heard, ["tasks:b"]);
}

#[tokio::test]
async fn an_event_without_an_id_is_another_each_time() {
    let mut door = door(&[]);
    door.listen(&["tasks:1"]).await;
    for offset in 1..=3 {
        let response = door.publish(named("", &["tasks:1"])).await.unwrap();
        assert!(!response.duplicate);
        assert_eq!(offsets(&response.results), [("tasks:1", offset)]);
    }
    assert_eq!(door.heard().len(), 3);
}

#[tokio::test]
async fn a_namespace_that_is_not_configured_is_named_and_nothing_is_published() {
    let routes = [
        route("**", &["tasks:all"], Payload::Event),
        route("bill.*", &["{subject}:{data.id}"], Payload::Event),
    ];
    let mut door = door(&routes);
    door.listen(&["tasks:1", "tasks:all", "bills:1", "lobby"]).await;
    let paid = proto::Event {
        r#type: "bill.paid".to_owned(),
        subject: "bills".to_owned(),
        ..event(&[])
    };
    for (told, namespace, message, advice) in [
        (
            event(&["tasks:1", "bills:1"]),
            "bills",
            "channel bills:1: no namespace \"bills\" is configured",
            "add a [[namespace]] with name = \"bills\" to the configuration",
        ),
        (
            paid,
            "bills",
            "route 2 (\"bill.*\") gives channel bills:1: no namespace \"bills\" is configured",
            "add a [[namespace]] with name = \"bills\" to the configuration",
        ),
        (
            event(&["lobby"]),
            "",
            "channel lobby: no namespace \"\" is configured",
            "add a [[namespace]] with name = \"\" to the configuration, which is for the channels that have none",
        ),
    ] {
        let status = door.publish(told).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert_eq!(status.message(), format!("{message}; {advice}"));
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!(
            (
                resource.resource_type.as_str(),
                resource.resource_name.as_str(),
                resource.description.as_str()
            ),
            ("namespace", namespace, advice)
        );
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "NAMESPACE_NOT_CONFIGURED");
    }
    assert_eq!(door.heard(), []);
    assert!(
        door.metrics()
            .contains("tidings_events_total{result=\"invalid\"} 3\n")
    );
}

#[tokio::test]
async fn a_retry_publishes_what_had_failed_and_nothing_else() {
    let acl = [
        "--user",
        "default",
        "on",
        "nopass",
        "+@all",
        "allchannels",
        "~*{open:*",
        "~*:server",
    ];
    let Some(server) = RedisServer::start_with(&acl) else {
        return;
    };
    let broker = Broker::redis(&server.config()).unwrap();
    up(&broker).await;
    let door = Door::open_with(deps(&broker), &insecure(), &[]);
    let told = event(&["tasks:1", "open:1"]);

    let partly = door.publish(told.clone()).await.unwrap();
    assert!(!partly.duplicate);
    assert_eq!(offsets(&partly.results), [("tasks:1", 0), ("open:1", 1)]);
    let error = partly.results[0].error.as_ref().unwrap();
    assert_eq!(error.code, Code::FailedPrecondition as u32, "{error:?}");
    door.publish(named("e2", &["open:1"])).await.unwrap();

    let mut operator = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    operator.write_all(b"ACL SETUSER default allkeys\r\n").unwrap();
    let mut answer = [0; 5];
    operator.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n");

    let retried = door.publish(told.clone()).await.unwrap();
    assert!(!retried.duplicate);
    assert_eq!(offsets(&retried.results), [("tasks:1", 1), ("open:1", 1)]);
    assert_eq!(retried.results[0].error, None);
    assert_eq!(retried.results[1..], repeated(&partly.results[1..]));

    let again = door.publish(told).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.results, repeated(&retried.results));
    assert_eq!(kept(&broker, "tasks:1").await, ["e1"]);
    assert_eq!(kept(&broker, "open:1").await, ["e1", "e2"]);
}

#[tokio::test]
async fn an_event_whose_answer_got_lost_is_published_once_by_its_retries() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let address = proxy::losing_the_answer_to(b"the lost one", server.port()).await;
    let config = redis::Config {
        command_timeout: Duration::from_millis(500),
        ..redis::Config::new(format!("redis://{address}").parse().unwrap())
    };
    let broker = Broker::redis(&config).unwrap();
    up(&broker).await;
    let door = Door::open_with(deps(&broker), &insecure(), &[]);

    /// As a backend does it: until there is an answer. Also gives how often there was none.
    async fn persistently(door: &Door, told: &proto::Event) -> (proto::PublishResponse, u32) {
        let mut refused = 0;
        loop {
            match door.publish(told.clone()).await {
                Ok(response) => return (response, refused),
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
            refused += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    // By now Redis knows the script: what is sent next is done at once.
    persistently(&door, &named("before", &["tasks:1"])).await;
    let lost = proto::Event {
        data: "\"the lost one\"".into(),
        ..event(&["tasks:1", "tasks:2"])
    };
    let (response, refused) = persistently(&door, &lost).await;
    assert!(refused > 0, "the first answer was to be lost");
    assert!(response.duplicate, "{response:?}");
    assert_eq!(offsets(&response.results), [("tasks:1", 2), ("tasks:2", 1)]);

    let direct = Broker::redis(&server.config()).unwrap();
    up(&direct).await;
    assert_eq!(kept(&direct, "tasks:1").await, ["before", "e1"]);
    assert_eq!(kept(&direct, "tasks:2").await, ["e1"]);
}
