//! Much at once: for clients that read what they get, and for the core that has to answer.

use std::time::SystemTime;

use serde_json::{Value, json};
use tidings_broker::Target;
use tidings_core::{Channel, Format, Publication};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::TaskTracker;

use crate::{
    node::{Client, Node, start},
    streams::publish,
};

/// Publishes text of this size so often, in one go.
async fn burst(node: &Node, channel: &str, size: usize, times: usize) {
    let data = json!("x".repeat(size)).to_string();
    let publication = Publication::new(data.into(), Format::Json, SystemTime::now());
    let channel = Channel::parse(channel).expect("a channel name");
    let targets: Vec<Target> = vec![channel.into(); times];
    for result in node.publisher.publish(&targets, &publication).await {
        result.expect("the embedded broker is never away");
    }
}

/// How many publications a client hears before its connection ends, or until it has heard so many.
async fn hears(mut client: Client, most: usize) -> usize {
    for heard in 0..most {
        match client.message().await {
            Ok(Message::Text(_)) => {}
            _ => return heard,
        }
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_what_it_gets_is_not_slow_however_much_comes_at_once() {
    let node = start(|config| config.cores = std::num::NonZero::new(1));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let client = node.subscriber("tasks:1").await;
        readers.push(TaskTracker::new().spawn(hears(client, 10_000)));
    }
    // Twice what an outbox holds.
    burst(&node, "tasks:1", 200, 10_000).await;
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), 10_000);
    }
}

fn subscribe(id: usize, channel: &str) -> Value {
    json!({"id": id, "subscribe": {"channel": channel, "positioned": true}})
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_subscribes_in_one_message_are_answered_one_after_the_other() {
    const CHANNELS: usize = 500;
    let node = start(|config| {
        config.cores = std::num::NonZero::new(1);
        config.limits.channels = CHANNELS;
        config.limits.commands_per_second = 100_000;
    });
    let mut keeper = node.client().await;
    let names: Vec<_> = (0..CHANNELS).map(|number| format!("news:{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        keeper.send(&subscribe(number + 2, name)).await;
        assert!(keeper.next().await["subscribe"].is_object());
    }
    // All of them are at hand now: nothing has to be waited for.
    let mut client = node.client().await;
    let commands = names
        .iter()
        .enumerate()
        .map(|(number, name)| subscribe(number + 2, name).to_string());
    client.say(commands.collect::<Vec<_>>().join("\n")).await;
    for _ in 0..CHANNELS {
        assert!(client.next().await["subscribe"].is_object());
    }
}

/// Where two streams are, and then 20 publications of 40 kB in each of them.
async fn large_streams(node: &Node) -> [Value; 2] {
    let mut client = node.client().await;
    let mut positions = [Value::Null, Value::Null];
    for (number, position) in positions.iter_mut().enumerate() {
        let channel = format!("large:{number}");
        let options = json!({"channel": channel, "recoverable": true});
        client
            .send(&json!({"id": number + 2, "subscribe": options}))
            .await;
        *position = client.next().await["subscribe"].take();
    }
    for _ in 0..10 {
        for number in 0..2 {
            publish(node, &format!("large:{number}"), &json!("x".repeat(40_000))).await;
        }
    }
    positions
}

fn come_back(id: usize, channel: &str, at: &Value) -> String {
    let options = json!({
        "channel": channel, "recoverable": true, "recover": true, "offset": 0, "epoch": at["epoch"],
    });
    json!({"id": id, "subscribe": options}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_to_much_in_several_channels_gets_it_one_after_the_other_and_is_not_closed() {
    let node = start(|config| config.cores = std::num::NonZero::new(1));
    let positions = large_streams(&node).await;
    let mut client = node.client().await;
    let mut missing: Vec<_> = (0..2).collect();
    while !missing.is_empty() {
        let commands = missing
            .iter()
            .map(|number| come_back(number + 2, &format!("large:{number}"), &positions[*number]));
        client.say(commands.collect::<Vec<_>>().join("\n")).await;
        for _ in 0..missing.len() {
            let reply = client.next().await;
            let number = usize::try_from(reply["id"].as_u64().expect("an id")).expect("a small one") - 2;
            match &reply["error"] {
                Value::Null => {
                    assert_eq!(reply["subscribe"]["recovered"], true);
                    missing.retain(|it| *it != number);
                }
                error => assert_eq!(error["code"], 111, "{error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_more_than_one_answer_may_be_counts_as_not_kept() {
    let node = start(|config| config.cores = std::num::NonZero::new(1));
    let positions = large_streams(&node).await;
    for _ in 0..10 {
        publish(&node, "large:0", &json!("x".repeat(40_000))).await;
    }
    let mut client = node.client().await;
    client.say(come_back(2, "large:0", &positions[0])).await;
    let reply = client.next().await;
    assert_eq!(
        reply["subscribe"].get("recovered"),
        None,
        "800 kB are more than half an outbox"
    );
    assert_eq!(reply["subscribe"]["offset"], 20);
}
