//! What every store says on the bus when members come and go. One suite, as in `contract.rs`, with a listener on a real
//! bus. What it hears is the truth: exactly what changed, in turns.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use tidings_broker::{
    Broker, Incoming,
    test_util::{Recorder, RedisServer},
};
use tidings_core::ClientInfo;

use super::{
    Store,
    fixture::{LONG, attach, bare, channel, command, joins, leave, member, on_each_bus, sweep},
};
use crate::member::{Change, Member};

on_each_bus!(
    who_comes_and_goes_is_heard_once_and_who_stays_is_not,
    who_is_not_announced_is_not_heard,
    who_begins_to_be_announced_is_heard_coming_and_who_ceases_to_be_going,
    who_comes_and_goes_in_one_batch_is_not_heard,
    every_info_is_heard_as_it_was_told,
    an_old_attachment_is_not_heard_where_it_changes_nothing,
    three_sweepers_at_once_are_heard_once_for_each_member,
    sweepers_that_are_stopped_anywhere_are_heard_once_for_each_member,
    a_member_that_many_write_and_remove_at_once_is_heard_in_turns,
);

async fn who_comes_and_goes_is_heard_once_and_who_stays_is_not(broker: Broker) {
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks"]).await);
    let first = attach(&store, "g1", LONG).await;
    let ada = announced("tasks", "ada");
    store.apply(&first, joins([&ada])).await.unwrap();
    assert_eq!(recorder.heard().await, [came(&ada)]);

    let renamed = Member {
        info: ClientInfo {
            conn_info: Bytes::from_static(b"{}"),
            ..ada.info.clone()
        },
        ..ada
    };
    store.apply(&first, joins([&renamed])).await.unwrap();
    let second = attach(&store, "g1", LONG).await;
    store.apply(&second, joins([&renamed])).await.unwrap();
    store.supersede(&second).await.unwrap();
    assert_eq!(sweep(&store, &first).await, []);
    assert_eq!(recorder.heard().await, []);

    let gone = vec![Change::Left(renamed.id()), Change::Left(renamed.id())];
    store.apply(&second, gone.clone()).await.unwrap();
    store.apply(&second, gone).await.unwrap();
    assert_eq!(recorder.heard().await, [went(&renamed)]);
    leave(&store, &second).await;
    assert_eq!(recorder.heard().await, []);
}

async fn who_is_not_announced_is_not_heard(broker: Broker) {
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks", "news"]).await);
    let lease = attach(&store, "g1", LONG).await;
    let (ada, bob, eve) = (
        member(&channel("tasks"), "ada"),
        announced("tasks", "bob"),
        member(&channel("news"), "eve"),
    );
    store.apply(&lease, joins([&ada, &bob, &eve])).await.unwrap();
    assert_eq!(recorder.heard().await, [came(&bob)]);
    store.apply(&lease, vec![Change::Left(ada.id())]).await.unwrap();
    leave(&store, &lease).await;
    assert_eq!(recorder.heard().await, [went(&bob)]);
}

async fn who_begins_to_be_announced_is_heard_coming_and_who_ceases_to_be_going(broker: Broker) {
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks"]).await);
    let lease = attach(&store, "g1", LONG).await;
    let quiet = member(&channel("tasks"), "ada");
    let loud = Member {
        announced: true,
        ..quiet.clone()
    };
    for (member, expected) in [
        (&quiet, vec![]),
        (&loud, vec![came(&loud)]),
        (&loud, vec![]),
        (&quiet, vec![went(&loud)]),
        (&quiet, vec![]),
    ] {
        store.apply(&lease, joins([member])).await.unwrap();
        assert_eq!(recorder.heard().await, expected);
    }
    leave(&store, &lease).await;
    assert_eq!(recorder.heard().await, []);
}

async fn who_comes_and_goes_in_one_batch_is_not_heard(broker: Broker) {
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks"]).await);
    let lease = attach(&store, "g1", LONG).await;
    let ada = announced("tasks", "ada");
    let passing = vec![Change::Joined(ada.clone()), Change::Left(ada.id())];
    store.apply(&lease, passing).await.unwrap();
    assert_eq!(recorder.heard().await, []);
    leave(&store, &lease).await;
}

async fn every_info_is_heard_as_it_was_told(broker: Broker) {
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks"]).await);
    let lease = attach(&store, "g1", LONG).await;
    // Lengths around those where a length takes another byte, and bytes that mean something elsewhere.
    for len in [0, 1, 80, 88, 89, 127, 128, 16_300, 16_384, 64 * 1024] {
        let member = Member {
            info: ClientInfo {
                user: "é +\n\0".into(),
                conn_info: vec![b'\n'; len].into(),
                chan_info: (0..=255).collect::<Vec<u8>>().into(),
                ..announced("tasks", "").info
            },
            ..announced("tasks", "")
        };
        store.apply(&lease, joins([&member])).await.unwrap();
        store
            .apply(&lease, vec![Change::Left(member.id())])
            .await
            .unwrap();
        assert_eq!(recorder.heard().await, [came(&member), went(&member)], "{len}");
    }
    leave(&store, &lease).await;
}

async fn an_old_attachment_is_not_heard_where_it_changes_nothing(broker: Broker) {
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks"]).await);
    let first = attach(&store, "g1", LONG).await;
    let second = attach(&store, "g1", LONG).await;
    let ada = announced("tasks", "ada");
    store.apply(&second, joins([&ada])).await.unwrap();
    store.supersede(&second).await.unwrap();
    assert_eq!(recorder.heard().await, [came(&ada)]);

    let quiet = Member {
        announced: false,
        ..ada.clone()
    };
    store.apply(&first, joins([&quiet])).await.unwrap();
    store.apply(&first, vec![Change::Left(ada.id())]).await.unwrap();
    assert_eq!(sweep(&store, &first).await, []);
    assert_eq!(recorder.heard().await, []);
    leave(&store, &second).await;
    assert_eq!(recorder.heard().await, [went(&ada)]);
}

async fn three_sweepers_at_once_are_heard_once_for_each_member(broker: Broker) {
    let (store, crowd) = (bare(&broker), Crowd::new());
    let recorder = Recorder::new(&broker, Crowd::CHANNELS).await;
    let lease = attach(&store, "g1", LONG).await;
    crowd.comes(&store, &lease, &recorder).await;
    store.end(&lease).await.unwrap();
    tokio::join!(
        sweep(&store, &lease),
        sweep(&store, &lease),
        sweep(&store, &lease)
    );
    crowd.was_heard_going(&recorder).await;
}

async fn sweepers_that_are_stopped_anywhere_are_heard_once_for_each_member(broker: Broker) {
    let (store, crowd) = (bare(&broker), Crowd::new());
    let recorder = Recorder::new(&broker, Crowd::CHANNELS).await;
    let lease = attach(&store, "g1", LONG).await;
    crowd.comes(&store, &lease, &recorder).await;
    store.end(&lease).await.unwrap();
    for n in 0..40 {
        // Whatever was under way when its time was over: the request, the answer, the next request.
        let _ = tokio::time::timeout(Duration::from_micros(n * 250), store.sweep(&lease)).await;
    }
    sweep(&store, &lease).await;
    crowd.was_heard_going(&recorder).await;
}

async fn a_member_that_many_write_and_remove_at_once_is_heard_in_turns(broker: Broker) {
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks"]).await);
    let ada = announced("tasks", "ada");
    let leases = [
        attach(&store, "g1", LONG).await,
        attach(&store, "g1", LONG).await,
        attach(&store, "g1", LONG).await,
    ];
    let roams = leases.each_ref().map(|lease| async {
        for _ in 0..50 {
            store.apply(lease, joins([&ada])).await.unwrap();
            store.apply(lease, vec![Change::Left(ada.id())]).await.unwrap();
        }
    });
    futures_util::future::join_all(roams).await;
    for lease in &leases {
        leave(&store, lease).await;
    }
    let heard = recorder.heard().await;
    assert!(heard.len() >= 100, "the newest attachment is always heard");
    for pair in heard.chunks(2) {
        assert_eq!(pair, [came(&ada), went(&ada)]);
    }
}

#[tokio::test]
async fn a_redis_that_lets_nothing_be_announced_keeps_nobody_from_coming_and_going() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    command::<()>(&server, &["ACL", "SETUSER", "default", "resetchannels"]).await;
    let store = bare(&Broker::redis(&server.config()).unwrap());
    let lease = attach(&store, "g1", LONG).await;
    let ada = announced("tasks", "ada");
    assert_eq!(
        store.apply(&lease, joins([&ada])).await.unwrap().joined,
        [ada.id()]
    );
    store.end(&lease).await.unwrap();
    assert_eq!(sweep(&store, &lease).await, [ada.id()]);
}

/// More members than one step of a sweep removes.
struct Crowd(Vec<Member>);

impl Crowd {
    const CHANNELS: &[&str] = &["tasks:0", "tasks:1", "tasks:2", "tasks:3", "tasks:4"];

    fn new() -> Self {
        let members = (0..2_500).map(|n| announced(Self::CHANNELS[n % 5], "ada"));
        Self(members.collect())
    }

    async fn comes(&self, store: &Store, lease: &crate::member::Lease, recorder: &Recorder) {
        for part in self.0.chunks(1_000) {
            store.apply(lease, joins(part)).await.unwrap();
            assert_eq!(recorder.heard().await.len(), part.len());
        }
    }

    async fn was_heard_going(&self, recorder: &Recorder) {
        let heard = recorder.heard().await;
        assert_eq!(heard.len(), self.0.len());
        let gone: BTreeSet<_> = heard
            .iter()
            .map(|incoming| match incoming {
                Incoming::Leave(_, info) => info.client,
                other => panic!("no leave: {other:?}"),
            })
            .collect();
        assert_eq!(gone, self.0.iter().map(|member| member.info.client).collect());
    }
}

fn announced(name: &str, user: &str) -> Member {
    Member {
        announced: true,
        ..member(&channel(name), user)
    }
}

fn came(member: &Member) -> Incoming {
    Incoming::Join(member.channel.clone(), member.info.clone())
}

fn went(member: &Member) -> Incoming {
    Incoming::Leave(member.channel.clone(), member.info.clone())
}
