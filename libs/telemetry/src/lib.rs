//! What a process tells the people who run it: logs to stderr, traces by OTLP, metrics on request.
//!
//! [`init`] sets up logs and traces once per process; [`trace`] makes the spans that follow an event and
//! carries their context over gRPC and the bus as text; [`metrics`] is the registry that every component adds
//! its own families to. Nothing here knows what Tidings is about.

mod error;
mod export;
mod logs;
pub mod metrics;
mod spans;
pub mod trace;

use std::{collections::BTreeMap, io, thread, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Subscriber, subscriber::set_global_default};
use tracing_subscriber::{Layer as _, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _};

pub use error::Error;
pub use logs::LogFormat;
pub use metrics::{Latency, Metrics};

/// How long [`Telemetry::shutdown`] may take to hand over the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a process logs and traces.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the process is: `gateway`, `fanout`, `presence`, `standalone`. Traces call it `tidings-<service>`
    /// unless `OTEL_SERVICE_NAME` (or a `service.name` in `OTEL_RESOURCE_ATTRIBUTES`) says otherwise.
    pub service: String,
    /// Which one of its kind it is: `service.instance.id`.
    pub instance: String,
    /// How log lines look.
    pub log: LogFormat,
    /// Which lines are logged, as `tracing_subscriber::EnvFilter` writes it: `info`, `info,tidings_hub=debug`.
    /// It has no say in what is traced.
    pub filter: String,
    /// The `OTEL_*` variables; others are passed over. Traces are exported when `OTEL_EXPORTER_OTLP_ENDPOINT`
    /// or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is among them.
    ///
    /// Endpoint, headers, timeout, protocol, service name, resource attributes and sampler are taken from here.
    /// What remains (compression, `OTEL_BSP_*`, span limits) the SDK reads from the process's own environment,
    /// where a `.env` file does not reach.
    pub environment: BTreeMap<String, String>,
}

/// The process's logs and traces, set up.
#[derive(Debug)]
#[must_use = "the last spans are lost unless it is shut down"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs, and traces where a collector is configured. Once per process, inside a tokio runtime.
///
/// # Errors
///
/// When the filter or one of the `OTEL_*` variables is wrong, or it was called before. A collector that cannot
/// be reached is no error: the exporter logs it and tries again.
pub fn init(options: &Options) -> Result<Telemetry, Error> {
    let (subscriber, telemetry) = set_up(options, io::stderr)?;
    set_global_default(subscriber).map_err(|_| Error::AlreadySet)?;
    trace::set_enabled(telemetry.is_exporting());
    Ok(telemetry)
}

fn set_up<W>(options: &Options, writer: W) -> Result<(impl Subscriber + use<W>, Telemetry), Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let provider = export::provider(options)?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("tidings"))
            // Attributes nobody asked for: source locations, threads, busy and idle times, targets.
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            // Ours alone: the spans of h2, hyper and tonic would drown them, and the exporter's would trace itself.
            .with_filter(Targets::new().with_target("tidings", Level::INFO))
    });
    let subscriber =
        tracing_subscriber::registry()
            .with(traces)
            .with(logs::layer(options.log, &options.filter, writer)?);
    Ok((subscriber, Telemetry { provider }))
}

impl Telemetry {
    /// Whether traces are exported.
    #[must_use]
    pub fn is_exporting(&self) -> bool {
        self.provider.is_some()
    }

    /// Hands over the last spans and stops tracing, within five seconds. Call it last.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        trace::set_enabled(false);
        // It blocks its thread, and the exporter needs the runtime meanwhile. A thread of its own, which nobody waits for when
        // this is dropped; a runtime waits for its blocking tasks.
        let (done, flushed) = tokio::sync::oneshot::channel();
        let flush = move || drop(done.send(provider.shutdown_with_timeout(FLUSH_TIMEOUT)));
        if thread::Builder::new()
            .name("flush".to_owned())
            .spawn(flush)
            .is_err()
        {
            tracing::warn!("the last spans are lost: there is no thread to hand them over");
            return;
        }
        let flushed = flushed.await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans may be lost");
        }
    }
}
