//! Traces by OTLP over gRPC, set up from the standard `OTEL_*` variables.

use std::{borrow::Cow, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use percent_encoding::percent_decode_str;
use tonic::metadata::{MetadataKey, MetadataMap};

use crate::{
    Error, Options,
    spans::{Bounded, QUEUE},
};

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
        .with_span_processor(Bounded::new(exporter, queue(options)?))
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
    // Without what the exporter says: it repeats the URL, which may have a key in it.
    exporter.build().map_err(|_| Error::Variable {
        name: options.first(ENDPOINT).map_or(ENDPOINT[1], |(name, _)| name),
        problem: "it cannot be used; write a URL such as http://collector:4317".to_owned(),
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

/// The text without its percent escapes; unchanged where that would be no UTF-8.
fn percent_decoded(text: &str) -> String {
    percent_decode_str(text)
        .decode_utf8()
        .map_or_else(|_| text.to_owned(), Cow::into_owned)
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

/// How many spans may wait for the collector.
fn queue(options: &Options) -> Result<usize, Error> {
    const NAME: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
    let Some(text) = options.variable(NAME) else {
        return Ok(QUEUE);
    };
    match text.parse() {
        Ok(spans) if spans > 0 => Ok(spans),
        _ => Err(Error::Variable {
            name: NAME,
            problem: format!("`{text}` is no number of spans, 1 or more"),
        }),
    }
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

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;
    use crate::LogFormat;

    fn options<const N: usize>(environment: [(&str, &str); N]) -> Options {
        Options {
            service: "fanout".to_owned(),
            instance: "node-1".to_owned(),
            log: LogFormat::Text,
            filter: "info".to_owned(),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    #[track_caller]
    fn refuses<const N: usize>(environment: [(&str, &str); N], expected: &str) {
        let mut options = options(environment);
        options.environment.insert(
            "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            "http://localhost:4317".to_owned(),
        );
        assert_eq!(provider(&options).unwrap_err().to_string(), expected);
    }

    #[test]
    fn nothing_is_exported_without_a_collector_or_when_switched_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
        assert!(provider(&options([])).unwrap().is_none());
        assert!(
            provider(&options([("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]))
                .unwrap()
                .is_none()
        );
        assert!(
            provider(&options([endpoint, ("OTEL_SDK_DISABLED", "TRUE")]))
                .unwrap()
                .is_none()
        );
        assert!(
            provider(&options([endpoint, ("OTEL_TRACES_EXPORTER", "none")]))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_collector_without_a_runtime_is_an_error_and_no_panic() {
        refuses([], "traces can be exported only from inside a tokio runtime");
    }

    #[tokio::test]
    async fn a_variable_that_cannot_be_used_is_an_error_that_names_it() {
        refuses(
            [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
            "OTEL_EXPORTER_OTLP_PROTOCOL: `http/protobuf` is not spoken here; set `grpc`",
        );
        refuses(
            [("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")],
            "OTEL_EXPORTER_OTLP_TIMEOUT: `10s` is no number of milliseconds",
        );
        refuses(
            [(
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "authorization=ok,über=secret",
            )],
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS: `über` cannot be sent as a header; \
             write `name=value,name=value`",
        );
        refuses(
            [("OTEL_TRACES_SAMPLER", "xray")],
            "OTEL_TRACES_SAMPLER: `xray` is not known here; set `always_on`, `always_off` or `traceidratio`, \
             or one of them after `parentbased_`",
        );
        refuses(
            [
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "10"),
            ],
            "OTEL_TRACES_SAMPLER_ARG: `10` is no number from 0 to 1",
        );
        refuses(
            [("OTEL_BSP_MAX_QUEUE_SIZE", "0")],
            "OTEL_BSP_MAX_QUEUE_SIZE: `0` is no number of spans, 1 or more",
        );
        refuses(
            [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "not a url")],
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: it cannot be used; write a URL such as http://collector:4317",
        );
    }

    #[test]
    fn the_sampler_is_the_one_that_is_named() {
        let named = |name, arg| {
            let environment = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)];
            format!("{:?}", sampler(&options(environment)).unwrap())
        };
        assert_eq!(
            format!("{:?}", sampler(&options([])).unwrap()),
            "ParentBased(AlwaysOn)"
        );
        assert_eq!(named("always_off", ""), "AlwaysOff");
        assert_eq!(named("traceidratio", ""), "TraceIdRatioBased(1.0)");
        assert_eq!(
            named("parentbased_traceidratio", "0.25"),
            "ParentBased(TraceIdRatioBased(0.25))"
        );
    }

    #[test]
    fn a_service_is_named_by_its_role_then_its_attributes_then_its_own_variable() {
        let name = |environment: &[(&str, &str)]| {
            let mut options = options([]);
            options.environment = environment
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            resource(&options)
                .get(&Key::new("service.name"))
                .unwrap()
                .to_string()
        };
        let attributes = (
            "OTEL_RESOURCE_ATTRIBUTES",
            "broken,service.name=from%2Dattributes",
        );
        assert_eq!(name(&[]), "tidings-fanout");
        assert_eq!(name(&[attributes]), "from-attributes");
        assert_eq!(name(&[attributes, ("OTEL_SERVICE_NAME", "own")]), "own");
    }
}
