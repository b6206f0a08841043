//! What clients get of channels that keep their publications: when they come back, and while they are here.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tidings_broker::Target;
use tidings_core::{Channel, Format, Publication, Retention};

use crate::node::{Client, Node, start};

/// As long as the open namespace of the node under test keeps it, and no more.
const KEPT: Retention = Retention {
    size: NonZeroU32::new(100).unwrap(),
    ttl: Duration::from_secs(600),
};

pub(crate) async fn publish(node: &Node, channel: &str, data: &Value) {
    publish_tagged(node, channel, data, &[]).await;
}

async fn publish_tagged(node: &Node, channel: &str, data: &Value, tags: &[(&str, &str)]) {
    let mut publication = Publication::new(data.to_string().into(), Format::Json, SystemTime::UNIX_EPOCH);
    let tags = tags
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    publication.tags = tags.collect::<BTreeMap<_, _>>();
    let target = Target {
        retention: Some(KEPT),
        ..Target::from(Channel::parse(channel).expect("a channel name"))
    };
    for result in node.publisher.publish(&[target], &publication).await {
        result.expect("the embedded broker is never away");
    }
}

/// Subscribes, and gives back the result.
async fn subscribe(client: &mut Client, options: Value) -> Value {
    client.send(&json!({"id": 2, "subscribe": options})).await;
    let reply = client.next().await;
    assert_eq!(reply["id"], 2, "the reply comes before any publication: {reply}");
    reply["subscribe"].clone()
}

/// A client of `news` that asks to be able to recover, and where it is.
async fn recoverable(node: &Node) -> (Client, Value) {
    let mut client = node.client().await;
    let result = subscribe(&mut client, json!({"channel": "news", "recoverable": true})).await;
    assert_eq!(
        (&result["recoverable"], &result["positioned"]),
        (&json!(true), &json!(true))
    );
    (client, result)
}

fn offset(result: &Value) -> u64 {
    result["offset"].as_u64().unwrap_or(0)
}

async fn come_back(node: &Node, offset: u64, epoch: &Value) -> (Client, Value) {
    let mut client = node.client().await;
    let options = json!({
        "channel": "news", "recoverable": true, "recover": true, "offset": offset, "epoch": epoch,
    });
    let result = subscribe(&mut client, options).await;
    assert_eq!(result["was_recovering"], true);
    (client, result)
}

fn numbers(publications: &Value) -> Vec<u64> {
    let list = publications.as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|it| it["data"].as_u64().expect("a number"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_exactly_what_it_missed_and_then_what_is_new() {
    let node = start(|_| {});
    let (mut client, result) = recoverable(&node).await;
    publish(&node, "news", &json!(1)).await;
    assert_eq!(
        client.next().await["push"]["pub"],
        json!({"data": 1, "offset": 1})
    );
    drop(client);
    for number in 2..=4 {
        publish(&node, "news", &json!(number)).await;
    }
    let (mut client, back) = come_back(&node, 1, &result["epoch"]).await;
    assert_eq!(numbers(&back["publications"]), [2, 3, 4]);
    assert_eq!((&back["recovered"], offset(&back)), (&json!(true), 1));
    publish(&node, "news", &json!(5)).await;
    assert_eq!(client.next().await["push"]["pub"]["offset"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_missed_nothing_has_recovered_with_nothing() {
    let node = start(|_| {});
    publish(&node, "news", &json!(1)).await;
    let (_client, result) = recoverable(&node).await;
    let (_client, back) = come_back(&node, 1, &result["epoch"]).await;
    assert_eq!(
        (&back["recovered"], back.get("publications")),
        (&json!(true), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_missed_more_than_is_kept_is_told_and_gets_no_part_of_it() {
    let node = start(|_| {});
    let (client, result) = recoverable(&node).await;
    drop(client);
    for number in 0..=100 {
        publish(&node, "news", &json!(number)).await;
    }
    let (_client, back) = come_back(&node, 0, &result["epoch"]).await;
    assert_eq!((back.get("recovered"), back.get("publications")), (None, None));
    assert_eq!(offset(&back), 101, "it is where the stream is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_another_epoch_cannot_be_recovered_and_the_client_may_refuse_that() {
    let node = start(|_| {});
    publish(&node, "news", &json!(1)).await;
    let (_client, back) = come_back(&node, 0, &json!("elsewhere")).await;
    assert_eq!((back.get("recovered"), offset(&back)), (None, 1));
    let mut client = node.client().await;
    client
        .send(&json!({"id": 2, "subscribe": {
            "channel": "news", "recoverable": true, "recover": true, "offset": 7, "epoch": "elsewhere",
            "flag": 2,
        }}))
        .await;
    assert_eq!(client.next().await["error"]["code"], 112);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_while_others_publish_misses_nothing_and_gets_nothing_twice() {
    const LAST: u64 = 400;
    let node = start(|config| config.cores = std::num::NonZero::new(2));
    let (client, result) = recoverable(&node).await;
    drop(client);
    let epoch = result["epoch"].clone();
    let at = AtomicU64::new(0);
    let publishing = async {
        for number in 1..=LAST {
            // Never so far ahead that the stream has forgotten what the client needs.
            while number > at.load(Relaxed) + 50 {
                tokio::task::yield_now().await;
            }
            publish(&node, "news", &json!(number)).await;
        }
    };
    let roaming = async {
        let mut heard = 0;
        while heard < LAST {
            let (mut client, back) = come_back(&node, heard, &epoch).await;
            assert_eq!(back["recovered"], true, "at {heard}: {back}");
            let mut take = |number: u64| {
                assert_eq!(number, heard + 1);
                heard = number;
                at.store(heard, Relaxed);
            };
            numbers(&back["publications"]).into_iter().for_each(&mut take);
            for _ in 0..3 {
                if at.load(Relaxed) < LAST {
                    let push = client.next().await;
                    take(push["push"]["pub"]["data"].as_u64().expect("a publication"));
                }
            }
        }
    };
    tokio::join!(publishing, roaming);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_differences_gets_the_first_publication_whole_and_then_patches_where_they_are_shorter() {
    let node = start(|_| {});
    let mut client = node.client().await;
    let options = json!({"channel": "news", "recoverable": true, "delta": "fossil"});
    assert_eq!(subscribe(&mut client, options).await["delta"], true);
    let mut plain = node.client().await;
    subscribe(&mut plain, json!({"channel": "news"})).await;
    let long = |end: &str| json!(format!("{}{end}", "the same text over and over ".repeat(8)));
    publish(&node, "news", &long("a")).await;
    publish(&node, "news", &long("b")).await;
    publish(&node, "news", &json!(7)).await;
    let mut next = async || client.next().await["push"]["pub"].clone();
    let whole = next().await;
    assert_eq!(
        whole["data"],
        long("a").to_string(),
        "text, though the data is JSON"
    );
    assert_eq!(whole.get("delta"), None);
    let patch = next().await;
    assert_eq!(patch["delta"], true);
    assert!(
        patch["data"].as_str().is_some_and(|text| text.len() < 60),
        "{patch}"
    );
    let short = next().await;
    assert_eq!((&short["data"], short.get("delta")), (&json!("7"), None));
    for expected in [long("a"), long("b"), json!(7)] {
        assert_eq!(plain.next().await["push"]["pub"]["data"], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_tags_hears_only_what_has_them() {
    let node = start(|_| {});
    let mut client = node.client().await;
    let filter = json!({"key": "team", "cmp": "eq", "val": "red"});
    subscribe(&mut client, json!({"channel": "news", "tf": filter})).await;
    publish_tagged(&node, "news", &json!(1), &[("team", "blue")]).await;
    publish_tagged(&node, "news", &json!(2), &[("team", "red")]).await;
    assert_eq!(client.next().await["push"]["pub"]["data"], 2);
}
