//! What clients are told when the bus or Redis loses something, or cannot be read. On a real Redis, and on busy channels.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tidings_broker::{Broker, Publisher, Target, test_util::RedisServer};
use tidings_core::{Channel, Format, Namespace, Namespaces, Publication, RecoveryMode, Retention};
use tidings_runtime::health::Check;

use crate::node::{Client, Node, PATIENCE, start_in_on, start_on};

const KEPT: Retention = Retention {
    size: NonZeroU32::new(100).unwrap(),
    ttl: Duration::from_secs(600),
};

/// Adds an entry to the stream of `news` without publishing it: the bus loses it.
const APPEND: &str = "local e = redis.call('XRANGE', KEYS[2], '-', '+')
    local last = tonumber(redis.call('HGET', KEYS[1], 'offset'))
    local id = string.format('%d-%s', last + 1, string.match(e[#e][1], '%-(%d+)'))
    redis.call('XADD', KEYS[2], id, 'publication', e[#e][2][2])
    return redis.call('HSET', KEYS[1], 'offset', string.format('%d', last + 1))";

/// Takes the last entries of the stream of `news` back, as a failover does that lost them.
const FORGET: &str = "local last = tonumber(redis.call('HGET', KEYS[1], 'offset'))
    local e = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[1])
    for _, entry in ipairs(e) do redis.call('XDEL', KEYS[2], entry[1]) end
    redis.call('XSETID', KEYS[2], redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][1])
    return redis.call('HSET', KEYS[1], 'offset', string.format('%d', last - #e))";

fn script<'s>(redis: &RedisServer, text: &'s str, more: &[&'s str]) {
    let mut command = vec!["EVAL", text, "2", "tidings:top:{news}", "tidings:stream:{news}"];
    command.extend(more);
    redis.ask(&command);
}

async fn publish(publisher: &Publisher, channel: &str, data: u64) {
    let publication = Publication::new(data.to_string().into(), Format::Json, SystemTime::now());
    let target = Target {
        retention: Some(KEPT),
        ..Target::from(Channel::parse(channel).expect("a channel name"))
    };
    for result in publisher.publish(&[target], &publication).await {
        result.expect("published");
    }
}

async fn subscribe(node: &Node, options: Value) -> (Client, Value) {
    let mut client = node.client().await;
    client.send(&json!({"id": 2, "subscribe": options})).await;
    let reply = client.next().await;
    assert_eq!(reply["id"], 2, "{reply}");
    (client, reply["subscribe"].clone())
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_recovery_on_a_busy_channel_always_brings_the_newest_publication() {
    let cached = Namespace {
        force_recovery: true,
        force_recovery_mode: RecoveryMode::Cache,
        ..Namespace::open("cached")
    };
    let namespaces = Namespaces::new(vec![cached]).expect("valid");
    let Some(redis) = RedisServer::start() else {
        return;
    };
    for broker in [Broker::memory(), Broker::redis(&redis.config()).expect("valid")] {
        let node = start_in_on(&broker, namespaces.clone(), |config| {
            config.cores = std::num::NonZero::new(2);
        });
        let publisher = broker.publisher();
        eventually("published", async || {
            let channel = Channel::parse("cached:1").expect("a name");
            let target = Target {
                retention: Some(KEPT),
                ..Target::from(channel)
            };
            let publication = Publication::new("0".into(), Format::Json, SystemTime::now());
            publisher.publish(&[target], &publication).await.remove(0).is_ok()
        })
        .await;
        let done = AtomicBool::new(false);
        let publishing = async {
            let mut number = 0;
            while !done.load(Relaxed) {
                number += 1;
                publish(&publisher, "cached:1", number).await;
                tokio::task::yield_now().await;
            }
        };
        let subscribing = async {
            for _ in 0..200 {
                let options = json!({"channel": "cached:1", "recover": true, "offset": 0, "epoch": ""});
                let (mut client, back) = subscribe(&node, options).await;
                assert_eq!(back["recovered"], true, "{back}");
                let newest = &back["publications"][0]["offset"];
                assert_eq!(back["publications"].as_array().map(Vec::len), Some(1));
                let next = client.next().await["push"]["pub"]["offset"].as_u64();
                assert_eq!(next, newest.as_u64().map(|it| it + 1), "and then what is new");
            }
            done.store(true, Relaxed);
        };
        tokio::join!(publishing, subscribing);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_read_degrades_readiness_and_its_members_are_not_told_anything() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&redis.config()).expect("valid");
    let node = start_on(&broker, "test", None, |_| {});
    eventually("connected", async || {
        *broker.status().borrow() == tidings_broker::Status::Up
    })
    .await;
    publish(&broker.publisher(), "news", 1).await;
    let (mut client, _) = subscribe(&node, json!({"channel": "news", "recoverable": true})).await;
    script(&redis, APPEND, &[]);
    redis.ask(&["RENAME", "tidings:stream:{news}", "aside"]);
    redis.ask(&["SET", "tidings:stream:{news}", "no stream"]);
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let reason = || match node.health.check("streams") {
        Check::Away { reason } => reason,
        _ => String::new(),
    };
    eventually("degraded", async || reason().contains("WRONGTYPE")).await;
    assert!(reason().starts_with("read of 1 streams failed"), "{}", reason());
    redis.ask(&["DEL", "tidings:stream:{news}"]);
    redis.ask(&["RENAME", "aside", "tidings:stream:{news}"]);
    let push = client.next().await;
    assert_eq!(
        push["push"]["pub"]["offset"], 2,
        "nothing else came before: {push}"
    );
    eventually("well again", async || node.health.check("streams") == Check::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_has_handed_out_is_evidence_though_its_last_member_has_gone() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    // The publisher dies with what it knows; nobody else publishes from its process.
    let broker = Broker::redis(&redis.config()).expect("valid");
    let dead = Broker::redis(&redis.config()).expect("valid");
    let node = start_on(&broker, "test", None, |_| {});
    for broker in [&broker, &dead] {
        eventually("connected", async || {
            *broker.status().borrow() == tidings_broker::Status::Up
        })
        .await;
    }
    let (mut member, told) = subscribe(&node, json!({"channel": "news", "recoverable": true})).await;
    for number in 1..=7 {
        publish(&dead.publisher(), "news", number).await;
        assert_eq!(member.next().await["push"]["pub"]["offset"], number);
    }
    drop((dead, member));
    node.is_empty().await;
    script(&redis, FORGET, &["2"]);
    let epoch = if told["epoch"].as_str().is_some_and(|it| it.starts_with('~')) {
        json!("")
    } else {
        told["epoch"].clone()
    };
    let options =
        json!({"channel": "news", "recoverable": true, "recover": true, "offset": 5, "epoch": epoch});
    let (_client, back) = subscribe(&node, options).await;
    if epoch != json!("") {
        assert_eq!(back.get("recovered"), None, "6 and 7 were handed out: {back}");
    }
    assert_ne!(back["epoch"], told["epoch"], "all others learn it by the epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_told_when_redis_lost_what_they_got_while_others_go_on_publishing() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&redis.config()).expect("valid");
    let (dead, other) = (
        Broker::redis(&redis.config()).expect("valid"),
        Broker::redis(&redis.config()).expect("valid"),
    );
    let node = start_on(&broker, "test", None, |_| {});
    for broker in [&broker, &dead, &other] {
        eventually("connected", async || {
            *broker.status().borrow() == tidings_broker::Status::Up
        })
        .await;
    }
    let (mut member, _) = subscribe(&node, json!({"channel": "news", "recoverable": true})).await;
    for number in 1..=7 {
        publish(&dead.publisher(), "news", number).await;
        assert_eq!(member.next().await["push"]["pub"]["offset"], number);
    }
    drop(dead);
    script(&redis, FORGET, &["2"]);
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    publish(&other.publisher(), "news", 8).await;
    let push = member.next().await;
    assert_eq!(push["push"]["unsubscribe"]["code"], 2500, "{push}");
}
