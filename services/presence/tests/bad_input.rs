//! What is wrong is refused with a status that names it, and harms nobody.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Gateway, LEASE, client, joined, member, presence, redis_store, serve, users};
use tidings_broker::{Broker, test_util::RedisServer};
use tidings_presence::Store;
use tidings_proto::presence::{
    Change, ListRequest, Member, Snapshot, StatsRequest, gateway_update::Update,
    presence_client::PresenceClient,
};
use tidings_runtime::Shutdown;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_bad_read_is_refused_by_the_name_of_its_field() {
    let shutdown = Shutdown::new();
    let channel = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    let good = || ListRequest {
        channel: "tasks".to_owned(),
        ..ListRequest::default()
    };
    for (request, field) in [
        (
            ListRequest {
                channel: String::new(),
                ..good()
            },
            "channel",
        ),
        (
            ListRequest {
                channel: "a{b}".to_owned(),
                ..good()
            },
            "channel",
        ),
        (
            ListRequest {
                channel: "x".repeat(256),
                ..good()
            },
            "channel",
        ),
        (
            ListRequest {
                page_size: 1_001,
                ..good()
            },
            "page_size",
        ),
        (
            ListRequest {
                page_token: "1".to_owned(),
                ..good()
            },
            "page_token",
        ),
    ] {
        refused(&client(&channel).list(request).await.unwrap_err(), field);
    }
    refused(
        &client(&channel)
            .stats(StatsRequest {
                channel: "a b".to_owned(),
            })
            .await
            .unwrap_err(),
        "channel",
    );
    client(&channel).list(good()).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_breaks_the_order_is_refused() {
    let shutdown = Shutdown::new();
    let channel = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    let snapshot = |last| {
        Update::Snapshot(Snapshot {
            members: vec![],
            last,
        })
    };

    let mut gateway = Gateway::connect(&channel).await;
    refused(&gateway.heartbeat().await.unwrap_err(), "update");

    let mut gateway = Gateway::connect(&channel).await;
    refused(&gateway.say_nothing().await.unwrap_err(), "update");

    let mut gateway = Gateway::connect(&channel).await;
    gateway.hello("g1", LEASE).await.unwrap();
    gateway.heartbeat().await.unwrap();
    refused(&gateway.change(vec![]).await.unwrap_err(), "changes");

    let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[]).await;
    refused(&gateway.tell(snapshot(true)).await.unwrap_err(), "snapshot");

    let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[]).await;
    refused(&gateway.hello("g1", LEASE).await.unwrap_err(), "hello");

    let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[]).await;
    gateway.goodbye().await.unwrap();
    refused(&gateway.heartbeat().await.unwrap_err(), "update");

    // Two are taken: the next is the third.
    for said in [1, 2, 4] {
        let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[]).await;
        gateway.seq = said - 1;
        refused(&gateway.heartbeat().await.unwrap_err(), "seq");
    }
}

#[tokio::test]
async fn a_bad_update_ends_its_stream_and_leaves_what_was_there() {
    let shutdown = Shutdown::new();
    let channel = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[member("tasks", "ada")]).await;
    let bad = Member {
        conn_info: vec![b' '; 100_000].into(),
        ..member("tasks", "bob")
    };
    let changes = vec![joined(&member("tasks", "eve")), joined(&bad)];
    refused(
        &gateway.change(changes).await.unwrap_err(),
        "changes.changes[1].joined.conn_info",
    );
    assert_eq!(users(&channel, "tasks").await, ["ada"]);

    for (bad, field) in [
        (
            Member {
                chan_info: vec![b' '; 65_537].into(),
                ..member("tasks", "bob")
            },
            "snapshot.members[0].chan_info",
        ),
        (member("tasks", &"x".repeat(1_025)), "snapshot.members[0].user"),
        (member("a b", "bob"), "snapshot.members[0].channel"),
    ] {
        let mut gateway = Gateway::connect(&channel).await;
        gateway.hello("g2", LEASE).await.unwrap();
        let snapshot = Snapshot {
            members: vec![bad],
            last: true,
        };
        refused(
            &gateway.tell(Update::Snapshot(snapshot)).await.unwrap_err(),
            field,
        );
        assert_eq!(users(&channel, "tasks").await, ["ada"]);
    }

    let mut gateway = Gateway::attach(&channel, "g2", LEASE, &[]).await;
    refused(
        &gateway.change(vec![Change { change: None }]).await.unwrap_err(),
        "changes.changes[0]",
    );
    let mut gateway = Gateway::attach(&channel, "g2", LEASE, &[]).await;
    let many = vec![joined(&member("tasks", "bob")); 1_001];
    refused(&gateway.change(many).await.unwrap_err(), "changes.changes");
    assert_eq!(users(&channel, "tasks").await, ["ada"]);
}

#[tokio::test]
async fn a_bad_hello_is_refused() {
    let shutdown = Shutdown::new();
    let channel = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    for (id, lease, field) in [
        ("", LEASE, "hello.gateway"),
        ("a b", LEASE, "hello.gateway"),
        ("g1", Duration::from_millis(999), "hello.lease_ms"),
        ("g1", Duration::from_secs(601), "hello.lease_ms"),
    ] {
        refused(
            &Gateway::connect(&channel)
                .await
                .hello(id, lease)
                .await
                .unwrap_err(),
            field,
        );
    }
}

#[tokio::test]
async fn a_gateway_id_that_is_attached_elsewhere_is_the_newer_ones_and_the_older_is_told() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let shutdown = Shutdown::new();
    let replicas = [(); 2].map(|()| serve(&redis_store(&server), &shutdown));
    for (here, there) in [(0, 0), (0, 1)] {
        let (here, there) = (&replicas[here], &replicas[there]);
        let mut older = Gateway::attach(here, "g1", LEASE, &[member("tasks", "ada")]).await;
        let newer = Gateway::attach(there, "g1", LEASE, &[member("tasks", "bob")]).await;
        let status = older
            .change(vec![joined(&member("tasks", "eve"))])
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Aborted, "{status:?}");
        let lease = status.get_details_resource_info().unwrap();
        assert_eq!((&*lease.resource_type, &*lease.owner), ("lease", "g1"));
        assert!(lease.description.contains("attach again"), "{status:?}");
        assert_eq!(users(here, "tasks").await, ["bob"]);
        drop(newer);
    }
}

#[tokio::test]
async fn backends_may_read_and_are_shown_the_door_where_gateways_attach() {
    let shutdown = Shutdown::new();
    let presence = presence(&Store::new(&Broker::memory()));
    let internal = presence.connect_in_process(&shutdown);
    let _gateway = Gateway::attach(&internal, "g1", LEASE, &[member("tasks", "ada")]).await;

    // The service itself is a tower service: no door is needed to ask it.
    let mut reads = PresenceClient::new(presence.reads());
    let request = ListRequest {
        channel: "tasks".to_owned(),
        ..ListRequest::default()
    };
    assert_eq!(reads.list(request).await.unwrap().into_inner().members.len(), 1);
    let refused = reads.attach(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("9001"), "{refused:?}");
}

#[tokio::test]
async fn large_members_make_short_pages_and_none_is_lost() {
    let shutdown = Shutdown::new();
    let channel = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    let large = |_| Member {
        conn_info: vec![b' '; 60_000].into(),
        ..member("tasks", "ada")
    };
    let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[]).await;
    for _ in 0..2 {
        let changes: Vec<Change> = (0..40).map(large).map(|member| joined(&member)).collect();
        gateway.change(changes).await.unwrap();
    }
    let (mut clients, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = ListRequest {
            channel: "tasks".to_owned(),
            page_size: 0,
            page_token,
        };
        let page = client(&channel).list(request).await.unwrap().into_inner();
        clients.extend(page.members.into_iter().map(|member| member.client));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(pages > 4, "{pages}");
    assert_eq!(clients.len(), 80);
    assert!(clients.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn while_redis_is_away_callers_are_asked_to_retry() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let shutdown = Shutdown::new();
    let channel = serve(&redis_store(&server), &shutdown);
    let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[member("tasks", "ada")]).await;
    server.kill();
    let request = ListRequest {
        channel: "tasks".to_owned(),
        ..ListRequest::default()
    };
    retry(&client(&channel).list(request).await.unwrap_err());
    retry(&gateway.heartbeat().await.unwrap_err());
    retry(
        &Gateway::connect(&channel)
            .await
            .hello("g1", LEASE)
            .await
            .unwrap_err(),
    );

    // Empty now: a snapshot repairs it.
    server.up();
    again(&channel).await;
}

async fn again(channel: &Channel) {
    let _gateway = Gateway::attach(channel, "g1", LEASE, &[member("tasks", "ada")]).await;
    assert_eq!(users(channel, "tasks").await, ["ada"]);
}

fn refused(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, field, "{status:?}");
}

fn retry(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
}
