//! What backends ask: where users are, and who comes and goes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Gateway, LEASE, client, joined, left, member, presence, serve};
use tidings_broker::{Broker, test_util::RedisServer};
use tidings_presence::{Options, Store};
use tidings_proto::presence::{
    Changes, Count, LookupRequest, Member, UserPresence, WatchRequest, WatchResponse, gateway_update::Update,
    watch_response::What,
};
use tidings_runtime::Shutdown;
use tonic::{Code, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_user_is_looked_up_with_its_devices_channels_and_when_it_was_last_seen() {
    let shutdown = Shutdown::new();
    let channel = presence(&Store::new(&Broker::memory())).connect_in_process(&shutdown);
    let (phone, laptop) = (member("tasks", "ada"), member("tasks", "ada"));
    let also = Member {
        channel: "news".to_owned(),
        joined_at_ms: phone.joined_at_ms - 5,
        ..phone.clone()
    };
    let mut gateway = Gateway::attach(
        &channel,
        "g1",
        LEASE,
        &[phone.clone(), laptop.clone(), also.clone()],
    )
    .await;
    let ada = lookup(&channel, &["ada"]).await.remove(0);
    assert!(ada.online && !ada.truncated);
    assert_eq!((ada.since_ms, ada.last_seen_ms), (also.joined_at_ms, 0));
    assert_eq!(ada.devices.len(), 2);
    for device in &ada.devices {
        let channels: &[&str] = if device.client == phone.client {
            &["news", "tasks"]
        } else {
            &["tasks"]
        };
        assert_eq!((&*device.gateway, &device.channels), ("g1", &owned(channels)));
    }
    let changes = [&phone, &laptop, &also].map(left).to_vec();
    gateway.tell(Update::Changes(Changes { changes })).await.unwrap();
    let found = lookup(&channel, &["bob", "ada"]).await;
    assert_eq!((found[0].online, found[0].last_seen_ms), (false, 0));
    assert!(!found[1].online && found[1].last_seen_ms > 0 && found[1].devices.is_empty());

    for (users, field) in [
        (vec![], "users"),
        (vec!["x".to_owned(); 1_001], "users"),
        (vec!["ada".to_owned(), String::new()], "users[1]"),
        (vec!["x".repeat(1_025)], "users[0]"),
    ] {
        let status = client(&channel)
            .lookup(LookupRequest { users })
            .await
            .unwrap_err();
        assert_eq!(violation(&status), field);
    }
}

#[tokio::test]
async fn who_watches_hears_who_is_there_and_then_who_comes_and_goes() {
    watching(&Store::new(&Broker::memory())).await;
}

#[tokio::test]
async fn who_watches_a_redis_likewise() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    watching(&Store::new(&Broker::redis(&server.config()).unwrap())).await;
}

async fn watching(store: &Store) {
    let shutdown = Shutdown::new();
    // Two replicas: what one writes the other hears.
    let (here, there) = (
        presence(store).connect_in_process(&shutdown),
        presence(store).connect_in_process(&shutdown),
    );
    let (ada, bob, eve) = (
        member("tasks:1", "ada"),
        member("tasks:2", "bob"),
        member("news", "eve"),
    );
    let mut gateway = Gateway::attach(&here, "g1", LEASE, &[ada.clone(), eve.clone()]).await;
    let mut tasks = Watched::new(&there, &["tasks:*"], &[], "").await;
    let mut eves = Watched::new(&there, &[], &["eve", "zoe"], "").await;
    assert_eq!(tasks.next().await, format!("present {}", ada.client));
    assert_eq!(tasks.next().await, "live");
    assert_eq!(eves.next().await, format!("present {}", eve.client));
    assert_eq!(eves.next().await, "live");

    let changes = vec![joined(&bob), left(&eve)];
    gateway.tell(Update::Changes(Changes { changes })).await.unwrap();
    gateway
        .tell(Update::Changes(Changes {
            changes: vec![left(&ada)],
        }))
        .await
        .unwrap();
    assert_eq!(tasks.next().await, format!("joined {}", bob.client));
    let token = tasks.token.clone();
    assert_eq!(tasks.next().await, format!("left {}", ada.client));
    assert_eq!(eves.next().await, format!("left {}", eve.client));

    // On another replica it goes on where it was, without a snapshot.
    let mut again = Watched::new(&here, &["tasks:*"], &[], &token).await;
    assert_eq!(again.next().await, format!("left {}", ada.client));
    gateway
        .tell(Update::Goodbye(tidings_proto::presence::Goodbye {}))
        .await
        .unwrap();
    while !store.ended().await.unwrap().leases.is_empty() {
        for lease in store.ended().await.unwrap().leases {
            store.sweep(&lease).await.unwrap();
        }
    }
    for watched in [&mut again, &mut tasks] {
        assert_eq!(watched.next().await, format!("left {}", bob.client));
    }
}

#[tokio::test]
async fn who_fell_behind_is_told_and_gets_a_snapshot() {
    let options = Options {
        log: 10,
        ..Options::default()
    };
    let store = Store::with(&Broker::memory(), options);
    let channel = presence(&store).connect_in_process(&Shutdown::new());
    let ada = member("tasks", "ada");
    let mut gateway = Gateway::attach(&channel, "g1", LEASE, std::slice::from_ref(&ada)).await;
    let mut watched = Watched::new(&channel, &["tasks"], &[], "").await;
    watched.next().await;
    assert_eq!(watched.next().await, "live");
    let token = watched.token.clone();
    drop(watched);
    for _ in 0..10 {
        let changes = Changes {
            changes: vec![left(&ada)],
        };
        gateway.tell(Update::Changes(changes)).await.unwrap();
        let changes = Changes {
            changes: vec![joined(&ada)],
        };
        gateway.tell(Update::Changes(changes)).await.unwrap();
    }
    for token in [&*token, "7-7"] {
        let mut watched = Watched::new(&channel, &["tasks"], &[], token).await;
        assert_eq!(watched.next().await, "behind");
        assert_eq!(watched.next().await, format!("present {}", ada.client));
        assert_eq!(watched.next().await, "live");
    }
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let shutdown = Shutdown::new();
    let channel = serve(&Store::new(&Broker::memory()), &shutdown);
    let good = || WatchRequest {
        channels: vec!["**".to_owned()],
        ..WatchRequest::default()
    };
    for (request, field) in [
        (WatchRequest::default(), "channels"),
        (
            WatchRequest {
                channels: vec!["**".to_owned(), "a*".to_owned()],
                ..good()
            },
            "channels[1]",
        ),
        (
            WatchRequest {
                channels: vec!["*".to_owned(); 101],
                ..good()
            },
            "channels",
        ),
        (
            WatchRequest {
                users: vec!["x".to_owned(); 1_001],
                ..good()
            },
            "users",
        ),
        (
            WatchRequest {
                token: "yesterday".to_owned(),
                ..good()
            },
            "token",
        ),
    ] {
        let status = client(&channel).watch(request).await.unwrap_err();
        assert_eq!(violation(&status), field);
    }

    let mut watching = Vec::new();
    for _ in 0..64 {
        watching.push(client(&channel).watch(good()).await.unwrap());
    }
    let status = client(&channel).watch(good()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    watching.pop();
    // The place is free once the server has noticed.
    while client(&channel).watch(good()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let options = Options {
        log: 0,
        ..Options::default()
    };
    let channel = serve(&Store::with(&Broker::memory(), options), &shutdown);
    let status = client(&channel).watch(good()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "presence.log");
}

#[tokio::test]
async fn a_crowd_is_told_in_counts_that_add_up_also_for_who_comes_back_with_a_token() {
    let shutdown = Shutdown::new();
    let redis = RedisServer::start();
    let brokers = [
        Some(Broker::memory()),
        redis
            .as_ref()
            .map(|server| Broker::redis(&server.config()).unwrap()),
    ];
    for broker in brokers.iter().flatten() {
        let options = Options {
            crowd: 2,
            crowd_interval: Duration::from_millis(500),
            ..Options::default()
        };
        let channel = serve(&Store::with(broker, options), &shutdown);
        let mut gateway = Gateway::attach(&channel, "g1", LEASE, &[]).await;
        let mut all = Watched::new(&channel, &["**"], &[], "").await;
        let mut ada = Watched::new(&channel, &[], &["ada"], "").await;
        for watched in [&mut all, &mut ada] {
            assert_eq!(watched.next().await, "live");
        }
        let few = [member("tasks", "x"), member("tasks", "y")];
        let late = [member("tasks", "ada"), member("tasks", "z"), member("tasks", "z")];
        let news = member("news", "x");
        gateway.change(few.iter().map(joined).collect()).await.unwrap();
        gateway.change(late.iter().map(joined).collect()).await.unwrap();
        gateway.change(vec![left(&late[1]), joined(&news)]).await.unwrap();

        let mut first = [all.next().await, all.next().await];
        first.sort();
        let mut expected = few.each_ref().map(|member| format!("joined {}", member.client));
        expected.sort();
        assert_eq!(first, expected);
        // It does not wait for the counts; and whoever comes back here is told of them.
        assert_eq!(all.next().await, format!("joined {}", news.client));
        let token = all.token.clone();
        assert_eq!(all.next().await, "counted tasks +3 -1 =4");
        let mut back = Watched::new(&channel, &["**"], &[], &token).await;
        assert_eq!(back.next().await, "counted tasks +3 -1 =4");
        let end = back.token.clone();
        assert_eq!(ada.next().await, format!("joined {}", late[0].client));

        let more = member("tasks", "w");
        gateway.change(vec![left(&late[0]), joined(&more)]).await.unwrap();
        assert_eq!(ada.next().await, format!("left {}", late[0].client));
        let mut back = Watched::new(&channel, &["**"], &[], &end).await;
        for watched in [&mut all, &mut back] {
            assert_eq!(watched.next().await, "counted tasks +1 -1 =4");
        }
        gateway.goodbye().await.unwrap();
    }
}

async fn lookup(channel: &Channel, users: &[&str]) -> Vec<UserPresence> {
    let users = owned(users);
    let found = client(channel).lookup(LookupRequest { users }).await;
    found.unwrap().into_inner().users
}

fn violation(status: &tonic::Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0]
        .field
        .clone()
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A stream, and the token of what it heard last.
struct Watched {
    stream: Streaming<WatchResponse>,
    token: String,
}

impl Watched {
    async fn new(channel: &Channel, channels: &[&str], users: &[&str], token: &str) -> Self {
        let request = WatchRequest {
            channels: owned(channels),
            users: owned(users),
            token: token.to_owned(),
        };
        Self {
            stream: client(channel).watch(request).await.unwrap().into_inner(),
            token: String::new(),
        }
    }

    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(Duration::from_secs(20), self.stream.message());
        let WatchResponse { what, token } = next.await.unwrap().unwrap().unwrap();
        if !token.is_empty() {
            self.token = token;
        }
        match what.unwrap() {
            What::Present(member) => format!("present {}", member.client),
            What::Joined(member) => format!("joined {}", member.client),
            What::Left(member) => format!("left {}", member.client),
            What::Live(_) => "live".to_owned(),
            What::Behind(_) => "behind".to_owned(),
            What::Counted(counted) => {
                let count =
                    |it: &Count| format!("{} +{} -{} ={}", it.channel, it.joined, it.left, it.clients);
                let counts: Vec<String> = counted.channels.iter().map(count).collect();
                format!("counted {}", counts.join(", "))
            }
        }
    }
}
