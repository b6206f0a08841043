//! A whole stream of numbers, as a client may read it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Client, checker::Place, eventually, roamer::number, token};

/// Where a stream is, and which number is at which offset. Waits until the node can read it.
///
/// # Panics
/// When that takes too long, or the node does not answer as it should.
pub async fn read(url: &str, channel: &str) -> (Place, BTreeMap<u64, u64>) {
    let mut client = Client::connect(url, &token("reader")).await;
    let mut numbers = BTreeMap::new();
    let mut since = Value::Null;
    loop {
        let mut query = json!({ "channel": channel, "limit": 300 });
        if since.is_object() {
            query["since"] = since.clone();
        }
        let history = eventually("the stream can be read", async || {
            let mut reply = client.ask("history", query.clone()).await;
            Some(reply["history"].take()).filter(Value::is_object)
        })
        .await;
        let offset = |of: &Value| of["offset"].as_u64().expect("an offset is a number");
        let list = history["publications"]
            .as_array()
            .expect("publications are a list");
        numbers.extend(
            list.iter()
                .map(|publication| (offset(publication), number(publication))),
        );
        match list.last() {
            Some(last) if last["offset"] != history["offset"] => {
                since = json!({ "offset": last["offset"], "epoch": history["epoch"] });
            }
            _ => {
                let epoch = history["epoch"].as_str().expect("an epoch is text").to_owned();
                let top = Place {
                    epoch,
                    offset: offset(&history),
                };
                return (top, numbers);
            }
        }
    }
}
