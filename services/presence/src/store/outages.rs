//! Outages of the store: they are counted out of leases, and nobody is announced who did not come or go.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidings_broker::{
    Broker,
    test_util::{Recorder, RedisServer},
};
use tokio::time::{Instant, sleep};

use super::{
    Store,
    fixture::{LONG, attach, bare, channel, command, joins, leave, member, news, seen, sweep, until_ended},
};
use crate::member::{Change, Lease, Member};

const LENGTH: Duration = Duration::from_secs(1);
const KEPT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A store, and one more of another replica, in the same Redis; a lease with a member.
struct Scene {
    server: RedisServer,
    stores: [Store; 2],
    recorder: Recorder,
    lease: Lease,
    ada: Member,
}

impl Scene {
    async fn begin(arguments: &[&str]) -> Option<Self> {
        let server = RedisServer::start_with(arguments)?;
        let broker = Broker::redis(&server.config()).unwrap();
        let stores = [bare(&broker), bare(&Broker::redis(&server.config()).unwrap())];
        let recorder = Recorder::new(&broker, &["tasks"]).await;
        let lease = attach(&stores[0], "g1", LENGTH).await;
        let ada = announced("ada");
        stores[0].apply(&lease, joins([&ada])).await.unwrap();
        assert_eq!(news(&recorder).await, 1);
        Some(Self {
            server,
            stores,
            recorder,
            lease,
            ada,
        })
    }

    /// The store answers again: whoever asks first, the lease is live, and lasts its whole length from now.
    async fn lasts_a_full_length(&self) {
        let answered = Instant::now();
        let [one, other] = &self.stores;
        let (seen, first, second) = tokio::join!(seen(one, "tasks"), one.ended(), other.ended());
        assert_eq!(seen, std::slice::from_ref(&self.ada));
        assert_eq!((first.unwrap().leases, second.unwrap().leases), (vec![], vec![]));
        assert_eq!(one.stats(&channel("tasks")).await.unwrap().clients, 1);
        until_ended(other, &self.lease).await;
        assert!(answered.elapsed() >= LENGTH, "after {:?}", answered.elapsed());
        assert_eq!(news(&self.recorder).await, 0, "nobody left before the sweep");
        assert_eq!(sweep(one, &self.lease).await, [self.ada.id()]);
        assert_eq!(news(&self.recorder).await, 1);
    }
}

#[tokio::test]
async fn a_redis_that_hung_for_longer_than_a_lease_ends_no_lease_and_a_dead_gateways_one_length_later() {
    let Some(scene) = Scene::begin(&[]).await else {
        return;
    };
    scene.server.pause();
    sleep(2 * LENGTH).await;
    scene.server.resume();
    Box::pin(scene.lasts_a_full_length()).await;
}

#[tokio::test]
async fn a_redis_that_restarted_with_its_data_ends_no_lease() {
    let Some(mut scene) = Scene::begin(KEPT).await else {
        return;
    };
    scene.server.kill();
    sleep(2 * LENGTH).await;
    scene.server.up();
    while scene.stores[0].log_end().await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    Box::pin(scene.lasts_a_full_length()).await;
}

#[tokio::test]
async fn a_clock_of_redis_that_was_set_forward_or_back_ends_no_lease() {
    for step in [-3_600_000_i64, -500, 3_600_000] {
        let Some(scene) = Scene::begin(&[]).await else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        // As Redis would have noted it by the clock that it had before.
        let before = i64::try_from(now).unwrap() - step;
        let ends = format!("{} {}", before + 700, LENGTH.as_millis());
        command::<()>(
            &scene.server,
            &[
                "HSET",
                "tidings:{leases}",
                "answered",
                &before.to_string(),
                &scene.lease.to_string(),
                &ends,
            ],
        )
        .await;
        Box::pin(scene.lasts_a_full_length()).await;
    }
}

#[tokio::test]
async fn a_replica_that_was_paused_ends_no_lease_that_others_keep_and_misses_none_that_they_let_end() {
    let Some(scene) = Scene::begin(&[]).await else {
        return;
    };
    let [paused, other] = &scene.stores;
    let kept = attach(other, "g2", LENGTH).await;
    // Only one replica asks, for longer than the leases last.
    let begin = Instant::now();
    while begin.elapsed() < 2 * LENGTH {
        other.renew(&kept, LENGTH).await.unwrap();
        sleep(LENGTH / 10).await;
    }
    assert_eq!(
        paused.ended().await.unwrap().leases,
        std::slice::from_ref(&scene.lease)
    );
    other.renew(&kept, LENGTH).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_attaches_again_keeps_its_older_lease_alive_until_it_has_reported_everyone() {
    let Some(scene) = Scene::begin(&[]).await else {
        return;
    };
    let [store, _] = &scene.stores;
    let again = attach(store, "g1", LENGTH).await;
    let begin = Instant::now();
    while begin.elapsed() < 2 * LENGTH {
        store.renew(&again, LENGTH).await.unwrap();
        assert_eq!(store.ended().await.unwrap().leases, []);
        sleep(LENGTH / 10).await;
    }
    store.supersede(&again).await.unwrap();
    assert_eq!(
        store.ended().await.unwrap().leases,
        std::slice::from_ref(&scene.lease)
    );
    store.renew(&again, LENGTH).await.unwrap();
    assert_eq!(
        store.ended().await.unwrap().leases,
        std::slice::from_ref(&scene.lease),
        "what has ended stays ended"
    );
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_another_store_where_who_was_known_comes_unannounced() {
    let Some(mut scene) = Scene::begin(&[]).await else {
        return;
    };
    let gateway = scene.lease.gateway.clone();
    let (_, before) = scene.stores[0].attach(&gateway, LONG).await.unwrap();
    scene.server.kill();
    scene.server.up();
    let store = &scene.stores[0];
    while store.ended().await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    for store in &scene.stores {
        let page = store.members(&channel("tasks"), None, 10).await.unwrap();
        assert!(
            page.members.is_empty() && !page.complete,
            "nobody has reported anybody"
        );
        let announced = store.announced(&channel("tasks")).await.unwrap();
        assert!(!announced.complete, "nobody has left");
    }
    let (lease, after) = store.attach(&gateway, LONG).await.unwrap();
    assert_ne!(before, after);
    let page = store.members(&channel("tasks"), None, 10).await.unwrap();
    assert!(!page.complete, "other gateways may have members");
    let recorder = Recorder::new(&Broker::redis(&scene.server.config()).unwrap(), &["tasks"]).await;
    let bob = announced("bob");
    let report = vec![Change::Known(scene.ada.clone()), Change::Joined(bob.clone())];
    let joined = store.apply(&lease, report.clone()).await.unwrap().joined;
    assert_eq!(joined.len(), 2);
    assert_eq!(news(&recorder).await, 1, "only bob is news");
    assert_eq!(store.apply(&lease, report).await.unwrap().joined, []);
    leave(store, &lease).await;
    assert_eq!(news(&recorder).await, 2, "both are heard leaving");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_ends_no_lease_of_its_embedded_store() {
    let store = bare(&Broker::memory());
    let lease = attach(&store, "g1", LENGTH).await;
    let ada = announced("ada");
    store.apply(&lease, joins([&ada])).await.unwrap();
    tokio::time::advance(13 * LENGTH).await;
    assert_eq!(seen(&store, "tasks").await, [ada]);
    for _ in 0..9 {
        tokio::time::advance(LENGTH / 10).await;
        assert_eq!(store.ended().await.unwrap().leases, []);
    }
    tokio::time::advance(LENGTH / 5).await;
    assert_eq!(store.ended().await.unwrap().leases, [lease]);
    assert_eq!(seen(&store, "tasks").await, []);
}

fn announced(user: &str) -> Member {
    Member {
        announced: true,
        ..member(&channel("tasks"), user)
    }
}
