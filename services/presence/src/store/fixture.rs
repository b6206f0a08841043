//! Stores under test, and members to put into them.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use redis::FromRedisValue;
use tidings_broker::{
    Broker, Incoming,
    redis::{Config, PERMISSIONS, RedisUrl},
    test_util::{Recorder, RedisCluster, RedisServer},
};
use tidings_core::{Channel, ClientId, ClientInfo};

use super::{Options, Per, Store};
use crate::member::{Change, GatewayId, Lease, Member, MemberId};

/// A lease that does not end in a test, and one that ends soon.
pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const SHORT: Duration = Duration::from_millis(600);

/// Makes each rule, which is given a bus and leaves nothing behind, a test of the memory store and a test of Redis, as a user
/// with the documented permissions, and all together one of a Cluster.
macro_rules! on_each_bus {
    ($($rule:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $rule() {
                super::$rule(tidings_broker::Broker::memory()).await;
            })+
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $rule() {
                let Some(server) = tidings_broker::test_util::RedisServer::start() else { return };
                let config = $crate::store::fixture::as_documented(&server).await;
                super::$rule(tidings_broker::Broker::redis(&config).unwrap()).await;
                let left = $crate::store::fixture::keys(&server).await;
                assert_eq!(left, [] as [String; 0], "left behind");
            })+
        }
        mod in_cluster {
            #[tokio::test]
            async fn every_rule() {
                let Some(cluster) = $crate::store::fixture::cluster().await else { return };
                $(
                    println!(stringify!($rule));
                    let config = $crate::store::fixture::named(&cluster, stringify!($rule));
                    super::$rule(tidings_broker::Broker::redis(&config).unwrap()).await;
                )+
                for node in &cluster.nodes {
                    let left = $crate::store::fixture::keys(node).await;
                    assert_eq!(left, [] as [String; 0], "left behind");
                }
            }
        }
    };
}
pub(crate) use on_each_bus;

pub(crate) fn on(server: &RedisServer) -> Store {
    bare(&Broker::redis(&server.config()).unwrap())
}

/// Keeps nothing of who is gone.
pub(crate) const BARE: Options = Options {
    per: Per::Client,
    leave_delay: Duration::ZERO,
    last_seen: Duration::ZERO,
    log: 0,
    crowd: 0,
    crowd_interval: Duration::ZERO,
};

pub(crate) fn bare(broker: &Broker) -> Store {
    Store::with(broker, BARE)
}

pub(crate) async fn command<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0])
        .arg(&words[1..])
        .query_async(&mut connection)
        .await
        .unwrap()
}

/// A configuration for a server, as a user `tidings` with the permissions that are documented and no others.
pub(crate) async fn as_documented(server: &RedisServer) -> Config {
    let user = [
        "ACL",
        "SETUSER",
        "tidings",
        "on",
        ">secret",
        "~tidings:*",
        "&tidings:*",
    ];
    let words: Vec<&str> = user.into_iter().chain(PERMISSIONS.split_whitespace()).collect();
    command::<()>(server, &words).await;
    let url = server.url().replace("redis://", "redis://tidings:secret@");
    Config {
        url: Some(RedisUrl::parse(&url).unwrap()),
        ..server.config()
    }
}

/// All keys but the leases, of which nothing is left but when the store was asked and began.
pub(crate) async fn keys(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> = command(server, &["KEYS", "*"]).await;
    // The format is said by every node, whatever it keeps.
    keys.retain(|key| !key.ends_with(":format"));
    for at in (0..keys.len()).rev() {
        if keys[at].ends_with(":{leases}") {
            let mut left: Vec<String> = command(server, &["HKEYS", &keys.swap_remove(at)]).await;
            let about_the_store = ["answered", "born", "scrubbed", "generations"];
            left.retain(|field| !about_the_store.contains(&field.as_str()));
            keys.extend(left);
        }
    }
    keys
}

pub(crate) async fn attach(store: &Store, gateway: &str, length: Duration) -> Lease {
    let (lease, _) = store
        .attach(&GatewayId::parse(gateway).unwrap(), length)
        .await
        .unwrap();
    lease
}

pub(crate) async fn until_ended(store: &Store, lease: &Lease) {
    while !store.ended().await.unwrap().leases.contains(lease) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn sweep(store: &Store, lease: &Lease) -> Vec<MemberId> {
    let mut left = Vec::new();
    loop {
        let swept = store.sweep(lease).await.unwrap();
        left.extend(swept.left);
        if swept.done {
            return left;
        }
    }
}

pub(crate) async fn leave(store: &Store, lease: &Lease) {
    store.end(lease).await.unwrap();
    sweep(store, lease).await;
}

pub(crate) async fn seen(store: &Store, name: &str) -> Vec<Member> {
    let page = store.members(&channel(name), None, 1_000).await.unwrap();
    page.members.into_iter().map(|(member, _)| member).collect()
}

/// The clients of a channel, read in pages.
pub(crate) async fn pages(store: &Store, name: &str, limit: usize) -> Vec<ClientId> {
    let (mut clients, mut after) = (Vec::new(), None);
    loop {
        let page = store.members(&channel(name), after, limit).await.unwrap();
        assert!(page.members.len() <= limit);
        assert!(!page.more || !page.members.is_empty());
        clients.extend(page.members.iter().map(|(member, _)| member.info.client));
        after = clients.last().copied();
        if !page.more {
            return clients;
        }
    }
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

pub(crate) fn member(channel: &Channel, user: &str) -> Member {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Member {
        channel: channel.clone(),
        info: ClientInfo {
            user: user.into(),
            client: ClientId::random(),
            conn_info: Bytes::from_static(br#"{"name":"x"}"#),
            chan_info: Bytes::new(),
        },
        joined_at: UNIX_EPOCH + Duration::from_millis(now.try_into().unwrap()),
        announced: false,
    }
}

pub(crate) fn joins<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<Change> {
    members.into_iter().cloned().map(Change::Joined).collect()
}

pub(crate) fn ids(ids: &[MemberId]) -> BTreeSet<MemberId> {
    ids.iter().cloned().collect()
}

/// A Redis Cluster, started without holding up the other tests. `None` where there is no Redis.
pub(crate) async fn cluster() -> Option<RedisCluster> {
    tokio::task::spawn_blocking(RedisCluster::start).await.unwrap()
}

/// Names whose keys are on a node.
pub(crate) fn on_node<'a>(
    cluster: &'a RedisCluster,
    node: usize,
    name: impl Fn(usize) -> String + 'a,
) -> impl Iterator<Item = String> + 'a {
    (0..)
        .map(name)
        .filter(move |name| cluster.owner(cluster.slot(name)) == node)
}

/// A configuration for a Cluster, under which nobody else keeps anything there.
pub(crate) fn named(cluster: &RedisCluster, prefix: &str) -> Config {
    Config {
        prefix: prefix.to_owned(),
        ..cluster.config()
    }
}

/// How many joins and leaves were announced since the last call.
pub(crate) async fn news(recorder: &Recorder) -> usize {
    let heard = recorder.heard().await;
    let news = |one: &&Incoming| matches!(one, Incoming::Join(..) | Incoming::Leave(..));
    heard.iter().filter(news).count()
}
