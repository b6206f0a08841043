//! What presence costs: 100,000 members over 10,000 channels from four gateways, on a Redis of its own.
//!
//! `cargo run --release -p tidings-presence --example members`. Prints figures and asserts nothing: a busy machine proves
//! nothing. Each user is in ten channels.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement may panic, and prints"
)]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use redis::FromRedisValue;
use tidings_broker::{Broker, test_util::RedisServer};
use tidings_core::ClientId;
use tidings_presence::{Presence, Store, member::GatewayId};
use tidings_proto::presence::{
    Change, Changes, GatewayUpdate, Heartbeat, Hello, ListRequest, Member, Snapshot, StatsRequest, change,
    gateway_update::Update, presence_client::PresenceClient,
};
use tidings_runtime::Shutdown;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

const MEMBERS: usize = 100_000;
const CHANNELS: usize = 10_000;
const GATEWAYS: usize = 4;
const PER_USER: usize = 10;
const BATCH: usize = 1_000;
const LEASE: Duration = Duration::from_secs(10);
const ROUNDS: usize = 200;

#[tokio::main]
async fn main() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&server.config()).unwrap();
    let store = Store::new(&broker);
    let presence = Presence::new(store.clone(), &mut Registry::default());
    let shutdown = Shutdown::new();
    drop(shutdown.spawn(presence.clone().run_sweeper(shutdown.clone())));
    let channel = presence.connect_in_process(&shutdown);
    let mut gateways = Vec::new();
    for n in 0..GATEWAYS {
        gateways.push(Gateway::attach(&channel, &uuid(n)).await);
    }

    let empty = memory(&server).await;
    let all: Vec<Vec<Member>> = (0..GATEWAYS)
        .map(|gateway| members(gateway * MEMBERS / GATEWAYS, MEMBERS / GATEWAYS))
        .collect();
    let began = Instant::now();
    let joins = gateways
        .iter_mut()
        .zip(&all)
        .map(|(gateway, members)| async move {
            for batch in members.chunks(BATCH) {
                let changes = batch.iter().cloned().map(|member| Change {
                    change: Some(change::Change::Joined(member)),
                });
                let changes = Changes {
                    changes: changes.collect(),
                };
                gateway.tell(Update::Changes(changes)).await;
            }
        });
    futures_util::future::join_all(joins).await;
    let took = began.elapsed();
    println!(
        "joins              {:>9.0} per second",
        MEMBERS as f64 / took.as_secs_f64()
    );
    let log: u64 = command(
        &server,
        &["MEMORY", "USAGE", "tidings:presence-log", "SAMPLES", "0"],
    )
    .await;
    let used = memory(&server).await - empty - log;
    println!(
        "memory             {:>9} bytes per member, and {log} of the log",
        used / MEMBERS as u64
    );

    // All keys are looked at once in a store that is new.
    let mut beats = tokio::time::interval(LEASE / 3);
    while !command::<bool>(&server, &["HEXISTS", "tidings:{leases}", "scrubbed"]).await {
        beats.tick().await;
        for gateway in &mut gateways {
            gateway.tell(Update::Heartbeat(Heartbeat {})).await;
        }
    }
    let commands = calls(&server).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        beats.tick().await;
        for gateway in &mut gateways {
            gateway.tell(Update::Heartbeat(Heartbeat {})).await;
        }
    }
    let idle = (calls(&server).await - commands) as f64 / began.elapsed().as_secs_f64();
    println!("idle upkeep        {idle:>9.1} commands per second, those of scripts included");

    // One channel as large as a page, and a huge one.
    for (name, size) in [("page", 1_000), ("huge", 50_000)] {
        let crowd: Vec<Member> = (0..size)
            .map(|n| member(name, &user(n), ClientId::random()))
            .collect();
        for batch in crowd.chunks(BATCH) {
            let changes = batch.iter().cloned().map(|member| Change {
                change: Some(change::Change::Joined(member)),
            });
            let changes = changes.collect();
            gateways[0].tell(Update::Changes(Changes { changes })).await;
        }
        let mut client = PresenceClient::new(channel.clone());
        let (mut stats, mut list) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let request = StatsRequest {
                channel: name.to_owned(),
            };
            client.stats(request).await.unwrap();
            stats.push(began.elapsed());
            let began = Instant::now();
            let request = ListRequest {
                channel: name.to_owned(),
                ..ListRequest::default()
            };
            assert_eq!(
                client.list(request).await.unwrap().into_inner().members.len(),
                1_000
            );
            list.push(began.elapsed());
        }
        println!("Stats of {size:<6}    {:>9.3} ms, median", median(stats));
        println!("List of 1,000      {:>9.3} ms, median, of {size}", median(list));
    }

    let gateway = GatewayId::parse(&uuid(GATEWAYS - 1)).unwrap();
    drop(gateways.pop());
    let lease = loop {
        let (newest, _) = store.attach(&gateway, LEASE).await.unwrap();
        store.supersede(&newest).await.unwrap();
        store.end(&newest).await.unwrap();
        if let Some(lease) = store.ended().await.unwrap().leases.into_iter().next() {
            break lease;
        }
    };
    let began = Instant::now();
    while !store.ended().await.unwrap().leases.is_empty() {
        let _ = store.sweep(&lease).await.unwrap();
        for lease in store.ended().await.unwrap().leases {
            let _ = store.sweep(&lease).await.unwrap();
        }
    }
    println!(
        "sweep of {}    {:>9.2} s",
        MEMBERS / GATEWAYS,
        began.elapsed().as_secs_f64()
    );
}

fn members(from: usize, count: usize) -> Vec<Member> {
    let mut members = Vec::with_capacity(count);
    let mut client = ClientId::random();
    for n in from..from + count {
        if n % PER_USER == 0 {
            client = ClientId::random();
        }
        members.push(member(
            &format!("tasks:{}", n % CHANNELS),
            &user(n / PER_USER),
            client,
        ));
    }
    members
}

fn member(channel: &str, user: &str, client: ClientId) -> Member {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Member {
        channel: channel.to_owned(),
        client: client.to_string(),
        user: user.to_owned(),
        conn_info: Bytes::new(),
        joined_at_ms: now.as_millis().try_into().unwrap(),
        announced: true,
        ..Member::default()
    }
}

/// 16 bytes.
fn user(n: usize) -> String {
    format!("user{n:012}")
}

/// As long as a node's id.
fn uuid(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1_000.0
}

async fn memory(server: &RedisServer) -> u64 {
    let stats: std::collections::HashMap<String, redis::Value> = command(server, &["MEMORY", "STATS"]).await;
    u64::from_redis_value(stats["total.allocated"].clone()).unwrap()
}

async fn calls(server: &RedisServer) -> u64 {
    let info: String = command(server, &["INFO", "commandstats"]).await;
    let calls = info
        .lines()
        .filter_map(|line| line.split_once("calls=")?.1.split(',').next());
    calls.map(|calls| calls.parse::<u64>().unwrap()).sum()
}

async fn command<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0])
        .arg(&words[1..])
        .query_async(&mut connection)
        .await
        .unwrap()
}

struct Gateway {
    updates: mpsc::Sender<GatewayUpdate>,
    acks: Streaming<tidings_proto::presence::PresenceAck>,
    seq: u64,
}

impl Gateway {
    async fn attach(channel: &Channel, id: &str) -> Self {
        let (updates, receiver) = mpsc::channel(1);
        let attach = PresenceClient::new(channel.clone())
            .attach(ReceiverStream::new(receiver))
            .await;
        let mut gateway = Self {
            updates,
            acks: attach.unwrap().into_inner(),
            seq: 0,
        };
        let hello = Hello {
            gateway: id.to_owned(),
            lease_ms: LEASE.as_millis().try_into().unwrap(),
        };
        gateway.tell(Update::Hello(hello)).await;
        let nobody = Snapshot {
            last: true,
            ..Snapshot::default()
        };
        gateway.tell(Update::Snapshot(nobody)).await;
        gateway
    }

    async fn tell(&mut self, update: Update) {
        self.seq += 1;
        let update = GatewayUpdate {
            seq: self.seq,
            update: Some(update),
        };
        self.updates.send(update).await.unwrap();
        self.acks.message().await.unwrap();
    }
}
