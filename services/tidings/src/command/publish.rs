//! `tidings publish`: a backend's publish, over gRPC.

mod answer;

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _},
    time::Duration,
};

use anyhow::Context as _;
use tidings_core::{Channel, Secret};
use tidings_proto::fanout::{Event, PublishRequest, fanout_client::FanoutClient};
use tidings_telemetry::trace;
use tonic::{Request, metadata::MetadataValue};
use tracing::{Instrument as _, field::Empty, info_span};
use uuid::Uuid;

use super::{Global, tls::Tls};
use crate::{doors::Doors, failure::Failure};

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Publish one event, as a backend does, and say what became of it
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// What happened, in segments separated by dots: task.created
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// The event's data, as JSON; @FILE reads a file, - reads stdin
    #[arg(long, value_name = "JSON")]
    data: String,
    /// Publish to this channel, whatever the routes say; may be repeated
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<Channel>,
    /// Who says so
    #[arg(long, default_value = "tidings-cli")]
    source: String,
    /// Repeat it when you publish the same event again [default: a new one]
    #[arg(long, default_value = "", hide_default_value = true)]
    id: String,
    /// What the event is about
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// A CloudEvents extension, which routes may name; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// The backends' door [default: this machine's, as configured: http://127.0.0.1:9000]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The API key, if one is needed [env: TIDINGS_API_KEY]
    #[arg(long, value_name = "KEY")]
    key: Option<Secret>,
    #[command(flatten)]
    tls: Tls,
}

impl Publish {
    pub(super) async fn run(mut self, global: &Global) -> Result<(), Failure> {
        let source = global.source()?;
        let server = match &self.server {
            Some(server) => server.clone(),
            None => Doors::load(&source)?.reach().backends_url(),
        };
        let tls = std::mem::take(&mut self.tls);
        let endpoint = tls.endpoint(&server, "--server")?;
        let key = self
            .key
            .as_ref()
            .map(Secret::expose)
            .or_else(|| source.environment.get("TIDINGS_API_KEY"));
        let key = key
            .map(|key| format!("Bearer {key}").parse::<MetadataValue<_>>())
            .transpose();
        let key = key.map_err(|_| Failure::usage("--key: an API key has visible ASCII characters only"))?;
        let mut request = Request::new(PublishRequest {
            event: Some(self.event()?),
        });
        request.set_timeout(DEADLINE);
        if let Some(mut key) = key {
            key.set_sensitive(true);
            request.metadata_mut().insert("authorization", key);
        }

        let telemetry = global.telemetry(&source.environment, "publish", Uuid::new_v4())?;
        let sent = async {
            let channel = endpoint.connect().await.with_context(|| {
                format!("cannot reach the backends' door at {server}; is a node running there? --server names another")
            })?;
            // The root of the trace that ends at the clients' sockets.
            let span = info_span!("publish", otel.name = "tidings publish", otel.kind = "client", otel.status_code = Empty);
            trace::inject_headers(&span, None, request.metadata_mut().as_mut());
            let answer = FanoutClient::new(channel).publish(request).instrument(span.clone()).await;
            if answer.is_err() {
                span.record("otel.status_code", "ERROR");
            }
            answer.map_err(|status| {
                let hint = tls.hint(&server, &status);
                Failure::runtime(answer::refused(&status) + hint)
            })
        }
        .await;
        // Said at once: handing over the spans may take seconds.
        let said = sent.and_then(|answer| {
            let answer = answer.into_inner();
            print!("{}", answer::accepted(&answer));
            answer::failures(&answer).map_or(Ok(()), |failures| Err(Failure::runtime(failures)))
        });
        telemetry.shutdown().await;
        said
    }

    fn event(self) -> Result<Event, Failure> {
        let data = read(&self.data)?;
        let attributes: HashMap<_, _> = self.attributes.into_iter().collect();
        // Chosen here, so that whoever is told to try again with it does not publish the event twice.
        let id = if self.id.is_empty() {
            Uuid::now_v7().to_string()
        } else {
            self.id
        };
        Ok(Event {
            id,
            r#type: self.kind,
            source: self.source,
            subject: self.subject,
            data: data.into(),
            attributes,
            channels: self.channels.iter().map(ToString::to_string).collect(),
            ..Event::default()
        })
    }
}

/// The data: as it was typed, from a file, or from stdin.
fn read(data: &str) -> Result<Vec<u8>, Failure> {
    if data == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read the data from stdin")?;
        return Ok(bytes);
    }
    match data.strip_prefix('@') {
        Some(path) => {
            fs::read(path).map_err(|error| Failure::usage(format!("--data: cannot read {path}: {error}")))
        }
        None => Ok(data.as_bytes().to_vec()),
    }
}

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn data_is_what_was_typed_or_what_a_file_has() {
        assert_eq!(read(r#"{"a":1}"#).unwrap(), br#"{"a":1}"#);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[1,2]").unwrap();
        assert_eq!(read(&format!("@{}", file.path().display())).unwrap(), b"[1,2]");
        let Err(Failure::Usage(message)) = read("@/nowhere/data.json") else {
            panic!("there is no such file");
        };
        assert!(
            message.starts_with("--data: cannot read /nowhere/data.json: "),
            "{message}"
        );
    }

    #[test]
    fn an_attribute_is_split_at_its_first_equals_sign() {
        assert_eq!(
            attribute("tenant=a=b").unwrap(),
            ("tenant".to_owned(), "a=b".to_owned())
        );
        assert!(attribute("tenant").is_err() && attribute("=x").is_err());
    }
}
