//! Redis goes back in time: whoever came since is missing, whoever left since is there again, until the gateways have
//! reported everyone again; and nothing is left of anybody.

use std::time::Duration;

use tidings_broker::{
    Broker,
    test_util::{Recorder, RedisServer},
};

use super::{
    Epoch, Error, Scrub, Store,
    fixture::{
        LONG, SHORT, attach, bare, channel, cluster, command, joins, keys, leave, member, news, seen, sweep,
    },
};
use crate::member::{Change, GatewayId, Lease, Member};

fn announced(name: &str, user: &str) -> Member {
    Member {
        announced: true,
        ..member(&channel(name), user)
    }
}

/// A snapshot is all that outlives a restart.
async fn save(server: &RedisServer) {
    command::<()>(server, &["SAVE"]).await;
}

/// What a sweeper does, once the store answers again.
async fn look(store: &Store) -> Option<Epoch> {
    let ended = loop {
        let noted = store.note_generations().await;
        match noted.and(store.ended().await) {
            Ok(ended) => break ended,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    for lease in &ended.leases {
        while !store.sweep(lease).await.unwrap().done {}
    }
    ended.unscrubbed
}

/// Whether a lease may be renewed.
async fn is_outdated(store: &Store, lease: &Lease) -> bool {
    match store.renew(lease, LONG).await {
        Ok(()) => false,
        Err(Error::Outdated { lease: outdated }) => {
            assert_eq!(outdated, *lease);
            true
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn after_a_rollback_a_lease_cannot_be_renewed_and_who_is_reported_again_is_there_without_being_announced()
 {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&server.config()).unwrap();
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &["tasks"]).await);
    let gateway = GatewayId::parse("g1").unwrap();
    let (lease, before) = store.attach(&gateway, LONG).await.unwrap();
    let [goes, stays, comes] = ["ada", "bob", "eve"].map(|user| announced("tasks", user));
    store.apply(&lease, joins([&goes, &stays])).await.unwrap();
    look(&store).await;
    assert!(!is_outdated(&store, &lease).await);

    save(&server).await;
    let changes = vec![Change::Left(goes.id()), Change::Joined(comes.clone())];
    store.apply(&lease, changes).await.unwrap();
    assert_eq!(news(&recorder).await, 4);
    server.kill();
    server.up();
    look(&store).await;
    assert!(is_outdated(&store, &lease).await);
    // What is there stays, and says that it may not be all.
    let page = store.members(&channel("tasks"), None, 10).await.unwrap();
    assert_eq!((page.members.len(), page.complete), (2, false));

    let (again, store_now) = store.attach(&gateway, LONG).await.unwrap();
    assert_ne!(store_now, before);
    // Its own connection is not the one that was lost.
    let broker = Broker::redis(&server.config()).unwrap();
    let recorder = Recorder::new(&broker, &["tasks"]).await;
    let known = [&stays, &comes].map(|member| Change::Known(member.clone()));
    store.apply(&again, known.to_vec()).await.unwrap();
    store.supersede(&again).await.unwrap();
    let mut there = seen(&store, "tasks").await;
    there.sort_by_key(|member| member.info.user.clone());
    assert_eq!(there, [stays, comes]);
    assert_eq!(news(&recorder).await, 0);
    // Who is gone is announced as leaving once more: nobody can know whether it was before.
    assert_eq!(sweep(&store, &lease).await, [goes.id()]);
    assert_eq!(news(&recorder).await, 1);
    assert!(!is_outdated(&store, &again).await);
    leave(&store, &again).await;
    assert_eq!(keys(&server).await, [] as [String; 0]);
}

#[tokio::test]
async fn of_two_rollbacks_each_is_found() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let store = bare(&Broker::redis(&server.config()).unwrap());
    look(&store).await;
    save(&server).await;
    for _ in 0..2 {
        let lease = attach(&store, "g1", LONG).await;
        look(&store).await;
        save(&server).await;
        server.kill();
        server.up();
        look(&store).await;
        assert!(is_outdated(&store, &lease).await);
        look(&store).await;
        let next = attach(&store, "g1", LONG).await;
        assert!(!is_outdated(&store, &next).await, "each is found once");
    }
}

/// Of three primaries, one forgets what the others keep: the members of a channel are there again whose lease is swept, a user
/// has places again whose lease is, and a lease is named again. Any of the three may have been the one.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_primary_of_a_cluster_has_again_is_not_seen_and_is_cleaned_up() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    let broker = Broker::redis(&cluster.config()).unwrap();
    let store = bare(&broker);
    for node in 0..cluster.nodes.len() {
        let lease = attach(&store, "g1", SHORT).await;
        let members: Vec<Member> = (0..30)
            .map(|n| announced(&format!("room:{}", n % 5), &format!("user{n}")))
            .collect();
        store.apply(&lease, joins(&members)).await.unwrap();
        look(&store).await;
        save(&cluster.nodes[node]).await;
        leave(&store, &lease).await;

        cluster.nodes[node].kill();
        cluster.nodes[node].up();
        cluster.settles();
        let mut scrub = loop {
            if let Some(store) = look(&store).await {
                break Scrub::new(store);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        for room in 0..5 {
            assert_eq!(seen(&store, &format!("room:{room}")).await, []);
        }
        while store.scrub(&mut scrub).await.unwrap() {
            look(&store).await;
        }
        assert_eq!(look(&store).await, None, "once for each that was lost");
        for node in &cluster.nodes {
            assert_eq!(keys(node).await, [] as [String; 0]);
        }
    }
}
