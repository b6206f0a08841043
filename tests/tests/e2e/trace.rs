//! One trace shows an event on its way from a backend to every gateway.

use std::collections::HashSet;

use tidings_tests::{Collector, Redis, event, text};

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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
