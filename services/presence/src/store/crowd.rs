//! Channels with so many members that nobody is announced to all the others. One suite, as in `contract.rs`.

use std::collections::BTreeSet;

use tidings_broker::{Broker, Incoming, test_util::Recorder};
use tidings_core::{ClientId, ClientInfo};

use super::{
    ANNOUNCED_MAX, Options, Per, Store,
    fixture::{BARE, LONG, attach, channel, joins, leave, member, on_each_bus, sweep},
};
use crate::member::{Change, Member};

on_each_bus!(
    who_comes_to_a_crowd_is_not_announced_and_goes_as_it_came,
    who_was_announced_leaves_a_crowd_announced_and_is_announced_again_when_it_is_none,
    whoever_leaves_what_was_a_crowd_is_announced,
    a_user_that_came_to_a_crowd_goes_as_it_came_with_its_last_client,
    a_crowd_is_counted_and_listed_like_any_channel_and_swept_in_silence,
    known_members_of_a_large_channel_count_as_announced_after_redis_lost_them,
    known_members_beyond_those_that_are_compared_come_to_a_large_channel_unannounced,
);

/// With this many a channel is none yet.
const CROWD: usize = 3;

async fn who_comes_to_a_crowd_is_not_announced_and_goes_as_it_came(broker: Broker) {
    let (store, recorder) = (
        store(&broker, Per::Client),
        Recorder::new(&broker, &["tasks"]).await,
    );
    let lease = attach(&store, "g1", LONG).await;
    let (few, late) = (several(CROWD), announced("late"));
    store.apply(&lease, joins(&few)).await.unwrap();
    assert_eq!(recorder.heard().await.len(), CROWD);
    for _ in 0..2 {
        store.apply(&lease, joins([&late])).await.unwrap();
        // A snapshot is no news.
        store.apply(&lease, joins([&late])).await.unwrap();
        store.apply(&lease, joins([&announced("later")])).await.unwrap();
        store.apply(&lease, vec![Change::Left(late.id())]).await.unwrap();
    }
    assert_eq!(recorder.heard().await, []);
    leave(&store, &lease).await;
}

async fn who_was_announced_leaves_a_crowd_announced_and_is_announced_again_when_it_is_none(broker: Broker) {
    let (store, recorder) = (
        store(&broker, Per::Client),
        Recorder::new(&broker, &["tasks"]).await,
    );
    let lease = attach(&store, "g1", LONG).await;
    let (ada, others) = (announced("ada"), several(CROWD + 2));
    store.apply(&lease, joins([&ada])).await.unwrap();
    store.apply(&lease, joins(&others)).await.unwrap();
    assert_eq!(recorder.heard().await.len(), CROWD);
    store.apply(&lease, vec![Change::Left(ada.id())]).await.unwrap();
    assert_eq!(recorder.heard().await, [went(&ada)]);
    let gone = others[1..].iter().map(|other| Change::Left(other.id()));
    store.apply(&lease, gone.collect()).await.unwrap();
    recorder.heard().await;
    store.apply(&lease, joins([&ada])).await.unwrap();
    assert_eq!(recorder.heard().await, [came(&ada)]);
    leave(&store, &lease).await;
}

async fn whoever_leaves_what_was_a_crowd_is_announced(broker: Broker) {
    let (store, recorder) = (
        store(&broker, Per::Client),
        Recorder::new(&broker, &["tasks"]).await,
    );
    let lease = attach(&store, "g1", LONG).await;
    let (few, late) = (several(CROWD), announced("late"));
    store.apply(&lease, joins(&few)).await.unwrap();
    store.apply(&lease, joins([&late])).await.unwrap();
    assert_eq!(recorder.heard().await.len(), CROWD);
    store
        .apply(&lease, vec![Change::Left(few[0].id())])
        .await
        .unwrap();
    // Whoever asks now who is there is told of `late`.
    store.apply(&lease, vec![Change::Left(late.id())]).await.unwrap();
    assert_eq!(recorder.heard().await, [went(&few[0]), went(&late)]);
    leave(&store, &lease).await;
}

async fn a_user_that_came_to_a_crowd_goes_as_it_came_with_its_last_client(broker: Broker) {
    let (store, recorder) = (
        store(&broker, Per::User),
        Recorder::new(&broker, &["tasks"]).await,
    );
    let lease = attach(&store, "g1", LONG).await;
    let (phone, few) = (announced("ada"), several(CROWD));
    let (laptop, late, again) = (announced("ada"), announced("late"), announced("late"));
    store.apply(&lease, joins([&phone])).await.unwrap();
    store.apply(&lease, joins(&few)).await.unwrap();
    assert_eq!(recorder.heard().await.len(), CROWD);
    store
        .apply(&lease, joins([&laptop, &late, &again]))
        .await
        .unwrap();
    let gone = [&phone, &late, &again].map(|member| Change::Left(member.id()));
    store.apply(&lease, gone.to_vec()).await.unwrap();
    assert_eq!(recorder.heard().await, []);
    // Announced with another client, and from a crowd.
    store
        .apply(&lease, vec![Change::Left(laptop.id())])
        .await
        .unwrap();
    assert_eq!(recorder.heard().await, [went(&laptop)]);
    leave(&store, &lease).await;
}

async fn a_crowd_is_counted_and_listed_like_any_channel_and_swept_in_silence(broker: Broker) {
    let (store, recorder) = (
        store(&broker, Per::Client),
        Recorder::new(&broker, &["tasks"]).await,
    );
    let (few, many) = (attach(&store, "g1", LONG).await, attach(&store, "g2", LONG).await);
    let (first, rest) = (several(CROWD), several(200));
    store.apply(&few, joins(&first)).await.unwrap();
    store.apply(&many, joins(&rest)).await.unwrap();
    let stats = store.stats(&channel("tasks")).await.unwrap();
    assert_eq!((stats.clients, stats.users), (CROWD + 200, CROWD + 200));
    let page = store.members(&channel("tasks"), None, 1_000).await.unwrap();
    assert_eq!(page.members.len(), CROWD + 200);
    assert_eq!(recorder.heard().await.len(), CROWD);
    store.end(&many).await.unwrap();
    assert_eq!(store.stats(&channel("tasks")).await.unwrap().clients, CROWD);
    assert_eq!(sweep(&store, &many).await.len(), 200);
    // Those of the last who went when it was a crowd no more.
    assert_eq!(recorder.heard().await.len(), 1);
    leave(&store, &few).await;
    assert_eq!(recorder.heard().await.len(), CROWD);
}

async fn known_members_of_a_large_channel_count_as_announced_after_redis_lost_them(broker: Broker) {
    for per in [Per::Client, Per::User] {
        let (store, recorder) = (store(&broker, per), Recorder::new(&broker, &["tasks"]).await);
        let lease = attach(&store, "g1", LONG).await;
        // Any of them may have been announced, before the channel was large.
        let (known, late) = (several(2 * CROWD), announced("late"));
        store.apply(&lease, knows(&known)).await.unwrap();
        store.apply(&lease, joins([&late])).await.unwrap();
        assert_eq!(recorder.heard().await, []);
        let compared = store.announced(&channel("tasks")).await.unwrap().members;
        let clients = |infos: Vec<ClientInfo>| infos.into_iter().map(|info| info.client).collect();
        let (compared, expected): (BTreeSet<ClientId>, BTreeSet<ClientId>) = (
            clients(compared),
            known.iter().map(|member| member.info.client).collect(),
        );
        assert_eq!(compared, expected, "no subscriber is sent a leave of these");
        let last = &known[2 * CROWD - 1];
        store
            .apply(&lease, vec![Change::Left(last.id()), Change::Left(late.id())])
            .await
            .unwrap();
        assert_eq!(recorder.heard().await, [went(last)]);
        leave(&store, &lease).await;
    }
}

async fn known_members_beyond_those_that_are_compared_come_to_a_large_channel_unannounced(broker: Broker) {
    let (store, recorder) = (
        store(&broker, Per::Client),
        Recorder::new(&broker, &["tasks"]).await,
    );
    let lease = attach(&store, "g1", LONG).await;
    let known = several(ANNOUNCED_MAX);
    store.apply(&lease, knows(&known)).await.unwrap();
    let beyond = announced("beyond");
    store.apply(&lease, knows([&beyond])).await.unwrap();
    store
        .apply(&lease, vec![Change::Left(beyond.id())])
        .await
        .unwrap();
    assert_eq!(recorder.heard().await, []);
    leave(&store, &lease).await;
}

fn store(broker: &Broker, per: Per) -> Store {
    Store::with(
        broker,
        Options {
            per,
            crowd: CROWD,
            ..BARE
        },
    )
}

/// As a gateway reports members that another store had.
fn knows<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<Change> {
    members.into_iter().cloned().map(Change::Known).collect()
}

/// Each somebody else, as two crowds are.
fn several(count: usize) -> Vec<Member> {
    (0..count)
        .map(|n| announced(&format!("user{n} of {count}")))
        .collect()
}

fn announced(user: &str) -> Member {
    Member {
        announced: true,
        ..member(&channel("tasks"), user)
    }
}

fn came(member: &Member) -> Incoming {
    Incoming::Join(member.channel.clone(), member.info.clone())
}

fn went(member: &Member) -> Incoming {
    Incoming::Leave(member.channel.clone(), member.info.clone())
}
