//! Which format nodes speak: of their messages on the bus, and of what they keep in Redis. `{prefix}:format` says it, set by the
//! first node that comes. A node that speaks another format uses nothing of that Redis, and says why, until the key says its own.

use std::sync::{Arc, Weak};

use redis::{Cmd, Value};
use tokio::time::{Duration, sleep};
use tracing::error;

use super::{Bus, commands::Ask, link::backoff, metrics::Kind};
use crate::{Error, FORMAT};

/// How often the key is looked at, beside each new connection.
const INTERVAL: Duration = Duration::from_secs(30);

/// The key of a prefix.
pub(super) fn key(prefix: &str) -> String {
    format!("{prefix}:format")
}

/// Why a node cannot use a Redis whose nodes speak the format `found`.
pub(super) fn mismatch(peer: &str, prefix: &str, found: &str) -> String {
    let found: String = found.chars().take(20).collect();
    format!(
        "the nodes that use {peer} with the prefix {prefix:?} speak format {found}, and this version of Tidings speaks \
         format {FORMAT}: run one version at a time, or give this node a redis.prefix of its own; if no node of the other \
         version runs any more, delete the key {prefix}:format, and with it all that begins with {prefix}:"
    )
}

/// Looks at the key now and then, and after each new connection. Runs until the bus is dropped.
pub(super) async fn run(bus: Weak<Bus>) {
    let Some(connected) = bus.upgrade().map(|bus| bus.connected.clone()) else {
        return;
    };
    let mut delays = backoff();
    loop {
        let Some(now) = bus.upgrade() else { return };
        // A new connection is known of before others can be had.
        let wait = match look(&now).await {
            Ok(found) => {
                settle(&now, found.as_deref());
                delays = backoff();
                INTERVAL
            }
            Err(_) => delays.next().unwrap_or(INTERVAL),
        };
        drop(now);
        tokio::select! {
            () = connected.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

/// What the key says, after it was set where there was none.
async fn look(bus: &Bus) -> Result<Option<String>, Error> {
    let key = key(bus.prefix());
    let commands = [
        redis::cmd("SET").arg(&key).arg(FORMAT).arg("NX").to_owned(),
        redis::cmd("GET").arg(&key).to_owned(),
    ];
    let ask = Ask {
        count: commands.len(),
        ..Ask::one(Kind::Read, 0)
    };
    let command = |index: usize, _: super::Call<'_>| -> Cmd { commands[index].clone() };
    let mut answers = bus.servers.ask(ask, |_| key.as_str(), command).await;
    let answer: Value = answers.pop().expect("there is an answer to each command")?;
    bus.understand(answer, redis::from_redis_value)
}

fn settle(bus: &Arc<Bus>, found: Option<&str>) {
    let other = found.filter(|found| *found != FORMAT.to_string());
    let reason = other.map(|found| mismatch(bus.peer(), bus.prefix(), found));
    if bus.health.refuse(reason.clone())
        && let Some(reason) = reason
    {
        error!(reason, "this node uses nothing of Redis");
    }
}
