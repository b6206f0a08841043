//! Traces by OTLP over gRPC, set up from the standard `OTEL_*` variables.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::metadata::{MetadataKey, MetadataMap};

use crate::{Error, Options};

const ENDPOINT: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const PROTOCOL: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// What makes and exports spans; `None` when no collector is configured, or it is switched off by
/// `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none`.
pub(crate) fn provider(options: &Options) -> Result<Option<SdkTracerProvider>, Error> {
    let Some((_, endpoint)) = options.first(ENDPOINT) else {
        return Ok(None);
    };
    let disabled = options
        .variable("OTEL_SDK_DISABLED")
        .is_some_and(|on| on.eq_ignore_ascii_case("true"));
    if disabled || options.variable("OTEL_TRACES_EXPORTER") == Some("none") {
        return Ok(None);
    }
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(Error::NoRuntime);
    }
    let exporter = exporter(options, endpoint)?;
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler(options)?)
        .with_resource(resource(options))
        .with_batch_exporter(exporter)
        .build();
    Ok(Some(provider))
}

impl Options {
    /// A variable's value; empty means not set, as the OpenTelemetry specification has it.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// The first of these variables that is set, and its value: the one for traces comes before the general one.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, &str)> {
        names
            .into_iter()
            .find_map(|name| Some((name, self.variable(name)?)))
    }
}

fn exporter(options: &Options, endpoint: &str) -> Result<SpanExporter, Error> {
    if let Some((name, protocol)) = options.first(PROTOCOL)
        && protocol != "grpc"
    {
        return Err(Error::Variable {
            name,
            problem: format!("`{protocol}` is not spoken here; set `grpc`"),
        });
    }
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_metadata(headers(options)?);
    if let Some((name, millis)) = options.first(TIMEOUT) {
        let millis = millis.parse().map_err(|_| Error::Variable {
            name,
            problem: format!("`{millis}` is no number of milliseconds"),
        })?;
        exporter = exporter.with_timeout(Duration::from_millis(millis));
    }
    exporter.build().map_err(|error| Error::Variable {
        name: options.first(ENDPOINT).map_or(ENDPOINT[1], |(name, _)| name),
        problem: error.to_string(),
    })
}

/// What the collector wants with every request, most often a key: `name=value,name=value`.
fn headers(options: &Options) -> Result<MetadataMap, Error> {
    let mut headers = MetadataMap::new();
    let Some((name, text)) = options.first(HEADERS) else {
        return Ok(headers);
    };
    // Without the value: it is a key.
    let wrong = |header: &str| Error::Variable {
        name,
        problem: format!("`{header}` cannot be sent as a header; write `name=value,name=value`"),
    };
    for (header, value) in pairs(text) {
        let key =
            MetadataKey::from_bytes(header.to_ascii_lowercase().as_bytes()).map_err(|_| wrong(header))?;
        headers.insert(key, value.parse().map_err(|_| wrong(header))?);
    }
    Ok(headers)
}

fn resource(options: &Options) -> Resource {
    let mut resource = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", format!("tidings-{}", options.service)),
        KeyValue::new("service.instance.id", options.instance.clone()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    if let Some(attributes) = options.variable("OTEL_RESOURCE_ATTRIBUTES") {
        resource = resource
            .with_attributes(pairs(attributes).map(|(key, value)| KeyValue::new(key.to_owned(), value)));
    }
    if let Some(name) = options.variable("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(name.to_owned());
    }
    resource.build()
}

/// The pairs of `key=value,key=value`, the values percent-decoded. What is no pair is passed over, as the
/// specification asks.
fn pairs(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim(), percent_decoded(value.trim())))
        .filter(|(key, _)| !key.is_empty())
}

/// The text with each `%41` as the byte it stands for; unchanged where that is not UTF-8.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn sampler(options: &Options) -> Result<Sampler, Error> {
    const NAME: &str = "OTEL_TRACES_SAMPLER";
    let parent_based = |root| Sampler::ParentBased(Box::new(root));
    Ok(match options.variable(NAME).unwrap_or("parentbased_always_on") {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio(options)?),
        "parentbased_always_on" => parent_based(Sampler::AlwaysOn),
        "parentbased_always_off" => parent_based(Sampler::AlwaysOff),
        "parentbased_traceidratio" => parent_based(Sampler::TraceIdRatioBased(ratio(options)?)),
        other => {
            let problem = format!(
                "`{other}` is not known here; set `always_on`, `always_off` or `traceidratio`, or one of them \
                 after `parentbased_`"
            );
            return Err(Error::Variable { name: NAME, problem });
        }
    })
}

fn ratio(options: &Options) -> Result<f64, Error> {
    const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
    let Some(text) = options.variable(NAME) else {
        return Ok(1.0);
    };
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(Error::Variable {
            name: NAME,
            problem: format!("`{text}` is no number from 0 to 1"),
        }),
    }
}
