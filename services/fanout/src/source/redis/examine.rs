//! `tidings doctor`: can the stream be read, its group joined, and entries be set aside?

use redis::{aio::MultiplexedConnection, cmd};
use tidings_broker::redis::{Finding, Pool, Verdict};

use super::{Config, place::Place};

/// What is asked of a user of Redis for a source.
const PERMISSIONS: &str =
    "+xgroup +xreadgroup +xautoclaim +xclaim +xpending +xack +xadd +multi +exec +hello +client";

/// Looks at a source's Redis without changing anything. `node`: the node's own Redis.
pub async fn examine(config: &Config, node: Option<&Pool>) -> Vec<Finding> {
    let fail = |text: String| vec![Finding::new(Verdict::Fail, text)];
    let place = match Place::new(config, node) {
        Ok(place) => place,
        Err(why) => return fail(format!("`source.redis.url` {why}")),
    };
    match place.connect().await {
        Ok(connection) => look(config, &place, connection).await,
        Err(why) => fail(format!(
            "it cannot be reached ({why}); start it, or correct `source.redis.url`"
        )),
    }
}

async fn look(config: &Config, place: &Place, mut connection: MultiplexedConnection) -> Vec<Finding> {
    let mut findings = vec![Finding::new(Verdict::Ok, format!("{} is reached", place.name()))];
    for (key, name) in [
        ("source.redis.stream", &config.stream),
        ("source.redis.dead_letter", &config.dead_letter()),
    ] {
        let kind: Result<String, _> = cmd("TYPE").arg(name).query_async(&mut connection).await;
        match kind.as_deref() {
            Ok("stream" | "none") => {}
            Ok(kind) => findings.push(Finding::new(
                Verdict::Fail,
                format!("{name:?} is a {kind} in Redis and no stream; correct `{key}`, or remove it"),
            )),
            Err(why) => findings.push(Finding::new(
                Verdict::Warn,
                format!(
                    "whether {name:?} is a stream cannot be told ({}); its user needs ~{name} {PERMISSIONS}",
                    place.said(&why)
                ),
            )),
        }
    }
    findings.push(group(config, place, &mut connection).await);
    findings
}

/// Looked at by a command that a node uses; it changes nothing.
async fn group(config: &Config, place: &Place, connection: &mut MultiplexedConnection) -> Finding {
    let mut ask = cmd("XPENDING");
    ask.arg(&config.stream).arg(&config.group);
    match ask.exec_async(connection).await {
        Ok(()) => Finding::new(Verdict::Ok, format!("the group {:?} is there", config.group)),
        Err(why) if why.code() == Some("NOGROUP") => {
            let text = format!("the group {:?} is not there yet; a node creates it", config.group);
            Finding::new(Verdict::Ok, text)
        }
        Err(why) => Finding::new(
            Verdict::Fail,
            format!(
                "the group {:?} cannot be looked at ({}); its user needs ~{} {PERMISSIONS}",
                config.group,
                place.said(&why),
                config.stream
            ),
        ),
    }
}
