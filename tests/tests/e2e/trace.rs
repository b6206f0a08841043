//! One trace shows an event on its way from a backend to every gateway.

use std::collections::HashSet;

use tidings_tests::{Backend, Client, Collector, Launch, Redis, event, eventually, text, token};

use crate::split::Split;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_publish_is_one_trace_from_the_caller_to_the_gateways() {
    let Some(redis) = Redis::start() else { return };
    let collector = Collector::start().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
    ];
    let environment = environment
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let split = Split::start(&redis, 3, &environment).await;
    let mut ada = split.client(0, "ada", "tasks:1").await;
    let mut bob = split.client(1, "bob", "tasks:1").await;
    let mut second = split.client(1, "bob", "tasks:1").await;
    let _eve = split.client(2, "eve", "news:1").await;

    let caller = format!("00-{TRACE}-{CALLER}-01");
    let published = event("task.created", "1", &["tasks:1"]);
    split
        .backend
        .publish_with(published, &[("traceparent", &caller)])
        .await
        .unwrap();
    for client in [&mut ada, &mut bob, &mut second] {
        client.hear().await;
    }

    let (service, publish) = collector.spans("publish tasks:1", 1).await.remove(0);
    assert_eq!(service, "tidings-fanout");
    let (service, server) = collector
        .spans("tidings.fanout.v1.Fanout/Publish", 1)
        .await
        .remove(0);
    assert_eq!(service, "tidings-fanout");
    assert_eq!(hex(&server.parent_span_id), CALLER);
    assert_eq!(publish.parent_span_id, server.span_id);

    let deliveries = collector.spans("deliver tasks:1", 2).await;
    assert_eq!(
        deliveries.len(),
        2,
        "one per gateway that has subscribers: {deliveries:#?}"
    );
    let mut subscribers = Vec::new();
    for (service, delivery) in &deliveries {
        assert_eq!(service, "tidings-gateway");
        assert_eq!(delivery.parent_span_id, publish.span_id);
        assert_eq!(
            text(&delivery.attributes, "messaging.destination.name"),
            "tasks:1"
        );
        subscribers.push(text(&delivery.attributes, "tidings.subscribers"));
    }
    subscribers.sort();
    assert_eq!(subscribers, ["1", "2"]);

    let spans = [&server, &publish]
        .into_iter()
        .chain(deliveries.iter().map(|(_, span)| span));
    let traces: HashSet<_> = spans.map(|span| hex(&span.trace_id)).collect();
    assert_eq!(traces, HashSet::from([TRACE.to_owned()]));
}

#[tokio::test]
async fn what_is_logged_on_the_way_has_the_traces_id_and_a_caller_that_does_not_sample_is_heeded() {
    let collector = Collector::start().await;
    let node = Launch::new("standalone")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("RUST_LOG", "info,tidings_fanout=debug")
        .start()
        .await;
    let backend = Backend::new(&node.backends());
    let unsampled = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    for caller in [unsampled, &sampled] {
        let unrouted = event("invoice.paid", "1", &[]);
        backend
            .publish_with(unrouted, &[("traceparent", caller)])
            .await
            .unwrap();
    }
    let server = collector.spans("tidings.fanout.v1.Fanout/Publish", 1).await;
    assert_eq!(server.len(), 1, "{server:#?}");
    assert_eq!(hex(&server[0].1.trace_id), TRACE);
    let logs = node.logs();
    let lines: Vec<_> = logs
        .lines()
        .filter(|line| line.contains("no route takes the event"))
        .collect();
    assert_eq!(lines.len(), 2, "{logs}");
    assert!(!lines[0].contains("trace_id"), "{logs}");
    assert!(lines[1].ends_with(&format!(" trace_id={TRACE}")), "{logs}");
    eventually("the spans are counted", async || {
        (node.metric("tidings_spans_total{result=\"exported\"}").await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(node.metric("tidings_spans_total{result=\"dropped\"}").await, 0.0);
}

#[tokio::test]
async fn a_slow_bucket_leads_to_its_trace() {
    let collector = Collector::start().await;
    let node = Launch::new("standalone")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .start()
        .await;
    let mut ada = Client::connect(&node.websocket(), &token("ada")).await;
    ada.subscribe("tasks:1").await;
    let caller = format!("00-{TRACE}-{CALLER}-01");
    Backend::new(&node.backends())
        .publish_with(
            event("task.created", "1", &["tasks:1"]),
            &[("traceparent", &caller)],
        )
        .await
        .unwrap();
    ada.hear().await;
    let exemplar = format!(" # {{trace_id=\"{TRACE}\"}} ");
    for histogram in [
        "tidings_publish_duration_seconds",
        "tidings_delivery_latency_seconds",
    ] {
        eventually(&format!("{histogram} remembers the trace"), async || {
            let (_, text) = node.get("/metrics").await?;
            text.lines()
                .any(|line| line.starts_with(histogram) && line.contains(&exemplar))
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_no_end() {
    // It accepts connections and says nothing, ever.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut node = Launch::new("standalone")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            &format!("http://{}", silent.local_addr().unwrap()),
        )
        .start()
        .await;
    Backend::new(&node.backends())
        .publish(event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
    node.terminate().await;
    assert_eq!(node.exit().await.code, Some(0));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
