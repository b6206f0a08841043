//! What a backend puts into the stream, and what becomes of it when nothing breaks.

use serde_json::json;
use tidings_tests::{Client, Collector, Launch, Redis, command, eventually, token};

use crate::stream::{STREAM, Stream, config, config_of, node, numbers, reader};

#[tokio::test]
async fn an_entry_reaches_the_channels_that_it_names_and_is_acknowledged() {
    let Some(redis) = Redis::start() else { return };
    let node = node(&redis, &config("")).await;
    let mut reader = reader(&node).await;
    let mut stream = Stream::of(&redis).await;
    let id = stream.add_number(1).await;
    let (channel, event) = reader.hear().await;
    assert_eq!(channel, "tasks:1");
    assert_eq!(event["data"], json!(1));
    assert_eq!(event["id"], json!(id));
    assert_eq!(event["source"], json!(STREAM));
    stream.settled().await;
    assert!(node.metric("tidings_source_events_total").await >= 1.0);
}

#[tokio::test]
async fn what_names_no_channel_goes_where_the_routes_say_and_may_be_a_cloud_event() {
    let Some(redis) = Redis::start() else { return };
    let node = node(&redis, &config("")).await;
    let mut reader = Client::connect(&node.websocket(), &token("ada")).await;
    reader.subscribe("tasks:acme").await;
    let mut stream = Stream::of(&redis).await;
    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "/shop", "type": "task.created", "tenant": "acme",
        "data": { "assignee_id": "bob" },
    });
    stream.add(&[("event", &event.to_string())]).await;
    let (channel, heard) = reader.hear().await;
    assert_eq!(channel, "tasks:acme");
    assert_eq!((&heard["id"], &heard["source"]), (&json!("e1"), &json!("/shop")));
    assert_eq!(heard["data"], json!({ "assignee_id": "bob" }));
}

#[tokio::test]
async fn what_was_there_before_the_first_node_is_read_unless_only_the_newest_is_wanted() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = Stream::of(&redis).await;
    stream.add_number(1).await;
    let _node = node(&redis, &config("begin = \"newest\"\ngroup = \"late\"")).await;
    let second = node(&redis, &config("")).await;
    eventually("the old entry was read", async || {
        (second.metric("tidings_source_events_total").await >= 1.0).then_some(())
    })
    .await;
    let mut reader = reader(&second).await;
    stream.add_number(2).await;
    assert_eq!(numbers(&mut reader, 1).await, [2]);
    stream.settled().await;
    let read: Vec<Vec<(String, redis::Value)>> = stream.run(&["XINFO", "GROUPS", STREAM]).await;
    assert_eq!(read.len(), 2);
    assert_eq!(second.metric("tidings_source_events_total").await, 2.0);
}

#[tokio::test]
async fn a_repeat_of_an_event_is_not_delivered_twice() {
    let Some(redis) = Redis::start() else { return };
    let node = node(&redis, &config("")).await;
    let mut reader = reader(&node).await;
    let mut stream = Stream::of(&redis).await;
    for data in ["1", "1", "2"] {
        let id = format!("e{data}");
        let fields = [
            ("id", id.as_str()),
            ("type", "task.created"),
            ("channels", r#"["tasks:1"]"#),
            ("data", data),
        ];
        stream.add(&fields).await;
    }
    assert_eq!(numbers(&mut reader, 2).await, [1, 2]);
}

#[tokio::test]
async fn an_entry_that_can_never_be_published_is_set_aside_with_the_reason_and_holds_up_nobody() {
    let Some(redis) = Redis::start() else { return };
    let scope = "channels = [\"tasks:*\", \"nowhere:*\"]";
    let node = node(&redis, &config_of(scope, "")).await;
    let mut reader = reader(&node).await;
    let mut stream = Stream::of(&redis).await;
    stream.add(&[("kind", "no event")]).await;
    stream
        .add(&[
            ("type", "task.created"),
            ("channels", r#"["news:1"]"#),
            ("data", "1"),
        ])
        .await;
    stream
        .add(&[
            ("type", "task.created"),
            ("channels", r#"["nowhere:1"]"#),
            ("data", "1"),
        ])
        .await;
    stream
        .add(&[
            ("type", "task.created"),
            ("channels", r#"["tasks:1"]"#),
            ("data", "{"),
        ])
        .await;
    stream.add_number(7).await;
    assert_eq!(numbers(&mut reader, 1).await, [7]);
    let mut aside = stream.aside(4).await;
    aside.sort_by(|one, other| one["tidings-entry"].cmp(&other["tidings-entry"]));
    let parts = [
        "type is required",
        "`source.channels`",
        "no namespace",
        "event.data",
    ];
    for (entry, part) in aside.iter().zip(parts) {
        assert!(entry["tidings-reason"].contains(part), "{entry:?}");
        assert_eq!(entry["tidings-stream"], STREAM);
    }
    assert_eq!(aside[0]["kind"], "no event", "what it was is kept");
    stream.settled().await;
    let (_, text) = node.get("/metrics").await.unwrap();
    assert!(
        text.contains(r#"tidings_source_events_total{source="jobs",result="set_aside"} 4"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_field_that_is_not_text_harms_its_own_entry_alone() {
    let Some(redis) = Redis::start() else { return };
    let node = node(&redis, &config("")).await;
    let mut reader = reader(&node).await;
    let mut stream = Stream::of(&redis).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let mut add = redis::cmd("XADD");
    add.arg(STREAM).arg("*").arg(&b"\xff\xfe"[..]).arg(&b"\xff"[..]);
    add.exec_async(&mut raw).await.unwrap();
    stream.add_number(7).await;
    assert_eq!(numbers(&mut reader, 1).await, [7]);
    stream.settled().await;
    let length: u64 = stream.run(&["XLEN", &format!("{STREAM}:dead")]).await;
    assert_eq!(length, 1);
}

#[tokio::test]
async fn the_trace_of_an_entry_goes_on_to_the_gateways() {
    let Some(redis) = Redis::start() else { return };
    let collector = Collector::start().await;
    let node = Launch::new("standalone")
        .config(&config(""))
        .redis(&redis)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .start()
        .await;
    node.wait_until_whole().await;
    let mut reader = reader(&node).await;
    let mut stream = Stream::of(&redis).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    stream
        .add(&[
            ("type", "task.created"),
            ("channels", r#"["tasks:1"]"#),
            ("traceparent", traceparent),
            ("data", "1"),
        ])
        .await;
    reader.hear().await;
    let (_, take) = collector.spans("take jobs", 1).await.remove(0);
    assert_eq!(
        take.parent_span_id,
        [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
    );
    let (_, publish) = collector.spans("publish tasks:1", 1).await.remove(0);
    assert_eq!(publish.parent_span_id, take.span_id);
    let (_, deliver) = collector.spans("deliver tasks:1", 1).await.remove(0);
    assert_eq!(deliver.trace_id, take.trace_id);
}

#[tokio::test]
async fn the_doctor_looks_at_the_stream_of_each_source() {
    let Some(redis) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    std::fs::write(&file, config("")).unwrap();
    let ask = async || {
        let url = redis.url();
        command(
            &["doctor", "--config", file.to_str().unwrap()],
            &[("REDIS_URL", &url)],
        )
        .await
    };
    let said = ask().await;
    assert!(
        said.output
            .contains("OK    source jobs: the group \"tidings\" is not there yet"),
        "{said:?}"
    );
    let mut stream = Stream::of(&redis).await;
    let _: String = stream.run(&["SET", STREAM, "a text"]).await;
    let said = ask().await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.output.contains("FAIL  source jobs: \"jobs\" is a string"),
        "{said:?}"
    );
}
