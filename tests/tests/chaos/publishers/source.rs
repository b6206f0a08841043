//! A Redis stream, in a Redis that nothing happens to, of which one fanout is the only consumer.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use redis::Value;
use tidings_tests::{Redis, checker::publisher};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{Desk, id};
use crate::ledger::Accepted;

/// Between two bursts.
const PACE: Duration = Duration::from_millis(250);

/// Entries for each channel in one burst.
const EACH: u32 = 4;

const STREAM: &str = "numbers";
const GROUP: &str = "tidings";

/// The stream, and what was added to it.
pub(crate) struct Queue {
    server: Redis,
    added: Mutex<Vec<Accepted>>,
}

impl Queue {
    /// `None` when there is no Redis to be had.
    pub(crate) fn start() -> Option<Self> {
        Some(Self {
            server: Redis::start()?,
            added: Mutex::default(),
        })
    }

    /// The configuration of the fanout that reads it.
    pub(crate) fn section(&self) -> String {
        format!(
            "[[source]]\nname = \"numbers\"\n[source.redis]\nurl = \"{}\"\nstream = \"{STREAM}\"\ngroup = \"{GROUP}\"\n\
             claim_after = \"2s\"\nattempts = 1000\n",
            self.server.url()
        )
    }

    /// What was added so far.
    pub(crate) fn added(&self) -> MutexGuard<'_, Vec<Accepted>> {
        self.added.lock().unwrap()
    }

    /// Whether all that was added was read and acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        let Ok(Value::Array(groups)) = self.server.try_ask(&["XINFO", "GROUPS", STREAM]) else {
            return self.added().is_empty();
        };
        let fields: Vec<Vec<String>> = groups
            .into_iter()
            .filter_map(|group| text(group).into())
            .collect();
        fields.iter().any(|fields| {
            let of = |name: &str| {
                let at = fields.iter().position(|field| field == name)?;
                fields.get(at + 1).map(String::as_str)
            };
            of("pending") == Some("0") && of("lag") == Some("0")
        })
    }

    /// The numbers that were dead-lettered.
    pub(crate) fn dead(&self) -> BTreeSet<u64> {
        let Ok(Value::Array(entries)) = self
            .server
            .try_ask(&["XRANGE", &format!("{STREAM}:dead"), "-", "+"])
        else {
            return BTreeSet::new();
        };
        let numbers = entries.into_iter().filter_map(|entry| {
            let Value::Array(entry) = entry else { return None };
            let fields = text(entry.into_iter().nth(1)?);
            let at = fields.iter().position(|field| field == "data")?;
            fields.get(at + 1)?.parse().ok()
        });
        numbers.collect()
    }
}

/// The texts and numbers of a flat array or map.
fn text(value: Value) -> Vec<String> {
    let plain = |value: Value| match value {
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) => text,
        _ => String::new(),
    };
    match value {
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(name, value)| [plain(name), plain(value)])
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) async fn run(desk: Desk) {
    let mut next = 1;
    let (each, pace) = desk.rhythm(EACH, PACE);
    while desk.is_open() {
        block_in_place(|| {
            for n in next..next + each {
                for channel in 0..desk.channels.len() {
                    add(&desk, channel, n);
                }
            }
        });
        next += each;
        sleep(pace).await;
    }
}

fn add(desk: &Desk, channel: usize, n: u32) {
    let outgoing = desk.outgoing(channel, n);
    let name = &desk.channels[channel];
    let (data, event_id) = (outgoing.number.to_string(), id(name, outgoing.number));
    debug_assert_eq!(publisher(outgoing.number).1, n);
    let channels = format!("[\"{name}\"]");
    let words = [
        "XADD", STREAM, "*", "type", "number", "source", "tests", "id", &event_id, "channels", &channels,
        "data", &data,
    ];
    desk.queue.server.ask(&words);
    desk.queue.added().push(Accepted {
        channel,
        number: outgoing.number,
        at: None,
        fanout: None,
        sent: Instant::now(),
    });
}
