//! A trace as a collector gets it, over real OTLP. One test: logs and traces are set up once per process.

use std::{collections::BTreeMap, net::SocketAddr};

use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span, span::SpanKind},
};
use opentelemetry_semantic_conventions::attribute;
use tidings_telemetry::{LogFormat, Options, trace};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Keeps what it is sent, and the key that came with it.
struct Collector(mpsc::Sender<(Option<String>, ResourceSpans)>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = request
            .metadata()
            .get("x-key")
            .and_then(|key| key.to_str().ok())
            .map(str::to_owned);
        for spans in request.into_inner().resource_spans {
            self.0
                .send((key.clone(), spans))
                .await
                .map_err(|_| Status::cancelled("the test is over"))?;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn one_trace_shows_an_event_from_the_backend_to_the_gateway() {
    let (sender, mut received) = mpsc::channel(64);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(
        Server::builder()
            .add_service(TraceServiceServer::new(Collector(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let telemetry = tidings_telemetry::init(&options(address)).unwrap();
    assert!(telemetry.is_exporting() && trace::enabled());
    assert_eq!(
        tidings_telemetry::init(&options(address))
            .unwrap_err()
            .to_string(),
        "logs and traces are set up already; set them up once per process"
    );

    publish_and_deliver(&format!("00-{TRACE}-{CALLER}-01"));
    // A caller that does not record is heeded, and so is one that sends nonsense: it begins a trace of its own.
    publish_and_deliver(&format!("00-{TRACE}-{CALLER}-00"));
    drop(trace::server("test.Nonsense/Call", Some(&context("nonsense"))));
    // Spans of libraries stay out of it.
    drop(tracing::info_span!(target: "h2::client", "noise"));

    telemetry.shutdown().await;
    assert!(!trace::enabled());
    tasks.shutdown().await;
    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    while let Some((key, resource_spans)) = received.recv().await {
        assert_eq!(key.as_deref(), Some("a key"));
        let resource = resource_spans.resource.unwrap().attributes;
        assert_eq!(text(&resource, attribute::SERVICE_NAME), "tidings-gateway");
        assert_eq!(text(&resource, attribute::SERVICE_INSTANCE_ID), "node-1");
        assert_eq!(
            text(&resource, attribute::DEPLOYMENT_ENVIRONMENT_NAME),
            "test bed"
        );
        for span in resource_spans
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            assert!(
                spans.insert(span.name.clone(), span).is_none(),
                "exported twice, or not to be exported"
            );
        }
    }
    assert_eq!(
        spans.keys().collect::<Vec<_>>(),
        [
            "deliver tasks:acme",
            "publish tasks:acme",
            "test.Nonsense/Call",
            "tidings.fanout.v1.Fanout/Publish"
        ]
    );
    check_one_trace(&spans);
    let root = &spans["test.Nonsense/Call"];
    assert!(root.parent_span_id.is_empty() && hex(&root.trace_id) != TRACE);
}

fn options(collector: SocketAddr) -> Options {
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20key".to_owned()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test%20bed".to_owned(),
        ),
    ];
    Options {
        service: "gateway".to_owned(),
        instance: "node-1".to_owned(),
        log: LogFormat::Text,
        // Logs have no say in what is traced.
        filter: "off".to_owned(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// What fanout does, then a gateway, with nothing but text between them.
fn publish_and_deliver(traceparent: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", traceparent.parse().expect("a header"));
    headers.insert("tracestate", "vendor=1".parse().expect("a header"));
    let incoming = trace::of_headers(&headers);
    let server = trace::server("tidings.fanout.v1.Fanout/Publish", incoming.as_ref());
    let publish = trace::publish("redis", "tasks:acme", "event-1", 42, &server);
    let onward = trace::onward(&publish, incoming).expect("a context");
    assert!(
        onward.traceparent.starts_with(&format!("00-{TRACE}-")),
        "{onward:?}"
    );
    assert_eq!(onward.tracestate, "vendor=1");
    assert!(!onward.traceparent.contains(CALLER), "{onward:?}");
    let deliver = trace::deliver("redis", "tasks:acme", "event-1", 42, Some(&onward));
    deliver.record("tidings.subscribers", 3);
    let mut headers = HeaderMap::new();
    trace::inject_headers(&publish, None, &mut headers);
    assert_eq!(trace::of_headers(&headers), Some(onward));
}

fn check_one_trace(spans: &BTreeMap<String, Span>) {
    let chain = [
        ("tidings.fanout.v1.Fanout/Publish", SpanKind::Server),
        ("publish tasks:acme", SpanKind::Producer),
        ("deliver tasks:acme", SpanKind::Consumer),
    ];
    let mut parent = CALLER.to_owned();
    for (name, kind) in chain {
        let span = &spans[name];
        assert_eq!(hex(&span.trace_id), TRACE, "{name}");
        assert_eq!(hex(&span.parent_span_id), parent, "{name}");
        assert_eq!(span.kind(), kind, "{name}");
        parent = hex(&span.span_id);
    }
    let server = &spans["tidings.fanout.v1.Fanout/Publish"].attributes;
    assert_eq!(text(server, attribute::RPC_SYSTEM_NAME), "grpc");
    assert_eq!(
        text(server, attribute::RPC_METHOD),
        "tidings.fanout.v1.Fanout/Publish"
    );
    for (name, operation, kind) in [
        ("publish tasks:acme", "publish", "send"),
        ("deliver tasks:acme", "deliver", "process"),
    ] {
        let span = &spans[name].attributes;
        assert_eq!(text(span, attribute::MESSAGING_SYSTEM), "redis");
        assert_eq!(text(span, attribute::MESSAGING_OPERATION_NAME), operation);
        assert_eq!(text(span, attribute::MESSAGING_OPERATION_TYPE), kind);
        assert_eq!(text(span, attribute::MESSAGING_DESTINATION_NAME), "tasks:acme");
        assert_eq!(text(span, attribute::MESSAGING_MESSAGE_ID), "event-1");
        assert_eq!(text(span, attribute::MESSAGING_MESSAGE_BODY_SIZE), "42");
    }
    assert_eq!(
        text(&spans["deliver tasks:acme"].attributes, "tidings.subscribers"),
        "3"
    );
    for span in spans.values() {
        for attribute in &span.attributes {
            let unwanted = ["code.", "thread.", "busy_ns", "idle_ns", "target", "otel."];
            assert!(
                !unwanted.iter().any(|start| attribute.key.starts_with(start)),
                "{}",
                attribute.key
            );
        }
    }
}

fn context(traceparent: &str) -> trace::Context {
    trace::Context {
        traceparent: traceparent.to_owned(),
        tracestate: String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of an attribute, as text; empty when it is not there.
fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key);
    match value.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
