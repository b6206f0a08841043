//! A collector that keeps what it is sent, over real OTLP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Request, Response, Status, transport::Server};

use crate::eventually::eventually;

/// A span and the service that it is of.
type Received = (String, Span);

/// A collector. Ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Received>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Collector {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let spans = Arc::<Mutex<Vec<_>>>::default();
        let server = Server::builder().add_service(TraceServiceServer::new(Receiver(spans.clone())));
        let serving = TaskTracker::new().spawn(async move {
            let served = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
            served.expect("the collector serves");
        });
        Self {
            address,
            spans,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it has `count` spans of this name, each with the service that it is of.
    ///
    /// # Panics
    /// When there are never so many.
    pub async fn spans(&self, name: &str, count: usize) -> Vec<(String, Span)> {
        eventually(&format!("{count} spans are called {name:?}"), async || {
            let all = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
            let named: Vec<_> = all
                .iter()
                .filter(|(_, span)| span.name == name)
                .cloned()
                .collect();
            (named.len() >= count).then_some(named)
        })
        .await
    }
}

struct Receiver(Arc<Mutex<Vec<Received>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let service = resource
                .resource
                .map(|resource| text(&resource.attributes, "service.name"));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            all.extend(spans.map(|span| (service.clone().unwrap_or_default(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The value of an attribute, as text; empty when it is not there.
#[must_use]
pub fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key);
    match value.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
