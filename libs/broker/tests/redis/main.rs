//! What happens when Redis is not there, goes away, hangs, refuses or talks nonsense. Streams are in `streams`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod denied;
mod format;
mod loss;
mod ordered;
mod rollback;
mod sentinel;
mod streams;
mod tls;
mod waiting;

use std::{sync::Arc, time::Duration};

use common::{Listener, PATIENCE, channel, eventually, publication, publish};
use tidings_broker::{
    Broker, Error, Incoming, Publisher, Status, To,
    redis::{Config, RedisUrl},
    test_util::RedisServer,
};
use tokio::time::timeout;

/// A process' broker on `server`.
fn node(server: &RedisServer) -> Broker {
    Broker::redis(&server.config()).unwrap()
}

async fn up(broker: &Broker) {
    wait_for(broker, |status| *status == Status::Up).await;
}

/// Waits until the broker is known to be away, and returns why.
async fn away(broker: &Broker) -> String {
    let known = |status: &Status| match status {
        Status::Away { reason } => !reason.contains("not connected yet"),
        Status::Up => false,
    };
    match wait_for(broker, known).await {
        Status::Away { reason } => reason,
        Status::Up => unreachable!(),
    }
}

async fn wait_for(broker: &Broker, condition: impl FnMut(&Status) -> bool) -> Status {
    let mut status = broker.status();
    let status = timeout(PATIENCE, status.wait_for(condition))
        .await
        .expect("the status did not change");
    status.unwrap().clone()
}

/// Publishes and expects that it failed because Redis is away.
async fn cannot_publish(publisher: &Publisher) -> String {
    let results = publisher
        .publish(&[channel("a:1").into(), channel("a:2").into()], &publication("x"))
        .await;
    match results.as_slice() {
        [Err(Error::Away { reason: one }), Err(Error::Away { reason: two })] if one == two => one.clone(),
        other => panic!("{other:?}"),
    }
}

/// One command by a connection of its own.
async fn command(server: &RedisServer, command: &[&str]) -> redis::Value {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut cmd = redis::cmd(command[0]);
    cmd.arg(&command[1..]);
    cmd.query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn redis_that_is_away_at_start_is_joined_when_it_comes() {
    let Some(mut server) = RedisServer::reserve(&[]) else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    let subscribed = listener.subscriber.subscribe(&channel("tasks:1")).await;
    assert!(matches!(subscribed, Err(Error::Away { .. })), "{subscribed:?}");
    let reason = away(&broker).await;
    assert!(reason.contains(&server.url()), "{reason}");
    cannot_publish(&broker.publisher()).await;

    server.up();
    up(&broker).await;
    publish(&broker.publisher(), "tasks:1", "hello").await;
    assert_eq!(listener.next().await, Incoming::Gap);
    assert_eq!(listener.hear().await.1, "hello");
}

#[tokio::test]
async fn a_process_that_only_publishes_knows_that_redis_is_away() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    up(&broker).await;
    server.kill();
    away(&broker).await;
    cannot_publish(&broker.publisher()).await;
    server.up();
    up(&broker).await;
    publish(&broker.publisher(), "tasks:1", "hello").await;
}

#[tokio::test]
async fn interest_survives_a_restart_of_redis_and_the_gap_is_told_once() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    for n in 0..1200 {
        listener.subscribe(&format!("tasks:{n}")).await;
    }
    listener.subscribe("forgotten:1").await;

    server.kill();
    away(&broker).await;
    listener.unsubscribe("forgotten:1").await;
    let late = listener.subscriber.subscribe(&channel("late:1")).await;
    assert!(matches!(late, Err(Error::Away { .. })), "{late:?}");

    server.up();
    up(&broker).await;
    assert_eq!(listener.next().await, Incoming::Gap);
    let publisher = broker.publisher();
    publish(&publisher, "forgotten:1", "x").await;
    for name in ["tasks:0", "tasks:700", "tasks:1199", "late:1"] {
        publish(&publisher, name, "hello").await;
        assert_eq!(listener.hear().await.0, name);
    }
    listener.assert_silent(&publisher).await;
}

#[tokio::test]
async fn a_node_listens_again_after_a_restart_of_redis() {
    let Some(mut server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    listener.subscriber.listen(To::Node("here")).await.unwrap();
    server.kill();
    away(&broker).await;
    let late = listener.subscriber.listen(To::All).await;
    assert!(matches!(late, Err(Error::Away { .. })), "{late:?}");
    let told = broker.publisher().tell(To::All, &"lost".into()).await;
    assert!(matches!(told, Err(Error::Away { .. })), "{told:?}");

    server.up();
    up(&broker).await;
    assert_eq!(listener.next().await, Incoming::Gap);
    for to in [To::Node("here"), To::All] {
        assert_eq!(broker.publisher().tell(to, &"word".into()).await.unwrap(), 1);
        assert_eq!(listener.next().await, Incoming::Control("word".into()));
    }
}

#[tokio::test]
async fn the_loss_of_the_bus_connection_alone_is_noticed_and_repaired() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    command(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(listener.next().await, Incoming::Gap);
    up(&broker).await;
    publish(&broker.publisher(), "tasks:1", "hello").await;
    assert_eq!(listener.hear().await.1, "hello");
}

#[tokio::test]
async fn redis_that_hangs_without_a_word_is_noticed() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let command_timeout = Duration::from_secs(1);
    let broker = Broker::redis(&Config {
        command_timeout,
        ..server.config()
    })
    .unwrap();
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    up(&broker).await;

    server.pause();
    let publisher = broker.publisher();
    cannot_publish(&publisher).await; // not known yet: within the command timeout
    away(&broker).await;
    cannot_publish(&publisher).await; // known: at once
    let late = listener.subscriber.subscribe(&channel("late:1")).await;
    assert!(matches!(late, Err(Error::Away { .. })), "{late:?}");

    server.resume();
    up(&broker).await;
    loop {
        // What was published while nobody knew may have been kept for later by the kernel.
        if listener.next().await == Incoming::Gap {
            break;
        }
    }
    publish(&publisher, "late:1", "hello").await;
    assert_eq!(listener.hear().await.1, "hello");
}

#[tokio::test]
async fn a_wrong_password_is_the_reason_and_is_not_repeated() {
    let Some(server) = RedisServer::start_with(&["--requirepass", "right"]) else {
        return;
    };
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let broker = Broker::redis(&Config::new(RedisUrl::parse(&url).unwrap())).unwrap();
    let reason = away(&broker).await;
    let why = cannot_publish(&broker.publisher()).await;
    for text in [reason, why] {
        assert!(
            text.contains(&format!("redis://:***@127.0.0.1:{}", server.port())),
            "{text}"
        );
        assert!(text.contains("WRONGPASS"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_password_that_redis_repeats_is_not_shown() {
    let Some(server) =
        RedisServer::start_with(&["--requirepass", "hunter2", "--rename-command", "HELLO", ""])
    else {
        return;
    };
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let broker = Broker::redis(&Config::new(RedisUrl::parse(&url).unwrap())).unwrap();
    let listener = Listener::new(&broker);
    let error = listener
        .subscriber
        .subscribe(&channel("tasks:1"))
        .await
        .unwrap_err();
    for text in [away(&broker).await, error.to_string(), format!("{error:?}")] {
        assert!(text.contains("unknown command 'HELLO'"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn what_redis_does_not_allow_is_refused_channel_by_channel() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    command(
        &server,
        &[
            "ACL",
            "SETUSER",
            "default",
            "resetchannels",
            "&tidings:ch:{open:*",
        ],
    )
    .await;
    listener.subscribe("open:1").await;
    let refused = listener.subscriber.subscribe(&channel("closed:1")).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");

    let targets = [channel("closed:1").into(), channel("open:1").into()];
    let results = broker.publisher().publish(&targets, &publication("hello")).await;
    assert!(
        matches!(results.as_slice(), [Err(Error::Refused { .. }), Ok(_)]),
        "{results:?}"
    );
    assert_eq!(listener.hear().await.1, "hello");

    // What was refused is not wanted: it does not stand in the way of a new connection.
    command(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(listener.next().await, Incoming::Gap);
    up(&broker).await;
}

#[tokio::test]
async fn a_channel_that_redis_does_not_allow_keeps_no_other_off_the_bus() {
    let acl = "default on nopass ~* +@all resetchannels &tidings:ch:{ok*";
    let mut arguments = vec!["--user"];
    arguments.extend(acl.split(' '));
    let Some(mut server) = RedisServer::reserve(&arguments) else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    for name in ["ok:1", "no:1", "ok:2", "no:2", "ok:3"] {
        let subscribed = listener.subscriber.subscribe(&channel(name)).await;
        assert!(matches!(subscribed, Err(Error::Away { .. })), "{subscribed:?}");
    }
    server.up();
    assert_eq!(listener.next().await, Incoming::Gap);
    up(&broker).await;
    for name in ["ok:1", "ok:2", "ok:3"] {
        publish(&broker.publisher(), name, "hello").await;
        assert_eq!(listener.hear().await.0, name);
    }

    let (late, names) = (&listener.subscriber, ["ok:4", "no:4", "ok:5"].map(channel));
    let subscribed = tokio::join!(
        late.subscribe(&names[0]),
        late.subscribe(&names[1]),
        late.subscribe(&names[2])
    );
    assert!(
        matches!(subscribed, (Ok(()), Err(Error::Refused { .. }), Ok(()))),
        "{subscribed:?}"
    );
}

#[tokio::test]
async fn what_is_no_envelope_is_skipped() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let mut listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    for nonsense in ["", "{}", "\u{0}\u{1}\u{2}", "publication"] {
        command(&server, &["PUBLISH", "tidings:ch:{tasks:1}", nonsense]).await;
    }
    publish(&broker.publisher(), "tasks:1", "hello").await;
    assert_eq!(listener.hear().await.1, "hello");
}

#[tokio::test]
async fn prefixes_keep_installations_apart() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let [ours, theirs] = ["ours", "theirs"].map(|prefix| {
        let prefix = prefix.to_owned();
        Broker::redis(&Config {
            prefix,
            ..server.config()
        })
        .unwrap()
    });
    let mut listener = Listener::new(&ours);
    listener.subscribe("tasks:1").await;
    publish(&theirs.publisher(), "tasks:1", "not for us").await;
    listener.assert_silent(&ours.publisher()).await;
    assert_eq!(ours.prefix(), Some("ours"));
}

#[tokio::test]
async fn a_subscriber_that_is_dropped_leaves_the_bus_and_a_broker_leaves_redis() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let listener = Listener::new(&broker);
    listener.subscribe("tasks:1").await;
    publish(&broker.publisher(), "tasks:1", "hello").await;
    let clients = async |kind: &str| {
        let list = command(&server, &["CLIENT", "LIST", "TYPE", kind]).await;
        redis::from_redis_value::<String>(list).unwrap().lines().count()
    };
    assert_eq!(clients("pubsub").await, 1);
    drop(listener);
    eventually(async || clients("pubsub").await == 0).await;
    up(&broker).await;
    drop(broker);
    eventually(async || clients("normal").await == 1).await; // who asks
}

#[tokio::test]
async fn a_sink_that_panics_harms_nobody_for_long() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = node(&server);
    let panics = broker.subscriber(Arc::new(|incoming| assert!(incoming == Incoming::Gap, "a bug")));
    let mut listener = Listener::new(&broker);
    panics.subscribe(&channel("tasks:1")).await.unwrap();
    listener.subscribe("tasks:1").await;
    publish(&broker.publisher(), "tasks:1", "hello").await;
    assert_eq!(listener.hear().await.1, "hello");
    away(&broker).await;
    up(&broker).await;
}

/// The server's certificate has to be trusted by the whole process, so the client's half runs in a process of its own.
#[tokio::test]
async fn redis_is_reached_over_tls() {
    const PORT: &str = "TIDINGS_TEST_TLS_PORT";
    if let Some(port) = std::env::var_os(PORT) {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .unwrap();
        let port = port.into_string().unwrap().parse().unwrap();
        let url = RedisUrl::from_parts("localhost", port, None, None, 0, true).unwrap();
        let broker = Broker::redis(&Config::new(url)).unwrap();
        let mut listener = Listener::new(&broker);
        listener.subscribe("tasks:1").await;
        publish(&broker.publisher(), "tasks:1", "hello").await;
        assert_eq!(listener.hear().await.1, "hello");
        return;
    }
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");
    let (certificate, key) = (
        format!("{directory}/certificate.pem"),
        format!("{directory}/key.pem"),
    );
    let mut tls = vec![
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ];
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    tls.extend(["--tls-port", &port]);
    let Some(_server) = RedisServer::start_with(&tls) else {
        return;
    };
    let client = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "redis_is_reached_over_tls"])
        .env(PORT, port)
        .env("SSL_CERT_FILE", certificate)
        .status();
    assert!(client.unwrap().success());
}
