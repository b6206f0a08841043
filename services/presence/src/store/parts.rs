//! A primary of a Redis Cluster is unavailable: what belongs to the others goes on.

use tidings_broker::{
    Broker,
    test_util::{Recorder, RedisCluster},
};
use tidings_core::Channel;

use super::{
    Store,
    fixture::{LONG, attach, bare, channel, cluster, command, ids, joins, news, on_node, seen},
};
use crate::member::{Change, Member, MemberId};

fn announced(name: &str, user: &str) -> Member {
    Member {
        announced: true,
        ..super::fixture::member(&channel(name), user)
    }
}

async fn stats(store: &Store, channel: &Channel) -> Option<(usize, usize)> {
    let stats = store.stats(channel).await.ok()?;
    Some((stats.clients, stats.users))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_channels_of_living_primaries_go_on_while_another_is_dead_and_the_rest_is_repaired_after() {
    let Some(mut cluster) = cluster().await else {
        return;
    };
    for node in &cluster.nodes {
        // Or Redis itself stops them all.
        command::<()>(node, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let leases = cluster.owner(cluster.slot("tidings:{leases}"));
    let (dead, alive) = ((leases + 1) % 3, (leases + 2) % 3);
    let name = |cluster: &RedisCluster, node| on_node(cluster, node, |n| format!("room:{n}")).next().unwrap();
    let user = |cluster: &RedisCluster, node| on_node(cluster, node, |n| format!("ada{n}")).next().unwrap();
    let (here, there) = (name(&cluster, alive), name(&cluster, dead));
    let users = [user(&cluster, alive), user(&cluster, dead)];
    let broker = Broker::redis(&cluster.config()).unwrap();
    let (store, recorder) = (bare(&broker), Recorder::new(&broker, &[&here]).await);
    let lease = attach(&store, "g1", LONG).await;
    let stays: Vec<Member> = users.iter().map(|user| announced(&here, user)).collect();
    let beyond: Vec<Member> = users.iter().map(|user| announced(&there, user)).collect();
    store
        .apply(&lease, joins(stays.iter().chain(&beyond)))
        .await
        .unwrap();
    assert_eq!(news(&recorder).await, 2);

    cluster.nodes[dead].kill();
    let comes: Vec<Member> = users.iter().map(|user| announced(&here, user)).collect();
    let lost: Vec<Member> = users.iter().map(|user| announced(&there, user)).collect();
    let applied = store
        .apply(&lease, joins(comes.iter().chain(&lost)))
        .await
        .unwrap();
    assert_eq!(ids(&applied.joined), comes.iter().map(Member::id).collect());
    // Those there, and who came here of a user whose own key is there.
    let unfinished: Vec<MemberId> = lost.iter().chain(&comes[1..]).map(Member::id).collect();
    assert_eq!(ids(&applied.failed), ids(&unfinished));
    assert_eq!(news(&recorder).await, 2);
    assert_eq!(stats(&store, &channel(&here)).await, Some((4, 2)));
    assert_eq!(seen(&store, &here).await.len(), 4);
    assert_eq!(stats(&store, &channel(&there)).await, None);
    let known = store.lookup(&[users[0].as_str().into()], 10).await.unwrap();
    assert_eq!(known[0].places.len(), 2, "here");
    assert!(known[0].truncated, "and elsewhere, where nobody can look");

    let left = store
        .apply(
            &lease,
            vec![Change::Left(stays[0].id()), Change::Left(stays[1].id())],
        )
        .await
        .unwrap();
    assert_eq!(left.left.len(), 2);
    assert_eq!(news(&recorder).await, 2);
    assert_eq!(stats(&store, &channel(&here)).await, Some((2, 2)));

    // A sweep takes those that it can get at.
    store.end(&lease).await.unwrap();
    let mut swept = Vec::new();
    for _ in 0..3 {
        let some = store.sweep(&lease).await.unwrap();
        assert!(some.failed && !some.done, "{some:?}");
        swept.extend(some.left);
    }
    assert_eq!(ids(&swept), comes.iter().map(Member::id).collect());
    assert_eq!(news(&recorder).await, 2);

    cluster.nodes[dead].up();
    cluster.settles();
    let again = attach(&store, "g1", LONG).await;
    let applied = loop {
        let applied = store.apply(&again, joins(&lost)).await.unwrap();
        if applied.failed.is_empty() {
            break applied;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(applied.left.is_empty());
    assert_eq!(seen(&store, &there).await.len(), 2);
    assert_eq!(news(&recorder).await, 0);
    for lease in [lease, again] {
        super::fixture::leave(&store, &lease).await;
    }
}
