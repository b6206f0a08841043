//! `tidings doctor` and what it finds: real Redis, well and ill configured.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::TcpListener,
    num::NonZeroU32,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tidings_broker::{
    Broker, Once, Query, Target, Version,
    redis::{Config, RedisUrl},
    test_util::{Recorder, RedisServer},
};
use tidings_core::{Channel, Format, Publication, Retention};

/// Runs the doctor with `variables` in the environment: its exit code, and the lines that it prints.
fn doctor(variables: &[(&str, &str)]) -> (i32, Vec<String>) {
    let place = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command
        .arg("doctor")
        .current_dir(place.path())
        .stdin(Stdio::null())
        .env_clear();
    command
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    (
        output.status.code().unwrap(),
        lines.lines().map(str::to_owned).collect(),
    )
}

/// The lines of one verdict.
fn of(lines: &[String], verdict: &str) -> Vec<String> {
    let lines = lines.iter().filter(|line| line.starts_with(verdict));
    lines.cloned().collect()
}

/// A line of this verdict that has `part` in it.
fn assert_says(lines: &[String], verdict: &str, part: &str) {
    assert!(
        of(lines, verdict).iter().any(|line| line.contains(part)),
        "no {verdict} has {part:?}: {lines:#?}"
    );
}

fn cli(server: &RedisServer, words: &[&str]) {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &server.port().to_string()]).args(words);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!output.stdout.starts_with(b"ERR"), "{output:?}");
}

#[test]
fn a_redis_that_is_well_has_nothing_that_fails() {
    let Some(server) = RedisServer::start_with(&["--appendonly", "yes"]) else {
        return;
    };
    let (code, lines) = doctor(&[("REDIS_URL", &server.url())]);
    assert_eq!((code, of(&lines, "FAIL")), (0, vec![]), "{lines:#?}");
    for part in [
        "is reached",
        "a round trip takes",
        "it is Redis",
        "a primary without replicas",
        "noeviction",
        "append-only file",
        "its clock differs",
        "the user may do all that is needed",
    ] {
        assert_says(&lines, "OK", part);
    }
}

#[test]
fn nothing_is_left_behind() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    doctor(&[("REDIS_URL", &server.url())]);
    let mut command = Command::new("redis-cli");
    command.args(["-p", &server.port().to_string(), "KEYS", "*"]);
    let keys = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert_eq!(keys.trim(), "");
}

#[test]
fn a_redis_that_is_away_fails_by_its_address_without_its_password() {
    let (code, lines) = doctor(&[("REDIS_URL", "redis://me:hunter2@127.0.0.1:1")]);
    assert_eq!(code, 1);
    assert_says(&lines, "FAIL", "redis://me:***@127.0.0.1:1");
    assert!(!lines.concat().contains("hunter2"), "{lines:#?}");
}

#[test]
fn policies_that_evict_streams_fail() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    for policy in ["allkeys-lru", "volatile-ttl"] {
        cli(&server, &["CONFIG", "SET", "maxmemory-policy", policy]);
        let (code, lines) = doctor(&[("REDIS_URL", &server.url())]);
        assert_eq!(code, 1);
        assert_says(&lines, "FAIL", policy);
        assert_says(&lines, "FAIL", "set maxmemory-policy noeviction");
    }
}

#[test]
fn a_user_that_lacks_permissions_fails_with_each_by_name() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    cli(
        &server,
        &[
            "ACL",
            "SETUSER",
            "tidings",
            "on",
            ">secret",
            "~tidings:*",
            "&tidings:*",
            "+@all",
            "-xadd",
            "-subscribe",
            "-info",
        ],
    );
    let url = server.url().replace("redis://", "redis://tidings:secret@");
    let (code, lines) = doctor(&[("REDIS_URL", &url)]);
    assert_eq!(code, 1);
    assert_says(&lines, "FAIL", "let the ACL have +xadd +info +subscribe");

    cli(
        &server,
        &["ACL", "SETUSER", "tidings", "+@all", "resetkeys", "~other:*"],
    );
    let (_, lines) = doctor(&[("REDIS_URL", &url)]);
    assert_says(&lines, "FAIL", "~tidings:*");
    cli(
        &server,
        &[
            "ACL",
            "SETUSER",
            "tidings",
            "allkeys",
            "resetchannels",
            "&other:*",
        ],
    );
    let (_, lines) = doctor(&[("REDIS_URL", &url)]);
    assert_says(&lines, "FAIL", "&tidings:* (for PUBLISH)");
    assert_says(&lines, "FAIL", "&tidings:* (for SUBSCRIBE)");
}

/// The address of a server for a user with what is documented and no more.
fn documented(server: &RedisServer) -> String {
    let mut words = vec![
        "ACL",
        "SETUSER",
        "tidings",
        "on",
        ">secret",
        "~tidings:*",
        "&tidings:*",
    ];
    words.extend(tidings_broker::redis::PERMISSIONS.split_whitespace());
    cli(server, &words);
    server.url().replace("redis://", "redis://tidings:secret@")
}

#[test]
fn a_user_with_what_is_documented_and_no_more_may_do_all_that_is_needed() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let (code, lines) = doctor(&[("REDIS_URL", &documented(&server))]);
    assert_eq!(code, 0, "{lines:#?}");
    assert_says(&lines, "OK", "the user may do all that is needed");
}

/// What presence does has tests of its own, as such a user.
#[tokio::test]
async fn a_user_with_the_documented_permissions_may_publish_subscribe_and_read_streams() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let config = Config {
        url: Some(RedisUrl::parse(&documented(&server)).unwrap()),
        ..server.config()
    };
    let broker = Broker::redis(&config).unwrap();
    let recorder = Recorder::new(&broker, &["tasks"]).await;
    let channel = Channel::parse("tasks").unwrap();
    let retention = Retention {
        size: NonZeroU32::new(2).unwrap(),
        ttl: Duration::from_secs(600),
    };
    let target = |key: &str| Target {
        retention: Some(retention),
        once: Some(Once {
            key: key.into(),
            window: Duration::from_secs(600),
        }),
        version: Some(Version {
            number: 1,
            epoch: key.into(),
        }),
        ..channel.clone().into()
    };
    let publication = Publication::new("1".into(), Format::Json, SystemTime::UNIX_EPOCH);
    let publisher = broker.publisher();
    for key in ["one", "two", "three", "three"] {
        let mut published = publisher.publish(&[target(key)], &publication).await;
        published.remove(0).unwrap();
    }
    publisher
        .publish(&[channel.clone().into()], &publication)
        .await
        .remove(0)
        .unwrap();
    recorder.until(4).await;
    let streams = broker.streams();
    let query = Query {
        since: None,
        limit: 10,
        reverse: true,
        bytes: None,
    };
    let history = streams.read(&channel, retention, query, None).await.unwrap();
    assert_eq!(history.top.offset, 3);
    let positions = streams
        .positions(&[(&channel, Some(&history.top.clone().into()))])
        .await;
    assert_eq!(positions[0].as_ref().unwrap(), &history.top);
    streams.remove(&channel).await.unwrap();
}

#[test]
fn a_replica_fails_and_its_primary_is_named() {
    let (Some(primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else {
        return;
    };
    cli(&replica, &["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    let (code, lines) = doctor(&[("REDIS_URL", &replica.url())]);
    assert_eq!(code, 1);
    assert_says(
        &lines,
        "FAIL",
        &format!("use its primary 127.0.0.1:{}", primary.port()),
    );
}

#[test]
fn a_presence_that_is_away_fails_by_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let (code, lines) = doctor(&[("TIDINGS_PRESENCE__URL", &url)]);
    assert_eq!(code, 1);
    assert_says(&lines, "FAIL", &url);
}

#[test]
fn keys_that_cannot_be_fetched_fail() {
    let (code, lines) = doctor(&[("TIDINGS_CLIENTS__TOKEN__JWKS_URL", "http://127.0.0.1:1/jwks.json")]);
    assert_eq!(code, 1);
    assert_says(&lines, "FAIL", "clients.token.jwks_url");
}

#[test]
fn without_redis_there_is_nothing_to_fail() {
    let (code, lines) = doctor(&[]);
    assert_eq!(code, 0, "{lines:#?}");
    assert_says(&lines, "OK", "embedded broker");
}

/// Every command that is sent to Redis or called by a script, which Redis allows or not as if it had been sent.
#[test]
fn what_is_used_is_among_what_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let documented: Vec<_> = tidings_broker::redis::PERMISSIONS.split_whitespace().collect();
    let mut used = 0;
    for folder in [
        "libs/broker/src/redis",
        "libs/broker/src/redis/scripts",
        "services/presence/src/store/redis",
    ] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let begins = match path.extension().and_then(|extension| extension.to_str()) {
                Some("lua") => "redis.call('",
                Some("rs") => "cmd(\"",
                _ => continue,
            };
            let code = fs::read_to_string(&path).unwrap();
            assert!(
                !code.contains("Cmd::new()"),
                "{}: a command whose name is not written as cmd(\"…\") is not seen here",
                path.display()
            );
            for call in code.split(begins).skip(1) {
                let command = call.split(['\'', '"']).next().unwrap().to_lowercase();
                let permission = match command.as_str() {
                    "ping" | "asking" => "+@connection".to_owned(),
                    // What the examination of a Cluster tries are its subcommands.
                    "cluster" => "+cluster|slots".to_owned(),
                    "script" => "+script|load".to_owned(),
                    // It is not Redis who is asked.
                    "sentinel" => continue,
                    command => format!("+{command}"),
                };
                used += 1;
                assert!(
                    documented.contains(&permission.as_str()),
                    "{} uses {command}, and {permission} is not documented",
                    path.display()
                );
            }
        }
    }
    assert!(used >= 30, "what talks to Redis is elsewhere");
}
