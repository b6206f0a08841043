//! What nodes are asked about themselves; a gateway on the same bus that answers as a test says.

use serde_json::json;
use tidings_broker::Broker;
use tidings_fanout::Config;
use tidings_proto::{
    bus::{self, active_channels::Pattern, report, survey},
    fanout::{self as proto, fanout_client::FanoutClient},
};
use tonic::{Code, transport};
use tonic_types::StatusExt as _;

use crate::{
    gateway::Gateway,
    harness::{Door, insecure, keyed, open_to_all, with},
    http::send,
};

const KEY: [(&str, &str); 1] = [("x-api-key", "secret-key")];

async fn open(config: &Config) -> (Door, FanoutClient<transport::Channel>, Gateway) {
    let broker = Broker::memory();
    let door = Door::open_with(open_to_all(&broker), config, &[]);
    let client = FanoutClient::new(door.channel().await);
    (door, client, Gateway::start(&broker).await)
}

fn node(name: &str) -> report::What {
    report::What::Node(bus::Node {
        id: "1".to_owned(),
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        roles: vec!["gateway".to_owned()],
        uptime_ms: 61_500,
        connections: 3,
        users: 2,
        channels: 4,
        subscriptions: 5,
    })
}

fn counts(channels: &[(&str, u32)], last: &str, more: bool) -> report::What {
    let channels = channels.iter().map(|&(channel, clients)| bus::ChannelCount {
        channel: channel.to_owned(),
        clients,
    });
    report::What::Channels(bus::ChannelCounts {
        channels: channels.collect(),
        last: last.to_owned(),
        more,
    })
}

fn channels(pattern: &str, page_token: &str) -> proto::ChannelsRequest {
    proto::ChannelsRequest {
        pattern: pattern.to_owned(),
        page_token: page_token.to_owned(),
        ..proto::ChannelsRequest::default()
    }
}

#[tokio::test]
async fn every_node_that_answers_is_told_of_with_how_much_it_has_to_do() {
    let (door, mut client, mut gateway) = open(&insecure()).await;
    let (answer, asked) = tokio::join!(client.info(proto::InfoRequest {}), gateway.report(node("host")));
    assert!(matches!(asked, survey::What::RollCall(_)));
    let answer = answer.unwrap().into_inner();
    assert!(answer.complete);
    let expected = proto::Node {
        id: "1".to_owned(),
        name: "host".to_owned(),
        version: "0.1.0".to_owned(),
        roles: vec!["gateway".to_owned()],
        uptime: Some(prost_types::Duration {
            seconds: 61,
            nanos: 500_000_000,
        }),
        connections: 3,
        users: 2,
        channels: 4,
        subscriptions: 5,
    };
    assert_eq!(answer.nodes, [expected]);

    let ask = send(door.address, "POST /api/info", &[], "{}");
    let (answer, _) = tokio::join!(ask, gateway.report(node("host")));
    let expected = json!({ "nodes": [{
        "uid": "1", "name": "host", "version": "0.1.0", "num_clients": 3, "num_users": 2, "num_channels": 4,
        "num_subs": 5, "uptime": 61,
    }] });
    assert_eq!(answer.json()["result"], expected);
    assert!(
        door.metrics()
            .contains(r#"tidings_orders_total{method="Info",result="complete"} 2"#)
    );
}

#[tokio::test]
async fn a_node_that_does_not_answer_leaves_the_answer_incomplete_and_fails_the_api() {
    let (door, mut client, _silent) = open(&insecure()).await;
    let mut other = client.clone();
    // All at once: each waits for a second.
    let (nodes, active, info, channels) = tokio::join!(
        client.info(proto::InfoRequest {}),
        other.channels(channels("", "")),
        send(door.address, "POST /api/info", &[], "{}"),
        send(door.address, "POST /api/channels", &[], "{}"),
    );
    let nodes = nodes.unwrap().into_inner();
    assert_eq!((nodes.nodes.len(), nodes.complete), (0, false));
    let active = active.unwrap().into_inner();
    assert_eq!((active.channels.len(), active.complete), (0, false));
    for answer in [info, channels] {
        assert_eq!(answer.json()["error"]["code"], 100, "{answer:?}");
    }
}

#[tokio::test]
async fn channels_come_in_pages_with_their_clients() {
    let (_door, mut client, mut gateway) = open(&insecure()).await;
    let first = counts(&[("tasks:1", 2), ("tasks:2", 1)], "tasks:2", true);
    let (answer, asked) = tokio::join!(client.channels(channels("tasks:*", "")), gateway.report(first));
    let survey::What::Channels(asked) = asked else {
        panic!("channels were asked for");
    };
    assert_eq!(asked.pattern, Some(Pattern::Segments("tasks:*".to_owned())));
    assert_eq!(
        (asked.limit, asked.after.as_str(), asked.within.len()),
        (100, "", 0)
    );
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.next_page_token, "tasks:2");
    let found: Vec<_> = answer
        .channels
        .iter()
        .map(|it| (it.channel.as_str(), it.clients))
        .collect();
    assert_eq!(found, [("tasks:1", 2), ("tasks:2", 1)]);

    let last = counts(&[("tasks:3", 1)], "tasks:3", false);
    let next = client.channels(channels("tasks:*", "tasks:2"));
    let (answer, asked) = tokio::join!(next, gateway.report(last));
    assert!(matches!(asked, survey::What::Channels(asked) if asked.after == "tasks:2"));
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.channels.len(), answer.next_page_token.as_str()), (1, ""));
}

#[tokio::test]
async fn the_api_has_no_pages_and_patterns_of_its_own() {
    let (door, _, mut gateway) = open(&insecure()).await;
    let ask = send(
        door.address,
        "POST /api/channels",
        &[],
        r#"{"pattern": "{tasks,news}:*"}"#,
    );
    let report = async {
        let asked = gateway.report(counts(&[("news:1", 1)], "news:1", true)).await;
        assert!(matches!(
            asked,
            survey::What::Channels(bus::ActiveChannels {
                pattern: Some(Pattern::Wildcards(_)),
                limit: 1000,
                ..
            })
        ));
        gateway
            .report(counts(&[("tasks:1:2", 2)], "tasks:1:2", false))
            .await
    };
    let (answer, _) = tokio::join!(ask, report);
    let expected = json!({ "channels": {
        "news:1": { "num_clients": 1 }, "tasks:1:2": { "num_clients": 2 },
    } });
    assert_eq!(answer.json()["result"], expected);
    let wrong = send(door.address, "POST /api/channels", &[], r#"{"pattern": "["}"#).await;
    assert_eq!(wrong.json()["error"]["code"], 107, "{wrong:?}");
}

#[tokio::test]
async fn a_key_is_told_of_what_its_scope_has_and_of_no_nodes() {
    let (_door, mut client, mut gateway) = open(&keyed(None, Some(&["tasks:*", "news"]))).await;
    let ask = client.channels(with(channels("", ""), &KEY));
    let (_, asked) = tokio::join!(ask, gateway.report(counts(&[], "", false)));
    assert!(matches!(asked, survey::What::Channels(asked) if asked.within == ["tasks:*", "news"]));
    let refused = client.info(with(proto::InfoRequest {}, &KEY)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(
        refused.get_details_error_info().unwrap().reason,
        "NODES_OUT_OF_SCOPE"
    );
    assert_eq!(
        client.info(proto::InfoRequest {}).await.unwrap_err().code(),
        Code::Unauthenticated
    );

    // Nothing is in no scope, and nobody is asked.
    let (_door, mut client, _silent) = open(&keyed(None, Some(&[]))).await;
    let nothing = client
        .channels(with(channels("", ""), &KEY))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((nothing.channels.len(), nothing.complete), (0, true));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_field() {
    let (_door, mut client, _gateway) = open(&insecure()).await;
    let wrong = proto::ChannelsRequest {
        pattern: "tasks:1*".to_owned(),
        page_size: 1001,
        page_token: "\u{7}".to_owned(),
    };
    let refused = client.channels(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_details_bad_request().unwrap();
    let fields: Vec<_> = details.field_violations.into_iter().map(|it| it.field).collect();
    assert_eq!(fields, ["pattern", "page_size", "page_token"]);
}
