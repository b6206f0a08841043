//! A gateway's members and the presence service: whatever happens in between, presence ends up right.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use prometheus_client::registry::Registry;
use tidings_broker::{
    Broker, Incoming,
    test_util::{Recorder, RedisServer},
};
use tidings_core::{ClientId, ClientInfo};
use tidings_gateway::presence::{Error, Members};
use tidings_presence::{Config, Presence, Server, Store};
use tidings_runtime::{Health, Shutdown, health::Check};
use tidings_session::Seen;
use tidings_tests::fault::{Faulty, Wire};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

const LEASE: Duration = Duration::from_secs(10);

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn who_joins_any_gateway_is_seen_from_every_gateway() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let (here, there) = (
        Gateway::start("g1", &presence, LEASE),
        Gateway::start("g2", &presence, LEASE),
    );
    let (ada, bob) = (client("ada"), client("bob"));
    here.joined("tasks", &ada);
    there.joined("tasks", &bob);
    for gateway in [&here, &there] {
        gateway.until("tasks", &[&ada, &bob]).await;
        assert_eq!(gateway.members.stats(&channel("tasks")).await.unwrap(), (2, 2));
    }
    here.left("tasks", &ada);
    there.until("tasks", &[&bob]).await;
    here.until("tasks", &[&bob]).await;

    there.members.goodbye().await;
    assert_eq!(here.members.list(&channel("tasks")).await.unwrap(), []);
}

#[tokio::test]
async fn a_gateway_with_more_members_than_one_update_holds_reports_them_all() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let gateway = Gateway::start("g1", &presence, LEASE);
    let mut clients: Vec<ClientInfo> = (0..2_500).map(|_| client("ada")).collect();
    // Large enough that bytes bound an update too.
    clients.extend((0..100).map(|_| ClientInfo {
        conn_info: vec![b' '; 60_000].into(),
        ..client("bob")
    }));
    for client in &clients {
        gateway.joined("tasks", client);
    }
    gateway.until("tasks", &clients.iter().collect::<Vec<_>>()).await;
    for client in &clients {
        gateway.left("tasks", client);
    }
    gateway.until("tasks", &[]).await;
}

#[tokio::test]
async fn more_members_than_an_answer_may_have_are_an_error_that_says_so() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let gateway = Gateway::start("g1", &presence, LEASE);
    for _ in 0..10_001 {
        gateway.joined("tasks", &client("ada"));
    }
    let all = async { while gateway.members.stats(&channel("tasks")).await.unwrap() != (10_001, 1) {} };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    let error = gateway.members.list(&channel("tasks")).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { max: 10_000, .. }), "{error}");
}

#[tokio::test]
async fn a_gateway_that_dies_is_gone_after_its_lease_and_one_that_says_goodbye_at_once() {
    let presence = presence(&Store::new(&Broker::memory())).connect_in_process(&Shutdown::new());
    let observer = Gateway::start("g0", &presence, LEASE);
    let (dies, leaves) = (
        Gateway::start("g1", &presence, Duration::from_secs(1)),
        Gateway::start("g2", &presence, Duration::from_secs(600)),
    );
    let (ada, bob) = (client("ada"), client("bob"));
    dies.joined("tasks", &ada);
    leaves.joined("tasks", &bob);
    observer.until("tasks", &[&ada, &bob]).await;
    leaves.members.goodbye().await;
    observer.until("tasks", &[&ada]).await;
    drop(dies);
    observer.until("tasks", &[]).await;
}

#[tokio::test]
async fn while_presence_is_away_clients_come_and_go_and_it_hears_of_it_when_it_is_back() {
    let first = Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &Store::new(&Broker::memory()));
    let address = first.address;
    let gateway = Gateway::start("g1", &first.channel(), LEASE);
    let (ada, bob, eve) = (client("ada"), client("bob"), client("eve"));
    gateway.joined("tasks", &ada);
    gateway.joined("tasks", &bob);
    gateway.until("tasks", &[&ada, &bob]).await;
    assert_eq!(gateway.health.check("presence"), Check::Up);

    first.stop().await;
    gateway.left("tasks", &ada);
    gateway.joined("tasks", &eve);
    let error = gateway.members.list(&channel("tasks")).await.unwrap_err();
    assert!(matches!(error, Error::Away { .. }), "{error}");
    gateway
        .until_health(|check| matches!(check, Check::Away { .. }))
        .await;

    // It remembers nothing: the gateway does.
    let second = Replica::start(address, &Store::new(&Broker::memory()));
    gateway.until("tasks", &[&bob, &eve]).await;
    gateway.until_health(|check| *check == Check::Up).await;
    gateway.members.goodbye().await;
    second.stop().await;
}

#[tokio::test]
async fn a_goodbye_to_nobody_does_not_keep_the_process() {
    let nowhere = Channel::from_static("http://127.0.0.1:1").connect_lazy();
    let gateway = Gateway::start("g1", &nowhere, LEASE);
    gateway.joined("tasks", &client("ada"));
    gateway
        .until_health(|check| matches!(check, Check::Away { reason } if reason.contains("presence is away")))
        .await;
    gateway.members.goodbye().await;
    gateway.shutdown.wait().await;
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_told_again() {
    let Some(mut redis) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&redis.config()).unwrap();
    let store = Store::new(&broker);
    let presence = presence(&store).connect_in_process(&Shutdown::new());
    let gateway = Gateway::start("g1", &presence, Duration::from_secs(1));
    let ada = client("ada");
    gateway.joined("tasks", &ada);
    gateway.until("tasks", &[&ada]).await;
    redis.kill();
    assert!(gateway.members.list(&channel("tasks")).await.is_err());
    redis.up();
    gateway.until("tasks", &[&ada]).await;
}

#[tokio::test]
async fn presence_is_right_after_a_thousand_clients_roamed_and_every_replica_was_restarted() {
    let Some(redis) = RedisServer::start() else { return };
    let broker = Broker::redis(&redis.config()).unwrap();
    let store = Store::new(&broker);
    let mut replica = Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &store);
    let gateway = Gateway::start("g1", &replica.channel(), Duration::from_secs(2));
    let clients: Vec<ClientInfo> = (0..1_000).map(|_| client("ada")).collect();
    let rooms = [
        "room:0", "room:1", "room:2", "room:3", "room:4", "room:5", "room:6",
    ];
    let recorder = Recorder::new(&broker, &rooms).await;
    let mut at: Vec<Option<usize>> = vec![None; clients.len()];
    for round in 0..30 {
        for (n, client) in clients.iter().enumerate() {
            // No randomness: everyone moves, everyone else than before, and some are nowhere for a while.
            if let Some(room) = at[n].take() {
                gateway.left(rooms[room], client);
            }
            if (n + round) % 5 != 0 {
                let room = n * (round + 1) % rooms.len();
                gateway.joined(rooms[room], client);
                at[n] = Some(room);
            }
        }
        tokio::task::yield_now().await;
        if round % 10 == 5 {
            let address = replica.address;
            replica.stop().await;
            replica = Replica::start(address, &store);
        }
    }
    for (n, room) in rooms.iter().enumerate() {
        let there = clients.iter().zip(&at).filter(|(_, place)| **place == Some(n));
        let expected: Vec<&ClientInfo> = there.map(|(client, _)| client).collect();
        gateway.until(room, &expected).await;
    }
    // Who listened knows the same once it is swept what no gateway reported again, and heard everyone in turns.
    while !store.ended().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let there: BTreeMap<_, _> = clients
        .iter()
        .zip(&at)
        .filter_map(|(client, place)| Some(((channel(rooms[(*place)?]), client.client), true)))
        .collect();
    let mut last = BTreeMap::new();
    for (who, is_there) in heard(&recorder).await {
        assert_ne!(
            last.insert(who.clone(), is_there).unwrap_or(false),
            is_there,
            "{who:?} twice"
        );
    }
    last.retain(|_, is_there| *is_there);
    assert!(last == there, "{} heard, {} there", last.len(), there.len());
    gateway.members.goodbye().await;
}

#[tokio::test]
async fn presence_is_right_after_a_gateway_was_cut_off_for_less_and_for_longer_than_its_lease() {
    let Some(redis) = RedisServer::start() else { return };
    let broker = Broker::redis(&redis.config()).unwrap();
    let store = Store::new(&broker);
    let replica = Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &store);
    let wire = Faulty::start(replica.address.port()).await;
    let cut_off = Channel::from_shared(wire.redis_url().replace("redis", "http")).unwrap();
    let lease = Duration::from_secs(1);
    let gateways = [
        Gateway::start("g1", &cut_off.connect_lazy(), lease),
        Gateway::start("g2", &replica.channel(), lease),
    ];
    let rooms = ["room:0", "room:1", "room:2"];
    let recorder = Recorder::new(&broker, &rooms).await;
    // A connection stays with its gateway; in which room it is changes all the time.
    let clients: Vec<ClientInfo> = (0..1_000).map(|n| client(&format!("user{}", n / 2))).collect();
    let mut at: Vec<Option<usize>> = vec![None; clients.len()];
    for (round, state) in [
        Wire::Whole,
        Wire::Cut,
        Wire::Whole,
        Wire::Held,
        Wire::Whole,
        Wire::Cut,
        Wire::Whole,
    ]
    .into_iter()
    .enumerate()
    {
        wire.set(state);
        for (n, client) in clients.iter().enumerate() {
            let gateway = &gateways[n % 2];
            if let Some(room) = at[n].take() {
                gateway.left(rooms[room], client);
            }
            if (n + round) % 5 != 0 {
                let room = n * (round + 1) % rooms.len();
                gateway.joined(rooms[room], client);
                at[n] = Some(room);
            }
        }
        match (round, state) {
            // Less than the lease, and then longer: until its members are nowhere to be seen.
            (_, Wire::Whole) => tokio::time::sleep(lease / 3).await,
            (1, _) => tokio::time::sleep(lease / 5).await,
            _ => {
                let gone = async {
                    while !is_alone(&store, rooms[0], "g2").await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::time::timeout(PATIENCE, gone).await.unwrap();
            }
        }
    }
    for (n, room) in rooms.iter().enumerate() {
        let there = clients.iter().zip(&at).filter(|(_, place)| **place == Some(n));
        let expected: Vec<&ClientInfo> = there.map(|(client, _)| client).collect();
        gateways[1].until(room, &expected).await;
        let users: std::collections::BTreeSet<_> = expected.iter().map(|info| &info.user).collect();
        let stats = store.stats(&channel(room)).await.unwrap();
        assert_eq!(
            (stats.clients, stats.users),
            (expected.len(), users.len()),
            "{room}"
        );
    }
    while !store.ended().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut last = BTreeMap::new();
    for (who, is_there) in heard(&recorder).await {
        let before = last.insert(who.clone(), is_there).unwrap_or(false);
        assert_ne!(before, is_there, "{who:?} twice");
    }
    last.retain(|_, is_there| *is_there);
    let there = clients.iter().zip(&at).filter_map(|(client, place)| {
        let room = channel(rooms[(*place)?]);
        Some(((room, client.client), true))
    });
    assert!(last == there.collect(), "{} heard last", last.len());
    for gateway in &gateways {
        gateway.members.goodbye().await;
    }
    replica.stop().await;
}

/// Whether all that are seen in a channel are one gateway's.
async fn is_alone(store: &Store, room: &str, gateway: &str) -> bool {
    let page = store.members(&channel(room), None, 1_000).await.unwrap();
    page.members.iter().all(|(_, its)| its.as_str() == gateway)
}

#[tokio::test]
async fn each_leave_of_a_dead_gateway_is_heard_once_though_the_replicas_that_sweep_are_killed() {
    let Some(redis) = RedisServer::start() else { return };
    let broker = Broker::redis(&redis.config()).unwrap();
    let rooms = [
        "room:0", "room:1", "room:2", "room:3", "room:4", "room:5", "room:6",
    ];
    let recorder = Recorder::new(&broker, &rooms).await;
    let until = |count| tokio::time::timeout(PATIENCE, recorder.until(count)).map(Result::unwrap);
    let mut replicas: Vec<Mortal> = (0..3).map(|_| Mortal::start(&redis)).collect();
    let gateway = Gateway::start("g1", &replicas[0].replica.channel(), Duration::from_secs(1));
    for n in 0..5_000 {
        gateway.joined(rooms[n % rooms.len()], &client("ada"));
    }
    until(5_000).await;
    drop(gateway);

    // In the middle of it, all replicas but one cease to be.
    until(5_001).await;
    let survivor = replicas.pop();
    replicas.into_iter().for_each(Mortal::kill);
    until(10_000).await;
    let mut last = BTreeMap::new();
    for (who, is_there) in heard(&recorder).await {
        assert_eq!(last.insert(who, is_there), (!is_there).then_some(true));
    }
    assert_eq!(last.len(), 5_000);
    assert!(last.values().all(|is_there| !is_there));
    survivor.into_iter().for_each(Mortal::kill);
}

/// A gateway as far as presence is concerned.
struct Gateway {
    members: Members,
    health: Health,
    shutdown: Shutdown,
}

impl Gateway {
    fn start(id: &str, presence: &Channel, lease: Duration) -> Self {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let component = health.component("presence");
        let members = Members::start(id.to_owned(), presence.clone(), lease, &shutdown, component);
        Self {
            members,
            health,
            shutdown,
        }
    }

    /// A client comes that is announced.
    fn joined(&self, name: &str, info: &ClientInfo) {
        let seen = Seen {
            info: info.clone(),
            announced: true,
        };
        self.members.joined(&channel(name), &seen);
    }

    fn left(&self, name: &str, info: &ClientInfo) {
        self.members.left(&channel(name), info.client);
    }

    /// Waits until exactly these are seen in a channel.
    async fn until(&self, name: &str, expected: &[&ClientInfo]) {
        let mut expected: Vec<ClientInfo> = expected.iter().copied().cloned().collect();
        expected.sort_by_key(|info| info.client);
        let seen = async {
            while self.members.list(&channel(name)).await.ok().as_ref() != Some(&expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, seen).await.is_err() {
            let there = self
                .members
                .list(&channel(name))
                .await
                .map(|members| members.len());
            panic!("{} expected in {name}, seen: {there:?}", expected.len());
        }
    }

    async fn until_health(&self, wanted: impl Fn(&Check) -> bool) {
        let seen = async {
            while !wanted(&self.health.check("presence")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }
}

/// A presence replica behind its own door.
struct Replica {
    address: SocketAddr,
    shutdown: Shutdown,
}

impl Replica {
    fn start(listen: SocketAddr, store: &Store) -> Self {
        let shutdown = Shutdown::new();
        let config = Config {
            listen,
            ..Config::default()
        };
        let server = Server::bind(&config, presence(store)).unwrap();
        let address = server.local_addr();
        drop(shutdown.spawn(server.run(shutdown.clone())));
        Self { address, shutdown }
    }

    fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    async fn stop(self) {
        self.shutdown.request();
        self.shutdown.wait().await;
    }
}

/// A presence replica that can be killed: everything it does happens in a runtime of its own.
struct Mortal {
    runtime: Runtime,
    replica: Replica,
}

impl Mortal {
    fn start(redis: &RedisServer) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = Store::new(&Broker::redis(&redis.config()).unwrap());
        let replica = {
            let _inside = runtime.enter();
            Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &store)
        };
        Self { runtime, replica }
    }

    /// Its tasks go no further than their next await.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// Who came to which channel (`true`), and who left it.
async fn heard(recorder: &Recorder) -> impl Iterator<Item = ((tidings_core::Channel, ClientId), bool)> {
    recorder.heard().await.into_iter().map(|incoming| match incoming {
        Incoming::Join(channel, info) => ((channel, info.client), true),
        Incoming::Leave(channel, info) => ((channel, info.client), false),
        other => panic!("neither join nor leave: {other:?}"),
    })
}

fn presence(store: &Store) -> Presence {
    Presence::new(store.clone(), &mut Registry::default())
}

fn channel(name: &str) -> tidings_core::Channel {
    tidings_core::Channel::parse(name).unwrap()
}

fn client(user: &str) -> ClientInfo {
    ClientInfo {
        user: user.into(),
        client: ClientId::random(),
        conn_info: Bytes::from_static(br#"{"name":"x"}"#),
        chan_info: Bytes::new(),
    }
}
