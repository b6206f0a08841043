//! What is kept of who is gone: leaves that are announced later, when a user was last seen, and the log. One suite, as in
//! `contract.rs`.

use std::{sync::Arc, time::Duration};

use tidings_broker::{
    Broker, Incoming,
    test_util::{Recorder, RedisServer},
};

use super::{
    Event, Options, Per, Position, Store,
    fixture::{BARE, LONG, attach, channel, joins, keys, leave, member},
};
use crate::member::{Change, Member};

macro_rules! contract {
    ($($rule:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(super::Broker::memory()).await;
            })+
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $rule() {
                let Some(server) = super::RedisServer::start() else { return };
                super::$rule(super::Broker::redis(&server.config()).unwrap()).await;
                let mut left = super::keys(&server).await;
                left.retain(|key| key != "tidings:presence-log");
                assert_eq!(left, [] as [String; 0], "left behind");
            })+
        }
    };
}

contract!(
    a_user_comes_with_its_first_client_and_leaves_with_its_last,
    who_is_back_in_time_was_never_away,
    a_leave_is_heard_once_when_it_is_due_and_a_gateway_that_goes_announces_nothing_before,
    a_user_was_last_seen_when_it_left_for_as_long_as_that_is_kept,
    the_log_has_each_join_and_leave_once_and_says_when_it_lost_some,
);

const DELAY: Duration = Duration::from_millis(300);

async fn a_user_comes_with_its_first_client_and_leaves_with_its_last(broker: Broker) {
    let store = Store::with(
        &broker,
        Options {
            per: Per::User,
            ..BARE
        },
    );
    let recorder = Recorder::new(&broker, &["tasks"]).await;
    let (one, two) = (attach(&store, "g1", LONG).await, attach(&store, "g2", LONG).await);
    let (phone, laptop) = (announced("ada"), announced("ada"));
    let (nobody, no_one) = (announced(""), announced(""));
    store.apply(&one, joins([&phone])).await.unwrap();
    store.apply(&two, joins([&laptop])).await.unwrap();
    assert_eq!(recorder.heard().await, [came(&phone)]);
    // Again, as after a lost stream: that is no third device.
    store.apply(&two, joins([&laptop])).await.unwrap();
    store.apply(&one, vec![Change::Left(phone.id())]).await.unwrap();
    assert_eq!(recorder.heard().await, []);
    leave(&store, &two).await;
    assert_eq!(recorder.heard().await, [went(&laptop)]);

    // Those without a user are each somebody.
    store.apply(&one, joins([&nobody])).await.unwrap();
    store.apply(&one, joins([&no_one])).await.unwrap();
    assert_eq!(recorder.heard().await, [came(&nobody), came(&no_one)]);
    leave(&store, &one).await;
    assert_eq!(recorder.heard().await.len(), 2);
}

async fn who_is_back_in_time_was_never_away(broker: Broker) {
    let store = delayed(&broker, LONG);
    let recorder = Recorder::new(&broker, &["tasks"]).await;
    let lease = attach(&store, "g1", LONG).await;
    let (before, after) = (announced("ada"), announced("ada"));
    store.apply(&lease, joins([&before])).await.unwrap();
    assert_eq!(recorder.heard().await, [came(&before)]);
    for _ in 0..3 {
        let gone = vec![Change::Left(before.id())];
        store.apply(&lease, gone).await.unwrap();
        assert_eq!(store.stats(&channel("tasks")).await.unwrap().clients, 0);
        store.settle().await.unwrap();
        store.apply(&lease, joins([&after])).await.unwrap();
        let gone = vec![Change::Left(after.id())];
        store.apply(&lease, gone).await.unwrap();
        store.apply(&lease, joins([&before])).await.unwrap();
    }
    assert_eq!(recorder.heard().await, []);

    // For the next, it is due at once: what is left on the list is looked at and forgotten.
    let hasty = delayed(&broker, Duration::from_millis(1));
    hasty
        .apply(&lease, vec![Change::Left(before.id())])
        .await
        .unwrap();
    if broker.prefix().is_some() {
        until_heard(&hasty, &recorder, &[went(&before)]).await;
        clear_list(&broker).await;
    }
    leave(&store, &lease).await;
}

async fn a_leave_is_heard_once_when_it_is_due_and_a_gateway_that_goes_announces_nothing_before(
    broker: Broker,
) {
    let (store, other) = (delayed(&broker, DELAY), delayed(&broker, DELAY));
    let recorder = Recorder::new(&broker, &["tasks"]).await;
    let (one, two) = (attach(&store, "g1", LONG).await, attach(&store, "g2", LONG).await);
    let (ada, bob) = (announced("ada"), announced("bob"));
    store.apply(&one, joins([&ada, &bob])).await.unwrap();
    assert_eq!(recorder.heard().await.len(), 2);
    // A drain: everyone leaves here, and ada is back elsewhere.
    let back = announced("ada");
    leave(&store, &one).await;
    store.apply(&two, joins([&back])).await.unwrap();
    store.settle().await.unwrap();
    if broker.prefix().is_some() {
        let both = [&store, &other].map(|store| Box::pin(until_settled(store, &broker)));
        futures_util::future::join_all(both).await;
    } else {
        tokio::time::sleep(DELAY).await;
        store.settle().await.unwrap();
    }
    assert_eq!(recorder.heard().await, [went(&bob)]);
    leave(&store, &two).await;
    until_heard(&store, &recorder, &[went(&back)]).await;
    if broker.prefix().is_some() {
        until_settled(&store, &broker).await;
    }
}

async fn a_user_was_last_seen_when_it_left_for_as_long_as_that_is_kept(broker: Broker) {
    let store = Store::with(
        &broker,
        Options {
            last_seen: DELAY,
            ..BARE
        },
    );
    let lease = attach(&store, "g1", LONG).await;
    let users = [Arc::from("ada")];
    let (phone, laptop) = (announced("ada"), announced("ada"));
    store.apply(&lease, joins([&phone, &laptop])).await.unwrap();
    store.apply(&lease, vec![Change::Left(phone.id())]).await.unwrap();
    assert_eq!(store.lookup(&users, 10).await.unwrap()[0].last_seen, None);
    leave(&store, &lease).await;
    assert!(store.lookup(&users, 10).await.unwrap()[0].last_seen.is_some());

    let lease = attach(&store, "g1", LONG).await;
    store.apply(&lease, joins([&phone])).await.unwrap();
    assert_eq!(store.lookup(&users, 10).await.unwrap()[0].last_seen, None);
    leave(&store, &lease).await;
    while store.lookup(&users, 10).await.unwrap()[0].last_seen.is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn the_log_has_each_join_and_leave_once_and_says_when_it_lost_some(broker: Broker) {
    let store = Store::with(&broker, Options { log: 100, ..BARE });
    let lease = attach(&store, "g1", LONG).await;
    let begin = store.log_end().await.unwrap();
    let (ada, bob) = (announced("ada"), member(&channel("news"), "bob"));
    store.apply(&lease, joins([&ada])).await.unwrap();
    store.apply(&lease, joins([&ada, &bob])).await.unwrap();
    store.apply(&lease, vec![Change::Left(ada.id())]).await.unwrap();
    let events = store.log_after(begin, 10).await.unwrap().unwrap();
    let heard: Vec<Event> = events.iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(heard, [event(true, &ada), event(true, &bob), event(false, &ada)]);
    let (first, _) = events[0];
    let rest = store.log_after(first, 1).await.unwrap().unwrap();
    assert_eq!(rest, events[1..2]);
    let end = store.log_end().await.unwrap();
    assert_eq!(store.log_after(end, 10).await.unwrap(), Some(Vec::new()));

    // More than are kept, also where the log is trimmed about.
    for _ in 0..300 {
        store.apply(&lease, joins([&ada])).await.unwrap();
        store.apply(&lease, vec![Change::Left(ada.id())]).await.unwrap();
    }
    assert_eq!(store.log_after(first, 10).await.unwrap(), None);
    let other = Position {
        ms: u64::MAX / 2,
        seq: 0,
    };
    assert_eq!(store.log_after(other, 10).await.unwrap(), None);
    assert!(store.log_end().await.unwrap() > end);
    leave(&store, &lease).await;
}

fn delayed(broker: &Broker, leave_delay: Duration) -> Store {
    Store::with(
        broker,
        Options {
            per: Per::User,
            leave_delay,
            ..BARE
        },
    )
}

async fn until_heard(store: &Store, recorder: &Recorder, expected: &[Incoming]) {
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        store.settle().await.unwrap();
        heard.extend(recorder.heard().await);
    }
    assert_eq!(heard, expected);
}

/// Until there is nothing left to look at.
async fn until_settled(store: &Store, broker: &Broker) {
    let mut connection = broker.redis_pool().unwrap().get().await.unwrap();
    loop {
        store.settle().await.unwrap();
        let left: u64 = redis::cmd("ZCARD")
            .arg("tidings:{leases}:leaving")
            .query_async(&mut connection)
            .await
            .unwrap();
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn clear_list(broker: &Broker) {
    let mut connection = broker.redis_pool().unwrap().get().await.unwrap();
    redis::cmd("DEL")
        .arg("tidings:{leases}:leaving")
        .exec_async(&mut connection)
        .await
        .unwrap();
}

fn announced(user: &str) -> Member {
    Member {
        announced: true,
        ..member(&channel("tasks"), user)
    }
}

fn event(joined: bool, member: &Member) -> Event {
    Event {
        joined,
        channel: member.channel.clone(),
        client: member.info.client,
        user: member.info.user.clone(),
        crowd: None,
    }
}

fn came(member: &Member) -> Incoming {
    Incoming::Join(member.channel.clone(), member.info.clone())
}

fn went(member: &Member) -> Incoming {
    Incoming::Leave(member.channel.clone(), member.info.clone())
}
