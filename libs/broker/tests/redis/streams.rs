//! What becomes of streams when Redis loses them, and what they look like there.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use redis::{FromRedisValue, Value};
use tidings_broker::{
    Broker, Error, History, Once, Published, Query, Target, redis::Config, test_util::RedisServer,
};
use tidings_core::{Position, Retention};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{away, command, common, node, up};
use common::{Listener, channel, eventually, publication};

const PLENTY: Retention = Retention {
    size: NonZeroU32::new(1000).unwrap(),
    ttl: Duration::from_secs(600),
};

pub(crate) fn kept(name: &str) -> Target {
    Target {
        retention: Some(PLENTY),
        ..channel(name).into()
    }
}

pub(crate) async fn publish(broker: &Broker, target: Target) -> Result<Published, Error> {
    let results = broker.publisher().publish(&[target], &publication("hello")).await;
    results.into_iter().next().unwrap()
}

/// Publishes to `tasks:1`, and returns the place of the publication.
async fn place(broker: &Broker) -> Position {
    publish(broker, kept("tasks:1")).await.unwrap().position.unwrap()
}

async fn read(broker: &Broker) -> Result<History, Error> {
    let all = Query {
        limit: 1000,
        ..Query::default()
    };
    broker
        .streams()
        .read(&channel("tasks:1"), PLENTY, all, None)
        .await
}

pub(crate) async fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    redis::from_redis_value(command(server, words).await).unwrap()
}

#[tokio::test]
async fn a_stream_of_which_anything_was_lost_begins_anew() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let (top, stream) = ("tidings:top:{tasks:1}", "tidings:stream:{tasks:1}");
    for lost in [vec![top], vec![stream], vec![top, stream]] {
        let lose = async || {
            for _ in 0..3 {
                place(&broker).await;
            }
            let before = read(&broker).await.unwrap().top;
            for key in &lost {
                command(&server, &["DEL", key]).await;
            }
            before
        };
        let before = lose().await;
        let after = place(&broker).await;
        assert_eq!(after.offset, 1, "{lost:?}");
        assert_ne!(after.epoch, before.epoch, "{lost:?}");
        let History {
            publications, top, ..
        } = read(&broker).await.unwrap();
        assert_eq!((publications.len(), top), (1, after), "{lost:?}");

        let before = lose().await;
        let History {
            publications, top, ..
        } = read(&broker).await.unwrap();
        assert!(publications.is_empty(), "{lost:?}");
        assert_eq!(top.offset, 0, "{lost:?}");
        assert_ne!(top.epoch, before.epoch, "{lost:?}");
        let now = place(&broker).await;
        assert_eq!(now.offset, 1, "{lost:?}");
        assert!(top.is_provisional() || top.epoch == now.epoch, "{lost:?}");
    }
}

/// Redis' own clock decides when entries are too old, so time has to pass.
#[tokio::test]
async fn what_is_published_after_an_eviction_is_kept_whenever_the_evicted_stream_was_trimmed_last() {
    let brief = Retention {
        ttl: Duration::from_secs(1),
        ..PLENTY
    };
    for read_first in [false, true] {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let broker = node(&server);
        let kept = || Target {
            retention: Some(brief),
            ..channel("tasks:1").into()
        };
        let published = async || publish(&broker, kept()).await.unwrap().position.unwrap();
        for _ in 0..10 {
            published().await;
        }
        tokio::time::sleep(brief.ttl * 3 / 4).await;
        published().await;
        tokio::time::sleep(brief.ttl / 2).await;
        command(&server, &["DEL", "tidings:stream:{tasks:1}"]).await;
        if read_first {
            assert_eq!(read(&broker).await.unwrap().top.offset, 0);
        }
        let after = published().await;
        let History {
            publications, top, ..
        } = read(&broker).await.unwrap();
        assert_eq!((publications.len(), top), (1, after), "read first: {read_first}");
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_has_another_epoch() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    let before = place(&broker).await;
    assert_eq!(listener.hear_position().await.1, before);
    server.kill();
    away(&broker).await;
    assert!(matches!(
        publish(&broker, kept("tasks:1")).await,
        Err(Error::Away { .. })
    ));
    assert!(matches!(read(&broker).await, Err(Error::Away { .. })));

    server.up();
    up(&broker).await;
    let after = place(&broker).await;
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_sent_again() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    for offset in 1..=3 {
        assert_eq!(place(&broker).await.offset, offset);
        command(&server, &["SCRIPT", "FLUSH"]).await;
        let targets: Vec<_> = (0..600).map(|n| kept(&format!("other:{n}"))).collect();
        for result in broker.publisher().publish(&targets, &publication("hello")).await {
            assert_eq!(result.unwrap().position.unwrap().offset, offset);
        }
        command(&server, &["SCRIPT", "FLUSH"]).await;
        assert_eq!(read(&broker).await.unwrap().top.offset, offset);
        command(&server, &["SCRIPT", "FLUSH"]).await;
        for position in broker
            .streams()
            .positions(&[(&channel("tasks:1"), None), (&channel("other:599"), None)])
            .await
        {
            assert_eq!(position.unwrap().offset, offset);
        }
    }
}

#[tokio::test]
async fn what_is_kept_can_be_read_with_redis_cli() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    place(&broker).await;
    let once = Target {
        once: Some(Once::new("event-7")),
        ..kept("tasks:1")
    };
    let Position { epoch, .. } = publish(&broker, once).await.unwrap().position.unwrap();

    let mut keys: Vec<String> = ask(&server, &["KEYS", "*"]).await;
    keys.retain(|key| key != "tidings:format");
    keys.sort();
    let [answer, stream, top] = &keys[..] else {
        panic!("{keys:?}");
    };
    assert_eq!(answer, "tidings:once:{tasks:1}:event-7");
    assert_eq!(stream, "tidings:stream:{tasks:1}");
    assert_eq!(top, "tidings:top:{tasks:1}");

    assert_eq!(
        ask::<String>(&server, &["GET", answer]).await,
        format!("2:{epoch}")
    );
    let known: Vec<String> = ask(&server, &["HMGET", top, "offset", "epoch"]).await;
    assert_eq!(known, ["2", &epoch]);
    type Entry = (String, (String, Value));
    let entries: Vec<Entry> = ask(&server, &["XRANGE", stream, "-", "+"]).await;
    for (number, (id, (field, _))) in entries.iter().enumerate() {
        assert!(id.starts_with(&format!("{}-1", number + 1)), "{id}"); // a time since 2001
        assert_eq!(field, "publication");
    }
    assert_eq!(entries.len(), 2);

    let expires = async |key| ask::<u64>(&server, &["PTTL", key]).await;
    let day = 24 * 60 * 60 * 1000;
    assert!((299_000..=300_000).contains(&expires(answer).await));
    assert!((1_199_000..=1_200_000).contains(&expires(stream).await));
    assert!((day + 1_199_000..=day + 1_200_000).contains(&expires(top).await));
}

#[tokio::test]
async fn a_stream_that_is_asked_for_is_remembered_for_another_day() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let expires = async || ask::<i64>(&server, &["PTTL", "tidings:top:{tasks:1}"]).await;
    let asked = place(&broker).await;
    assert!(expires().await > 23 * 60 * 60 * 1000);
    command(&server, &["PEXPIRE", "tidings:top:{tasks:1}", "60000"]).await;
    assert_eq!(
        broker
            .streams()
            .positions(&[(&channel("tasks:1"), None)])
            .await
            .remove(0)
            .unwrap(),
        asked
    );
    assert!(
        expires().await > 23 * 60 * 60 * 1000,
        "asking for it is reason to remember it"
    );
}

#[tokio::test]
async fn redis_keeps_little_more_than_the_limits_allow() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let length = async || ask::<u64>(&server, &["XLEN", "tidings:stream:{tasks:1}"]).await;
    let fill = async |retention, count| {
        let target = Target {
            retention: Some(retention),
            ..kept("tasks:1")
        };
        let targets = vec![target; count];
        for result in broker.publisher().publish(&targets, &publication("hello")).await {
            result.unwrap();
        }
    };
    let ten = Retention {
        size: NonZeroU32::new(10).unwrap(),
        ..PLENTY
    };
    fill(ten, 1000).await;
    assert!(length().await <= 110);

    // By age: however large, and however busy, it does not grow for ever.
    let short = Retention {
        size: NonZeroU32::MAX,
        ttl: Duration::from_millis(50),
    };
    eventually(async || {
        let before = length().await;
        fill(short, 200).await;
        length().await < before
    })
    .await;
    let expires = ask::<i64>(&server, &["PTTL", "tidings:stream:{tasks:1}"]).await;
    assert!(expires <= 100, "it expires as the last publish says");
}

#[tokio::test]
async fn a_publish_asks_redis_for_nothing_else() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    place(&broker).await;
    let mut monitor = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    monitor.write_all(b"MONITOR\r\n").await.unwrap();
    let mut commands = BufReader::new(monitor).lines();
    assert_eq!(commands.next_line().await.unwrap().as_deref(), Some("+OK"));
    for _ in 0..200 {
        place(&broker).await;
    }
    command(&server, &["ECHO", "the end"]).await;
    // Publishes are calls of a script that is told by which command to publish. What the node asks for its own upkeep is a matter of time, not of
    // publishes.
    let (mut publishes, mut others) = (0, Vec::new());
    loop {
        let line = commands.next_line().await.unwrap().expect("Redis goes on");
        if line.contains("\"the end\"") {
            break;
        }
        let is_publish = |line: &str| {
            line.contains("\"EVALSHA\"") && line.contains("\"PUBLISH\" \"tidings:ch:{tasks:1}\"")
        };
        if is_publish(&line) {
            publishes += 1;
        } else if !line.contains(" lua] ") {
            others.push(line);
        }
    }
    assert_eq!(publishes, 200);
    assert!(
        others.len() < 50,
        "{} other commands for 200 publishes: {others:#?}",
        others.len()
    );
}

#[tokio::test]
async fn the_smallest_pool_is_enough_for_everything() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&Config {
        pool_size: NonZeroUsize::MIN,
        ..server.config()
    })
    .unwrap();
    place(&broker).await;
    read(&broker).await.unwrap();
    let mut connection = broker.redis_pool().unwrap().get().await.unwrap();
    redis::cmd("PING").exec_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_closed_costs_no_more_than_what_was_under_way() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    for _ in 0..3 {
        place(&broker).await;
        let clients: String = ask(&server, &["CLIENT", "LIST"]).await;
        let client = clients
            .lines()
            .find(|line| line.contains("cmd=evalsha") || line.contains("cmd=eval "));
        let id = client.unwrap().split([' ', '=']).nth(1).unwrap();
        command(&server, &["CLIENT", "KILL", "ID", id]).await;
        match publish(&broker, kept("tasks:1")).await {
            Ok(_) | Err(Error::Away { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    place(&broker).await;
}

#[tokio::test]
async fn what_others_put_there_is_an_error_that_says_so() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    place(&broker).await;
    let text = |error: Error| error.to_string();

    command(
        &server,
        &[
            "XADD",
            "tidings:stream:{tasks:1}",
            "9-7",
            "publication",
            "nonsense",
        ],
    )
    .await;
    command(&server, &["HSET", "tidings:top:{tasks:1}", "offset", "9"]).await;
    let error = text(read(&broker).await.unwrap_err());
    assert!(error.contains(&server.url()) && error.contains("9-7"), "{error}");

    command(&server, &["HSET", "tidings:top:{tasks:1}", "offset", "1"]).await;
    assert!(matches!(
        publish(&broker, kept("tasks:1")).await,
        Err(Error::Refused { .. })
    ));

    command(&server, &["SET", "tidings:top:{tasks:1}", "1"]).await;
    for error in [
        publish(&broker, kept("tasks:1")).await.unwrap_err(),
        read(&broker).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(text(error).contains("WRONGTYPE"));
    }
    command(&server, &["SET", "tidings:once:{tasks:2}:7", "nonsense"]).await;
    let once = Target {
        once: Some(Once::new("7")),
        ..kept("tasks:2")
    };
    let error = publish(&broker, once).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
}

#[tokio::test]
async fn a_redis_that_refuses_writes_publishes_nothing_that_a_repeat_would_publish_again() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    let mut listener = Listener::new(&broker);
    listener.subscribe("n:1").await;
    let target = Target {
        once: Some(Once::new("an event")),
        ..Target::from(channel("n:1"))
    };
    let publish = async || {
        let targets = [target.clone()];
        broker
            .publisher()
            .publish(&targets, &publication("x"))
            .await
            .remove(0)
    };
    command(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    for _ in 0..5 {
        assert!(publish().await.is_err(), "it is full");
    }
    command(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(!publish().await.unwrap().duplicate);
    assert_eq!(listener.hear().await.1, "x");
    assert!(listener.drain().is_empty(), "it was published once");
}
