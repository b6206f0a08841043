//! What a backend inserts into the outbox, and what becomes of it when nothing breaks.

use serde_json::json;
use tidings_tests::{Client, Collector, Launch, Postgres, Redis, Tidings, command, eventually, token};
use tokio_util::task::TaskTracker;

use crate::{
    outbox::{Outbox, assert_in_order, config, heard},
    stream::{node as node_with, reader},
};

/// A node without Redis.
async fn node(config: &str) -> Tidings {
    let node = Launch::new("standalone").config(config).start().await;
    node.wait_until_whole().await;
    node
}

#[tokio::test]
async fn a_row_is_published_as_soon_as_it_is_committed_and_deleted() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    // Nobody looks for it in time: it is told of.
    let node = node(&config(&server, "", "poll = \"1m\"")).await;
    let mut reader = reader(&node).await;
    let outbox = Outbox::of(&server).await;
    outbox.add(Some("a"), "1").await;
    let (channel, event) = reader.hear().await;
    assert_eq!((channel.as_str(), &event["data"]), ("tasks:1", &json!(1)));
    assert_eq!(event["type"], json!("task.created"));
    outbox.settled().await;
    assert_eq!(outbox.count("true").await, 0);
    let (_, text) = node.get("/metrics").await.unwrap();
    let counted = r#"tidings_source_events_total{source="shop",result="published"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn what_names_no_channel_goes_where_the_routes_say_and_nothing_is_published_that_was_rolled_back() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let node = node(&config(&server, "", "poll = \"100ms\"")).await;
    let mut reader = Client::connect(&node.websocket(), &token("ada")).await;
    reader.subscribe("tasks:acme").await;
    let outbox = Outbox::of(&server).await;
    let insert = "INSERT INTO tidings_outbox (type, source, event_id, attributes, data) \
                  VALUES ('task.created', 'shop', 'EVENT', '{\"tenant\": \"acme\"}', '{\"assignee_id\": \"bob\"}')";
    let insert = |event: &str| insert.replace("EVENT", event);
    let rolled_back = format!("BEGIN; {}; ROLLBACK", insert("e0"));
    outbox.0.batch_execute(&rolled_back).await.unwrap();
    outbox.0.batch_execute(&insert("e1")).await.unwrap();
    let (channel, event) = reader.hear().await;
    assert_eq!(channel, "tasks:acme");
    assert_eq!((&event["id"], &event["source"]), (&json!("e1"), &json!("shop")));
}

#[tokio::test]
async fn rows_are_found_that_nobody_told_of_and_data_may_be_of_any_type() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let outbox = Outbox::of(&server).await;
    let change = "DROP TRIGGER tidings_outbox_notify ON tidings_outbox; \
                  ALTER TABLE tidings_outbox ALTER data TYPE bytea USING NULL";
    outbox.0.batch_execute(change).await.unwrap();
    let node = node(&config(&server, "", "poll = \"100ms\"")).await;
    let mut reader = reader(&node).await;
    let insert = "INSERT INTO tidings_outbox (type, channels, data_content_type, data) \
                  VALUES ('a', '{tasks:1}', 'image/png', '\\x8950'), ('b', '{tasks:1}', 'application/json', '\\x37')";
    outbox.0.batch_execute(insert).await.unwrap();
    let mut events = [reader.hear().await.1, reader.hear().await.1];
    events.sort_by_key(|event| event["type"].to_string());
    assert_eq!(
        (&events[0]["data_base64"], &events[1]["data"]),
        (&json!("iVA="), &json!(7))
    );
}

#[tokio::test]
async fn transactions_that_commit_late_hold_their_place_in_their_partition_and_no_other() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let node = node(&config(&server, "", "")).await;
    let mut reader = reader(&node).await;
    let (slow, fast, other) = (
        Outbox::of(&server).await,
        Outbox::of(&server).await,
        Outbox::of(&server).await,
    );
    slow.0.batch_execute("BEGIN").await.unwrap();
    slow.add(Some("a"), r#"["a", 0]"#).await;
    let second = TaskTracker::new().spawn(async move { fast.add(Some("a"), r#"["a", 1]"#).await });
    eventually("the second waits for its turn", async || {
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        let waits: i64 = other.0.query_one(waits, &[]).await.unwrap().get(0);
        (waits == 1).then_some(())
    })
    .await;
    other.add(Some("b"), r#"["b", 0]"#).await;
    assert_eq!(heard(&mut reader, 1).await, [("b".to_owned(), 0)]);
    slow.0.batch_execute("COMMIT").await.unwrap();
    second.await.unwrap();
    assert_in_order(&heard(&mut reader, 2).await, &["a"], 2);
}

#[tokio::test]
async fn two_nodes_share_the_work_and_keep_each_partition_in_order() {
    let (Some(server), Some(redis)) = (Postgres::start().await, Redis::start()) else {
        return;
    };
    let config = config(&server, "", "batch = 3");
    let nodes = [node_with(&redis, &config).await, node_with(&redis, &config).await];
    let mut reader = reader(&nodes[0]).await;
    let partitions = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let outboxes = partitions.map(|_| Outbox::of(&server));
    let mut adding = Vec::new();
    for (outbox, partition) in outboxes.into_iter().zip(partitions) {
        let outbox = outbox.await;
        adding.push(TaskTracker::new().spawn(async move {
            outbox.add_numbers(partition, 0..60).await;
        }));
    }
    let heard = heard(&mut reader, 8 * 60).await;
    assert_in_order(&heard, &partitions, 60);
    for adding in adding {
        adding.await.unwrap();
    }
    Outbox::of(&server).await.settled().await;
    for node in &nodes {
        assert!(
            node.metric("tidings_source_events_total").await > 0.0,
            "each had a part"
        );
    }
}

#[tokio::test]
async fn a_partition_that_another_session_works_on_is_left_alone() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let node = node(&config(&server, "", "poll = \"50ms\"")).await;
    let mut reader = reader(&node).await;
    let (outbox, other) = (Outbox::of(&server).await, Outbox::of(&server).await);
    let lane =
        |call: &str| format!("SELECT {call}('tidings_outbox'::regclass::oid::int, hashtext('a') & 63)");
    other.0.batch_execute(&lane("pg_advisory_lock")).await.unwrap();
    outbox.add(Some("a"), r#"["a", 0]"#).await;
    outbox.add(Some("b"), r#"["b", 0]"#).await;
    assert_eq!(heard(&mut reader, 1).await, [("b".to_owned(), 0)]);
    outbox.add(Some("b"), r#"["b", 1]"#).await;
    assert_eq!(heard(&mut reader, 1).await, [("b".to_owned(), 1)]);
    other.0.batch_execute(&lane("pg_advisory_unlock")).await.unwrap();
    assert_eq!(heard(&mut reader, 1).await, [("a".to_owned(), 0)]);
}

#[tokio::test]
async fn a_row_that_can_never_be_published_is_set_aside_with_the_reason_and_its_partition_goes_on() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let source = "channels = [\"tasks:*\"]";
    let node = node(&config(&server, source, "poll = \"100ms\"")).await;
    let mut reader = reader(&node).await;
    let outbox = Outbox::of(&server).await;
    let insert = "INSERT INTO tidings_outbox (partition_key, type, channels, tags, data) VALUES \
                  ('a', 'task..created', '{tasks:1}', '{}', '1'), ('a', 'task.created', '{news:1}', '{}', '2'), \
                  ('a', 'task.created', '{tasks:1}', '{\"a\": [1]}', '3'), \
                  ('a', 'task.created', '{{tasks:1},{tasks:2}}', '{}', '3'), \
                  ('a', 'task.created', '{tasks:1}', '{}', '[\"a\", 4]')";
    outbox.0.batch_execute(insert).await.unwrap();
    assert_eq!(heard(&mut reader, 1).await, [("a".to_owned(), 4)]);
    outbox.settled().await;
    let failures = "SELECT failure FROM tidings_outbox WHERE failed_at IS NOT NULL ORDER BY id";
    let failures = outbox.0.query(failures, &[]).await.unwrap();
    let failures: Vec<String> = failures.iter().map(|row| row.get(0)).collect();
    let parts = [
        "event.type",
        "`source.channels`",
        "tags.a is an array",
        "channels is",
    ];
    assert_eq!(failures.len(), parts.len(), "{failures:?}");
    for (failure, part) in failures.iter().zip(parts) {
        assert!(failure.contains(part), "{failures:?}");
    }
    assert_eq!(
        node.metric(r#"tidings_source_events_total{source="shop",result="set_aside"}"#)
            .await,
        4.0
    );

    // Put right, it is tried again.
    let right = "UPDATE tidings_outbox SET type = 'task.created', data = '[\"a\", 9]', failed_at = NULL, failure = NULL \
                 WHERE type = 'task..created'";
    outbox.0.batch_execute(right).await.unwrap();
    assert_eq!(heard(&mut reader, 1).await, [("a".to_owned(), 9)]);
}

#[tokio::test]
async fn a_table_that_is_not_there_degrades_the_node_with_what_to_do() {
    let Some(server) = Postgres::start_with(&[]).await else {
        return;
    };
    let node = Launch::new("standalone")
        .config(&config(&server, "", ""))
        .start()
        .await;
    let reason = eventually("readiness says why", async || {
        let reason = crate::stream::reason(&node, "source").await;
        reason.filter(|reason| reason.contains("deploy/postgres/outbox.sql"))
    })
    .await;
    assert!(!reason.contains("hunter2"), "{reason}");
}

#[tokio::test]
async fn a_server_is_known_by_its_certificate() {
    let tls = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../libs/broker/tests/tls");
    let Some(mut server) = Postgres::start().await else {
        return;
    };
    for name in ["certificate.pem", "key.pem"] {
        server.keep(name, &std::fs::read(tls.join(name)).unwrap());
    }
    server.kill();
    server.set(&["ssl=on", "ssl_cert_file=certificate.pem", "ssl_key_file=key.pem"]);
    server.up().await;
    let encrypted = config(&server, "", "").replace("/postgres\"", "/postgres?sslmode=require\"");
    let encrypted = encrypted.replace("127.0.0.1", "localhost");
    let known = format!(
        "{encrypted}ca_file = \"{}\"\n",
        tls.join("certificate.pem").display()
    );
    let node = node(&known).await;
    let mut reader = reader(&node).await;
    let outbox = Outbox::of(&server).await;
    outbox.add(None, r#"["a", 0]"#).await;
    assert_eq!(heard(&mut reader, 1).await, [("a".to_owned(), 0)]);
    let ask = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE ssl AND application_name = 'tidings'";
    let encrypted_sessions: i64 = outbox.0.query_one(ask, &[]).await.unwrap().get(0);
    assert_eq!(encrypted_sessions, 1);

    let stranger = Launch::new("standalone").config(&encrypted).start().await;
    eventually("it is not known by the system's authorities", async || {
        let reason = crate::stream::reason(&stranger, "source").await;
        reason.filter(|reason| reason.contains("source.postgres.ca_file"))
    })
    .await;
}

#[tokio::test]
async fn the_trace_of_a_row_goes_on_to_the_gateways() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let collector = Collector::start().await;
    let node = Launch::new("standalone")
        .config(&config(&server, "", ""))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .start()
        .await;
    node.wait_until_whole().await;
    let mut reader = reader(&node).await;
    let insert = "INSERT INTO tidings_outbox (type, channels, attributes) VALUES ('task.created', '{tasks:1}', \
                  '{\"traceparent\": \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}')";
    Outbox::of(&server).await.0.batch_execute(insert).await.unwrap();
    reader.hear().await;
    let (_, take) = collector.spans("take shop", 1).await.remove(0);
    assert_eq!(
        take.parent_span_id,
        [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
    );
    let (_, publish) = collector.spans("publish tasks:1", 1).await.remove(0);
    assert_eq!(publish.parent_span_id, take.span_id);
}

#[tokio::test]
async fn the_doctor_looks_at_the_outbox() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    std::fs::write(&file, config(&server, "", "")).unwrap();
    let ask = async || command(&["doctor", "--config", file.to_str().unwrap()], &[]).await;
    let said = ask().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in ["is reached", "it is PostgreSQL", "is as it has to be"] {
        assert!(said.output.contains(part), "{said:?}");
    }
    let outbox = Outbox::of(&server).await;
    let change = "DROP TRIGGER tidings_outbox_in_turn ON tidings_outbox; DROP TRIGGER tidings_outbox_notify ON tidings_outbox";
    outbox.0.batch_execute(change).await.unwrap();
    let said = ask().await;
    assert_eq!(said.output.matches("WARN  source shop").count(), 2, "{said:?}");
    outbox
        .0
        .batch_execute("ALTER TABLE tidings_outbox DROP COLUMN tags")
        .await
        .unwrap();
    let said = ask().await;
    assert_eq!(said.code, Some(1));
    assert!(said.output.contains("tags is not there"), "{said:?}");
    assert!(!said.output.contains("hunter2"), "{said:?}");
}
