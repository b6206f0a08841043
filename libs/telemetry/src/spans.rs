//! What becomes of spans on their way to the collector, counted: a trace with holes says so nowhere else.
//!
//! The batch processor drops what does not fit into its queue, and tells nobody but its log. So the queue is bounded
//! here, one step before, where what is dropped can be counted.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use prometheus_client::metrics::{counter::Counter, family::Family};

/// By what became of them; as global as the subscriber that [`crate::init`] sets.
static SPANS: LazyLock<Family<Labels, Counter>> = LazyLock::new(|| {
    let spans = Family::default();
    // There from the start, so that the first that is lost is seen as an increase.
    for result in [EXPORTED, DROPPED, FAILED] {
        drop(spans.get_or_create(&label(result)));
    }
    spans
});

type Labels = [(&'static str, &'static str); 1];

/// The collector has it.
const EXPORTED: &str = "exported";
/// Too many waited.
const DROPPED: &str = "dropped";
/// The collector did not take it.
const FAILED: &str = "failed";

/// Spans that may wait, as the OpenTelemetry specification has it (`OTEL_BSP_MAX_QUEUE_SIZE`).
pub(crate) const QUEUE: usize = 2048;

/// The counts of the process, to be registered.
pub(crate) fn counts() -> Family<Labels, Counter> {
    SPANS.clone()
}

fn label(result: &'static str) -> Labels {
    [("result", result)]
}

fn count(result: &'static str, spans: usize) {
    SPANS.get_or_create(&label(result)).inc_by(spans as u64);
}

/// Sends spans in batches, of which at most `queue` wait or are under way.
#[derive(Debug)]
pub(crate) struct Bounded {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

impl Bounded {
    pub(crate) fn new<E: SpanExporter + 'static>(exporter: E, queue: usize) -> Self {
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = Counted {
            exporter,
            waiting: waiting.clone(),
        };
        let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config);
        Self {
            batches: batches.build(),
            waiting,
            queue,
        }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.queue {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            count(DROPPED, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what an exporter gets rid of, and what it does not.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        count(if result.is_ok() { EXPORTED } else { FAILED }, spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::{
        error::OTelSdkError,
        trace::{Sampler, SdkTracerProvider},
    };
    use parking_lot::Mutex;

    use super::*;

    /// Takes a batch when it is let, and says whether it liked it.
    #[derive(Debug)]
    struct Gate(Mutex<mpsc::Receiver<bool>>);

    impl SpanExporter for Gate {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            match self.0.lock().recv() {
                Ok(true) => Ok(()),
                _ => Err(OTelSdkError::InternalFailure("not taken".to_owned())),
            }
        }
    }

    fn counted() -> [u64; 3] {
        [EXPORTED, DROPPED, FAILED].map(|result| SPANS.get_or_create(&label(result)).get())
    }

    #[test]
    fn every_span_is_exported_dropped_or_failed_and_counted_so() {
        let (gate, opens) = mpsc::channel();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(Bounded::new(Gate(Mutex::new(opens)), 4))
            .build();
        let tracer = provider.tracer("test");
        let [exported, dropped, failed] = counted();
        let end_spans = |many: usize| (0..many).for_each(|_| tracer.start("span").end());
        end_spans(10);
        gate.send(true).unwrap();
        provider.force_flush().unwrap();
        assert_eq!(counted(), [exported + 4, dropped + 6, failed]);
        end_spans(2);
        gate.send(false).unwrap();
        let _ = provider.force_flush();
        assert_eq!(counted(), [exported + 4, dropped + 6, failed + 2]);
    }
}
