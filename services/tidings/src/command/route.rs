//! `tidings route test`: what the routes of the configuration would do with an event, and why.

use std::{collections::BTreeMap, fs, io::Read as _, time::SystemTime};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tidings_core::{Event, event::DEFAULT_CONTENT_TYPE, json};

use super::Global;
use crate::{config::Config, failure::Failure};

/// What to do with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Route {
    /// Say what would become of an event: which routes match, which channels hear of it, and why others do not. Nothing is
    /// published. Exits with 1 when no channel would
    Test {
        /// The event in JSON, as in CloudEvents: {"type": "task.created", "data": {…}}; - reads stdin
        #[arg(long, value_name = "FILE")]
        event: String,
    },
}

/// An event as people write it: CloudEvents 1.0 in JSON, where only `type` is required. Whatever else is an extension.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    id: String,
    r#type: String,
    #[serde(default)]
    source: String,
    subject: Option<String>,
    datacontenttype: Option<String>,
    data: Option<Box<RawValue>>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(flatten)]
    extensions: BTreeMap<String, Value>,
}

impl Route {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let Self::Test { event } = self;
        let config = Config::load(&global.source()?)?;
        let explanation = config
            .routes()?
            .explain(&parse(&read(&event)?)?, &config.namespaces()?);
        print!("{explanation}");
        if explanation.is_published() {
            Ok(())
        } else {
            Err(Failure::runtime("no channel would hear of this event"))
        }
    }
}

fn read(path: &str) -> Result<String, Failure> {
    if path == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the event from stdin")?;
        return Ok(text);
    }
    fs::read_to_string(path).map_err(|error| Failure::usage(format!("--event: cannot read {path}: {error}")))
}

fn parse(text: &str) -> Result<Event, Failure> {
    let written: Written = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("--event: this is no event in JSON: {error}")))?;
    // CloudEvents' own attributes that routes cannot name.
    let own = ["specversion", "time", "dataschema", "data_base64"];
    let extensions = written
        .extensions
        .into_iter()
        .filter(|(name, _)| !own.contains(&name.as_str()));
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let data = written
        .data
        .map(|data| data.get().as_bytes().to_vec())
        .unwrap_or_default();
    Ok(Event {
        id: written.id,
        kind: written.r#type,
        source: written.source,
        subject: written.subject,
        time: SystemTime::now(),
        data_content_type: written
            .datacontenttype
            .unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned()),
        data: json::one_line(data.into()),
        attributes: extensions.map(|(name, value)| (name, text(value))).collect(),
        tags: written.tags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_cloudevents_write_it() {
        let event = parse(
            r#"{"specversion": "1.0", "id": "e1", "type": "task.created", "source": "tasks", "tenant": "acme", "n": 1,
                "data": {"assignee": "ada"}}"#,
        )
        .unwrap();
        assert_eq!(
            (event.id.as_str(), event.kind.as_str(), event.source.as_str()),
            ("e1", "task.created", "tasks")
        );
        assert_eq!(event.data, r#"{"assignee": "ada"}"#);
        let attributes =
            [("n", "1"), ("tenant", "acme")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(event.attributes, attributes.into());

        let Err(Failure::Usage(message)) = parse("{}") else {
            panic!("it has no type")
        };
        assert!(message.contains("missing field `type`"), "{message}");
    }
}
