//! What the user that we connect as may do: every command that a node uses, tried.

use redis::{Cmd, RedisError};

use super::{Findings, Kind, Server};
use crate::Error;

/// What a user needs beside `~tidings:*` and `&tidings:*`, or another prefix: all the commands that a node uses, as words
/// of `ACL SETUSER`. (`+role` only where there are Sentinels, and `+cluster|info +cluster|slots +spublish +ssubscribe
/// +sunsubscribe` only in a Cluster.)
pub const PERMISSIONS: &str = "+@connection +info +role +cluster|info +cluster|slots +spublish +ssubscribe +sunsubscribe +eval +evalsha +script|load +unwatch +publish +subscribe +unsubscribe \
    +time +scan +exists +del +get +set +pexpire +pexpireat +persist +pttl +hget +hmget +hset +hdel +hgetall +hincrby +hkeys \
    +hlen +hscan +hvals +xadd +xtrim +xrange +xrevrange +xlen +sadd +srem +sscan +smembers +srandmember +zadd +zrem +zscore +zrange +zrangebylex +zrangebyscore";

/// What is done to keys. No key has the type that a command is for, or there is none: an answer
/// that says so is as good as one that works.
const ON_KEYS: &[(&str, &[&str])] = &[
    ("EXISTS", &[]),
    ("GET", &[]),
    ("PTTL", &[]),
    ("PEXPIRE", &["1000"]),
    ("PEXPIREAT", &["1"]),
    ("PERSIST", &[]),
    ("SET", &["x", "PX", "1000"]),
    ("DEL", &[]),
    ("HSET", &["field", "1"]),
    ("HGET", &["field"]),
    ("HMGET", &["field"]),
    ("HGETALL", &[]),
    ("HKEYS", &[]),
    ("HLEN", &[]),
    ("HSCAN", &["0"]),
    ("HVALS", &[]),
    ("HINCRBY", &["field", "1"]),
    ("HDEL", &["field"]),
    ("XADD", &["NOMKSTREAM", "1-1", "field", "x"]),
    ("XTRIM", &["MAXLEN", "~", "1"]),
    ("XRANGE", &["-", "+", "COUNT", "1"]),
    ("XREVRANGE", &["+", "-", "COUNT", "1"]),
    ("XLEN", &[]),
    ("SADD", &["x"]),
    ("SMEMBERS", &[]),
    ("SRANDMEMBER", &[]),
    ("SSCAN", &["0"]),
    ("SREM", &["x"]),
    ("ZADD", &["1", "x"]),
    ("ZSCORE", &["x"]),
    ("ZRANGE", &["0", "0"]),
    ("ZRANGEBYSCORE", &["0", "1"]),
    ("ZRANGEBYLEX", &["-", "+"]),
    ("ZREM", &["x"]),
];

/// What has no key.
const WITHOUT_KEYS: &[(&str, &[&str])] = &[
    ("INFO", &["server"]),
    ("TIME", &[]),
    ("SCAN", &["0", "COUNT", "1"]),
    ("UNWATCH", &[]),
    ("EVAL", &["return 1", "0"]),
    ("EVALSHA", &["0000000000000000000000000000000000000000", "0"]),
    ("SCRIPT", &["LOAD", "return 1"]),
];

/// What is needed in a Cluster: its name, and what follows the name of a channel, where one does.
const IN_CLUSTER: &[(&str, Option<&[&str]>)] = &[
    ("CLUSTER|INFO", None),
    ("CLUSTER|SLOTS", None),
    ("SPUBLISH", Some(&[""])),
    ("SSUBSCRIBE", Some(&[])),
    ("SUNSUBSCRIBE", Some(&[])),
];

/// Tries everything, and says what is refused. A node of a Cluster that does not have a slot says so, which is no refusal.
pub(super) async fn examine(server: &mut Server, kind: Kind, found: &mut Findings) -> Result<(), Error> {
    let prefix = server.keys.prefix().to_owned();
    let key = format!("{prefix}:doctor:{{{}}}", tidings_core::ClientId::random());
    let mut missing = Vec::new();
    let with_key = ON_KEYS.iter().map(|(name, arguments)| {
        let mut command = redis::cmd(name);
        command.arg(&key).arg(*arguments);
        (*name, command)
    });
    let without_key = WITHOUT_KEYS.iter().map(|(name, arguments)| {
        let mut command = redis::cmd(name);
        command.arg(*arguments);
        (*name, command)
    });
    for (name, command) in with_key.chain(without_key).collect::<Vec<_>>() {
        server.attempt(name, &command, &mut missing).await?;
    }
    if kind == Kind::Watched {
        server.attempt("ROLE", &redis::cmd("ROLE"), &mut missing).await?;
    }
    let channel = format!("{prefix}:ch:{{doctor}}");
    if kind == Kind::InCluster {
        for (name, words) in IN_CLUSTER {
            let mut command = Cmd::new();
            command.arg(name.split('|').collect::<Vec<_>>());
            if words.is_some() {
                command.arg(&channel).arg(*words);
            }
            server.attempt(name, &command, &mut missing).await?;
        }
    } else {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&channel).arg("");
        server.attempt("PUBLISH", &publish, &mut missing).await?;
        let answer = server.connection.subscribe(&channel).await;
        server.note("SUBSCRIBE", answer, &mut missing)?;
        let answer = server.connection.unsubscribe(&channel).await;
        server.note("UNSUBSCRIBE", answer, &mut missing)?;
    }
    server.clean(&key).await;

    if missing.is_empty() {
        found.ok("the user may do all that is needed");
    } else {
        let mut keys: Vec<String> = Vec::new();
        for Missing { name, what } in &missing {
            keys.push(match what {
                What::Command => format!("+{}", name.to_lowercase()),
                What::Keys => format!("~{prefix}:* (for {name})"),
                What::Channels => format!("&{prefix}:* (for {name})"),
            });
        }
        keys.dedup();
        found.fail(format!(
            "the user may not do all that is needed; let the ACL have {}",
            keys.join(" ")
        ));
    }
    Ok(())
}

/// What the user lacks for a command.
struct Missing {
    name: &'static str,
    what: What,
}

enum What {
    Command,
    Keys,
    Channels,
}

impl Server {
    async fn attempt(
        &mut self,
        name: &'static str,
        command: &Cmd,
        missing: &mut Vec<Missing>,
    ) -> Result<(), Error> {
        let answer = command.exec_async(&mut self.connection).await;
        self.note(name, answer, missing)
    }

    fn note(
        &self,
        name: &'static str,
        answer: Result<(), RedisError>,
        missing: &mut Vec<Missing>,
    ) -> Result<(), Error> {
        match answer {
            Err(why) if why.code() == Some("NOPERM") => {
                let what = lacks(&why);
                missing.push(Missing { name, what });
                Ok(())
            }
            Err(why) if why.is_io_error() => Err(self.peer.error(&why)),
            // It was allowed.
            _ => Ok(()),
        }
    }

    async fn clean(&mut self, key: &str) {
        // It may not be allowed; what is left is one small key.
        let _ = redis::cmd("DEL").arg(key).exec_async(&mut self.connection).await;
    }
}

fn lacks(why: &RedisError) -> What {
    let said = why.detail().unwrap_or_default();
    if said.contains("channel") {
        What::Channels
    } else if said.contains(" key") && !said.contains("command") {
        What::Keys
    } else {
        What::Command
    }
}
