//! A publish as a trace shows it. One test in a process of its own, because tracing is set up once per process.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use prometheus_client::registry::Registry;
use tidings_broker::{Broker, Incoming};
use tidings_core::{Channel, Namespaces};
use tidings_fanout::{Config, Deps, Fanout};
use tidings_proto::fanout as proto;
use tidings_runtime::{Shutdown, serve};
use tidings_telemetry::{LogFormat, Options};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Keeps the spans that it is sent.
struct Collector(mpsc::Sender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            self.0
                .try_send(span)
                .map_err(|_| Status::cancelled("the test is over"))?;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn a_publish_is_one_trace_from_the_caller_to_every_publication() {
    let shutdown = Shutdown::new();
    let (sender, mut spans) = mpsc::channel(100);
    let listener = serve::bind("collector", (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let collector = listener.local_addr().unwrap();
    let router = tonic::service::Routes::new(TraceServiceServer::new(Collector(sender))).into_axum_router();
    drop(shutdown.spawn(serve::serve(
        listener,
        router,
        serve::Limits::default(),
        shutdown.clone(),
    )));
    let telemetry = tidings_telemetry::init(&Options {
        service: "fanout".to_owned(),
        instance: "node-1".to_owned(),
        log: LogFormat::Text,
        filter: "off".to_owned(),
        environment: BTreeMap::from([(
            "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            format!("http://{collector}"),
        )]),
    })
    .unwrap();

    let broker = Broker::memory();
    let (sender, mut heard) = mpsc::channel(100);
    let subscriber = broker.subscriber(Arc::new(move |incoming| {
        if let Incoming::Publication(channel, publication) = incoming {
            let trace = publication.trace.expect("a traced publication");
            sender
                .try_send((channel.to_string(), trace.traceparent))
                .expect("room");
        }
    }));
    for name in ["tasks:1", "tasks:2", "many:0", "many:16"] {
        subscriber
            .subscribe(&Channel::parse(name).unwrap())
            .await
            .unwrap();
    }
    let config = Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        insecure: true,
        ..Config::default()
    };
    let deps = Deps {
        node: "test".to_owned(),
        broker: broker.clone(),
        namespaces: Namespaces::default().with_undeclared_open(),
        presence: None,
    };
    let fanout = Fanout::bind(&config, &[], deps, &mut Registry::default()).unwrap();
    let address = fanout.local_addr();
    drop(shutdown.spawn(fanout.run(shutdown.clone())));

    let mut client = proto::fanout_client::FanoutClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let many = (0..17).map(|number| format!("many:{number}")).collect();
    for channels in [
        vec!["tasks:1".to_owned(), "tasks:2".to_owned()],
        many,
        vec![" ".to_owned()],
    ] {
        let event = proto::Event {
            r#type: "task.created".to_owned(),
            channels,
            ..proto::Event::default()
        };
        let mut request = Request::new(proto::PublishRequest { event: Some(event) });
        let traceparent = format!("00-{TRACE}-{CALLER}-01");
        request
            .metadata_mut()
            .insert("traceparent", traceparent.parse().unwrap());
        // The last is refused; its span says so.
        let _ = client.publish(request).await;
    }
    telemetry.shutdown().await;
    shutdown.request();

    let spans: Vec<Span> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
    let calls: BTreeSet<_> = spans
        .iter()
        .filter(|span| span.name == "tidings.fanout.v1.Fanout/Publish")
        .inspect(|span| assert_eq!(hex(&span.parent_span_id), CALLER))
        .map(|span| (attribute(span, "rpc.response.status_code"), hex(&span.span_id)))
        .collect();
    let codes: Vec<_> = calls.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["INVALID_ARGUMENT", "OK", "OK"]);

    let sent: BTreeMap<_, _> = spans
        .iter()
        .filter_map(|span| Some((span.name.strip_prefix("publish ")?.to_owned(), span)))
        .collect();
    assert_eq!(
        sent.keys().collect::<Vec<_>>(),
        ["(17 channels)", "tasks:1", "tasks:2"]
    );
    for span in sent.values() {
        let parent = hex(&span.parent_span_id);
        assert!(
            calls.iter().any(|(code, id)| code == "OK" && *id == parent),
            "{}",
            span.name
        );
    }
    let heard: BTreeMap<_, _> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    for (channel, span) in [
        ("tasks:1", "tasks:1"),
        ("tasks:2", "tasks:2"),
        ("many:0", "(17 channels)"),
        ("many:16", "(17 channels)"),
    ] {
        let span = hex(&sent[span].span_id);
        assert_eq!(heard[channel], format!("00-{TRACE}-{span}-01"), "{channel}");
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key);
    match attribute.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    }
}
