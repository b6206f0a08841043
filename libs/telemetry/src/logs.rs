//! Log lines on stderr, for people or for machines. A line that is said on the way of a traced event has its trace's id.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use serde::{Deserialize, Serialize};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{self, JsonFields, Writer},
    },
    registry::LookupSpan,
};

use crate::{Error, trace};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people, in colour on a terminal. Default.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The layer that writes the lines `filter` lets through to `writer`.
pub(crate) fn layer<S, W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, Error>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| Error::Filter {
            filter: filter.to_owned(),
            source,
        })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match format {
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal())
            .event_format(Traced(format::format(), LogFormat::Text))
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => lines
            .fmt_fields(JsonFields::new())
            .event_format(Traced(
                format::format().json().flatten_event(true).with_span_list(false),
                LogFormat::Json,
            ))
            .with_filter(filter)
            .boxed(),
    })
}

/// A line with the id of the trace that it is part of, if that is exported.
struct Traced<F>(F, LogFormat);

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // One relaxed load where nothing is exported.
        let Some(id) = trace::enabled().then(|| trace::id(&Span::current())).flatten() else {
            return self.0.format_event(ctx, to, event);
        };
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        match (self.1, line.strip_prefix('{')) {
            (LogFormat::Json, Some(rest)) => write!(to, "{{\"trace_id\":\"{id}\",{rest}"),
            _ => writeln!(to, "{} trace_id={id}", line.trim_end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one line at each of three levels.
    fn written(format: LogFormat, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::debug!("a detail");
            tracing::info!(client.id = "c1", "a client");
            tracing::warn!("a warning");
        });
        String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap()
    }

    #[test]
    fn the_filter_decides_which_lines_are_written() {
        assert_eq!(written(LogFormat::Json, "off"), "");
        assert_eq!(written(LogFormat::Json, "info").lines().count(), 2);
        assert_eq!(
            written(LogFormat::Json, "info,tidings_telemetry=debug")
                .lines()
                .count(),
            3
        );
        assert_eq!(
            written(LogFormat::Json, "debug,tidings_telemetry=warn")
                .lines()
                .count(),
            1
        );
    }

    #[test]
    fn a_json_line_has_its_message_and_fields_at_the_top() {
        let line = written(LogFormat::Json, "info");
        assert!(
            line.contains(r#""level":"INFO","message":"a client","client.id":"c1""#),
            "{line}"
        );
    }

    #[test]
    fn a_filter_that_cannot_be_understood_is_an_error_that_says_how_to_write_one() {
        let error = layer::<tracing_subscriber::Registry, _>(LogFormat::Text, "[", io::stderr);
        assert_eq!(
            error.err().unwrap().to_string(),
            "log filter `[`: invalid filter directive; \
             write a level, or levels by module: `info,tidings_hub=debug`"
        );
    }
}
