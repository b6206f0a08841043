//! The order in which one node publishes a stream, whatever fails on the way.

use std::{collections::BTreeMap, time::Duration};

use tidings_tests::{Client as Reader, Redis, Tidings, eventually, token};
use tokio::time::Instant;

use crate::stream::{STREAM, Stream, config, config_of, node, numbers};

/// A client of several channels.
async fn reader(node: &Tidings, channels: &[&str]) -> Reader {
    let mut reader = Reader::connect(&node.websocket(), &token("ada")).await;
    for channel in channels {
        reader.subscribe(channel).await;
    }
    reader
}

/// Adds an event with this number for a channel.
async fn add(stream: &mut Stream, channel: &str, number: u64) {
    let (channels, data) = (format!("[\"{channel}\"]"), number.to_string());
    stream
        .add(&[("type", "task.created"), ("channels", &channels), ("data", &data)])
        .await;
}

/// Receives so many publications: the numbers of each channel.
async fn by_channel(reader: &mut Reader, count: usize) -> BTreeMap<String, Vec<u64>> {
    let mut received = BTreeMap::<String, Vec<u64>>::new();
    for _ in 0..count {
        let (channel, event) = reader.hear().await;
        received
            .entry(channel)
            .or_default()
            .push(event["data"].as_u64().unwrap());
    }
    received
}

#[track_caller]
fn assert_in_order(received: &BTreeMap<String, Vec<u64>>) {
    for (channel, numbers) in received {
        let wrong = numbers.windows(2).filter(|pair| pair[0] >= pair[1]).count();
        assert_eq!(
            wrong,
            0,
            "of {} in {channel} are out of order: {numbers:?}",
            numbers.len()
        );
    }
}

/// Lets nodes publish to these channels alone: others have a key that they may not use. Subscriptions stay as they are.
async fn allow(stream: &mut Stream, channels: &[&str]) {
    let mut acl = vec![
        "ACL",
        "SETUSER",
        "default",
        "resetkeys",
        "~[^t]*",
        "~tidings:[^o]*",
    ];
    let names: Vec<_> = channels
        .iter()
        .map(|channel| format!("~tidings:once:{{{channel}}}*"))
        .collect();
    acl.extend(names.iter().map(String::as_str));
    let _: String = stream.run(&acl).await;
}

const CHANNELS: [&str; 3] = ["tasks:1", "tasks:2", "tasks:3"];

#[tokio::test]
async fn a_stream_is_published_in_its_order() {
    let Some(redis) = Redis::start() else { return };
    let node = node(&redis, &config("")).await;
    let mut reader = reader(&node, &CHANNELS).await;
    let mut stream = Stream::of(&redis).await;
    for number in 0..3000 {
        add(&mut stream, CHANNELS[number as usize % 3], number).await;
    }
    assert_in_order(&by_channel(&mut reader, 3000).await);
    stream.settled().await;
}

#[tokio::test]
async fn a_stream_is_published_once_in_its_order_though_connections_and_scripts_are_lost() {
    let (Some(bus), Some(source)) = (Redis::start(), Redis::start()) else {
        return;
    };
    let own = format!("url = \"{}\"", source.url());
    let node = node(&bus, &config(&own)).await;
    let mut reader = reader(&node, &CHANNELS).await;
    let (mut stream, mut bus) = (Stream::of(&source).await, Stream::of(&bus).await);
    for number in 0..3000 {
        add(&mut stream, CHANNELS[number as usize % 3], number).await;
        match number % 500 {
            100 => bus.run(&["SCRIPT", "FLUSH"]).await,
            200 => drop(
                bus.run::<redis::Value>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
                    .await,
            ),
            300 => drop(
                stream
                    .run::<redis::Value>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
                    .await,
            ),
            _ => {}
        }
    }
    assert_in_order(&by_channel(&mut reader, 3000).await);
    stream.settled().await;
    // Whatever was delivered twice would come before this.
    add(&mut stream, "tasks:1", 3000).await;
    assert_eq!(numbers(&mut reader, 1).await, [3000]);
}

#[tokio::test]
async fn a_refused_channel_holds_up_itself_alone_however_many_entries_wait_and_then_keeps_its_order() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    let node = node(&redis, &config("attempts = 1000")).await;
    let mut reader = reader(&node, &["tasks:1", "tasks:2"]).await;
    allow(&mut stream, &["tasks:1"]).await;
    for number in 0..1500 {
        add(&mut stream, "tasks:2", number).await;
    }
    for number in 0..50 {
        add(&mut stream, "tasks:1", number).await;
    }
    let received = by_channel(&mut reader, 50).await;
    assert_eq!(received.keys().collect::<Vec<_>>(), ["tasks:1"]);
    assert_in_order(&received);
    allow(&mut stream, &["tasks:1", "tasks:2"]).await;
    let received = by_channel(&mut reader, 1500).await;
    assert_eq!(received.keys().collect::<Vec<_>>(), ["tasks:2"]);
    assert_in_order(&received);
    stream.settled().await;
}

#[tokio::test]
async fn entries_behind_one_that_is_dead_lettered_go_on_in_order() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    let node = node(&redis, &config("attempts = 2")).await;
    let mut reader = reader(&node, &["tasks:1"]).await;
    allow(&mut stream, &["tasks:1"]).await;
    // The first is for a channel that refuses it, too: it holds up the channel of the others until it is dead-lettered.
    stream
        .add(&[
            ("type", "task.created"),
            ("channels", r#"["tasks:9"]"#),
            ("data", "0"),
        ])
        .await;
    for number in 1..20 {
        add(
            &mut stream,
            if number % 4 == 0 { "tasks:9" } else { "tasks:1" },
            number,
        )
        .await;
    }
    let received = by_channel(&mut reader, 15).await;
    assert_in_order(&received);
    let aside = stream.aside(5).await;
    let numbers: Vec<_> = aside.iter().map(|entry| entry["data"].as_str()).collect();
    assert_eq!(numbers, ["0", "4", "8", "12", "16"], "one after the other");
    stream.settled().await;
}

#[tokio::test]
async fn a_node_that_starts_publishes_what_a_dead_one_had_before_what_is_new() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    let _: String = stream
        .run(&["XGROUP", "CREATE", STREAM, "tidings", "0", "MKSTREAM"])
        .await;
    for number in 0..5 {
        add(&mut stream, "tasks:1", number).await;
    }
    let read = ["XREADGROUP", "GROUP", "tidings", "dead", "STREAMS", STREAM, ">"];
    let _: redis::Value = stream.run(&read).await;
    for number in 5..10 {
        add(&mut stream, "tasks:1", number).await;
    }
    let node = node(&redis, &config_of("", "claim_after = \"12s\"")).await;
    let mut reader = reader(&node, &["tasks:1"]).await;
    assert_eq!(numbers(&mut reader, 10).await, (0..10).collect::<Vec<_>>());
    assert_eq!(node.metric("tidings_source_claimed_total").await, 5.0);
    stream.settled().await;
}

#[tokio::test]
async fn an_entry_whose_delivery_got_lost_with_its_connection_is_published_in_its_place() {
    let (Some(bus), Some(source)) = (Redis::start(), Redis::start()) else {
        return;
    };
    let own = format!("url = \"{}\"\nclaim_after = \"10m\"", source.url());
    let node = node(&bus, &config(&own)).await;
    let mut reader = reader(&node, &["tasks:1"]).await;
    let mut stream = Stream::of(&source).await;
    add(&mut stream, "tasks:1", 0).await;
    assert_eq!(numbers(&mut reader, 1).await, [0]);
    stream.settled().await;
    // As if Redis had given the second entry to the node, and the node had not received it.
    let client = redis::Client::open(source.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let consumers: Vec<BTreeMap<String, redis::Value>> =
        stream.run(&["XINFO", "CONSUMERS", STREAM, "tidings"]).await;
    let consumer: String = redis::from_redis_value(consumers[0]["name"].clone()).unwrap();
    let mut lost = redis::pipe();
    let add_command = lost.atomic().cmd("XADD").arg(STREAM).arg("*");
    add_command.arg(&["type", "task.created", "channels", r#"["tasks:1"]"#, "data", "1"]);
    let read = lost.cmd("XREADGROUP").arg("GROUP").arg("tidings").arg(&consumer);
    read.arg("STREAMS").arg(STREAM).arg(">");
    let kill = lost.cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal");
    kill.arg("SKIPME").arg("yes");
    let _: redis::Value = lost.query_async(&mut connection).await.unwrap();
    let mut stream = Stream::of(&source).await;
    for number in 2..10 {
        add(&mut stream, "tasks:1", number).await;
    }
    assert_eq!(numbers(&mut reader, 9).await, (1..10).collect::<Vec<_>>());
    stream.settled().await;
}

#[tokio::test]
async fn an_entry_that_is_put_back_from_the_dead_letters_reaches_only_the_channels_that_missed_it() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    let node = node(&redis, &config("attempts = 1")).await;
    let mut reader = reader(&node, &["tasks:1", "tasks:2"]).await;
    allow(&mut stream, &["tasks:1"]).await;
    stream
        .add(&[
            ("type", "task.created"),
            ("channels", r#"["tasks:1","tasks:2"]"#),
            ("data", "7"),
        ])
        .await;
    assert_eq!(reader.hear().await.0, "tasks:1");
    let dead = stream.aside(1).await.remove(0);
    allow(&mut stream, &["tasks:1", "tasks:2"]).await;
    let fields: Vec<_> = dead
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    stream.add(&fields).await;
    assert_eq!(reader.hear().await.0, "tasks:2");
    add(&mut stream, "tasks:1", 8).await;
    assert_eq!(
        numbers(&mut reader, 1).await,
        [8],
        "it was not delivered a second time"
    );
}

#[tokio::test]
async fn the_idempotency_window_of_a_source_is_a_day_or_what_is_configured() {
    let Some(redis) = Redis::start() else { return };
    let route =
        "[[route]]\nevent = \"order.*\"\nchannels = [\"tasks:{subject}\"]\nidempotency_key = \"{subject}\"\n";
    for (source, hours, round) in [("", 24, 0), ("idempotency_window = \"48h\"", 48, 1)] {
        let config = format!("{}\n{route}", config_of(source, ""));
        let node = node(&redis, &config).await;
        let mut stream = Stream::of(&redis).await;
        let id = format!("e{round}");
        add_with_id(&mut stream, &id).await;
        let subject = format!("s{round}");
        stream.add(&[("type", "order.paid"), ("subject", &subject)]).await;
        let keys: Vec<String> = eventually("both are published", async || {
            let mut stream = Stream::of(&redis).await;
            let keys: Vec<String> = stream.run(&["KEYS", "tidings:once:*"]).await;
            (keys.len() == 2 * (round + 1)).then_some(keys)
        })
        .await;
        let mut new = 0;
        for key in keys {
            let ttl: i64 = stream.run(&["PTTL", &key]).await;
            let hour = 60 * 60 * 1000;
            new += usize::from((hours * hour - hour..=hours * hour).contains(&ttl));
        }
        assert_eq!(new, 2, "the event's own key and the route's");
        drop(node);
    }
}

async fn add_with_id(stream: &mut Stream, id: &str) {
    stream
        .add(&[
            ("id", id),
            ("type", "task.created"),
            ("channels", r#"["tasks:1"]"#),
            ("data", "1"),
        ])
        .await;
}

#[tokio::test]
async fn a_stream_goes_on_within_moments_of_the_bus_coming_back() {
    let (Some(mut bus), Some(source)) = (Redis::start(), Redis::start()) else {
        return;
    };
    let own = format!("url = \"{}\"", source.url());
    let node = node(&bus, &config(&own)).await;
    let mut stream = Stream::of(&source).await;
    bus.kill();
    node.wait_for_status("/health/redis", 503).await;
    for number in 0..500 {
        add(&mut stream, "tasks:1", number).await;
    }
    let published = r#"tidings_source_events_total{source="jobs",result="published"}"#;
    eventually("it was tried for a while", async || {
        let retried = r#"tidings_source_events_total{source="jobs",result="retried"}"#;
        (node.metric(retried).await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(node.metric(published).await, 0.0);
    bus.up();
    let back = Instant::now();
    eventually("the first entry is published", async || {
        (node.metric(published).await > 0.0).then_some(())
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(20), "{:?}", back.elapsed());
    stream.settled().await;
    assert_eq!(node.metric(published).await, 500.0);
}
