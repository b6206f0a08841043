//! What clients get of an event: the event itself as JSON, or its bare data.
//!
//! Rendered once per event and form, however many channels hear of it. The data is embedded as it came, never
//! parsed and written again.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::{Event, Format};

/// The form of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// `{"id", "type", "source", "time", "subject", "data"}`, without what the event does not have; the
    /// time in UTC, to the millisecond (RFC 3339).
    #[default]
    Event,
    /// The data alone, as the backend sent it.
    Data,
}

impl Payload {
    /// What it is called, as in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Data => "data",
        }
    }

    /// What a publication of `event` carries. JSON is on one line, as [`Format::Json`] promises.
    #[must_use]
    pub fn render(self, event: &Event) -> (Bytes, Format) {
        match self {
            Self::Event => (envelope(event), Format::Json),
            Self::Data if !event.has_json_data() => (event.data.clone(), Format::Binary),
            Self::Data if event.data.is_empty() => (Bytes::from_static(b"null"), Format::Json),
            Self::Data => (event.data.clone(), Format::Json),
        }
    }
}

/// The names are CloudEvents' (JSON format, section 3); extensions stay inside.
#[derive(Serialize)]
struct Envelope<'e> {
    id: &'e str,
    r#type: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'e str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'e str>,
    #[serde(flatten)]
    data: Data<'e>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'e> {
    None {},
    Json { data: &'e RawValue },
    Text { data: &'e str },
    Binary { data_base64: String },
}

fn envelope(event: &Event) -> Bytes {
    let envelope = Envelope {
        id: &event.id,
        r#type: &event.kind,
        source: &event.source,
        time: humantime::format_rfc3339_millis(event.time).to_string(),
        subject: event.subject.as_deref(),
        datacontenttype: (!event.has_json_data()).then_some(&event.data_content_type),
        data: Data::of(event),
    };
    serde_json::to_vec(&envelope)
        .expect("texts and JSON serialize")
        .into()
}

impl<'e> Data<'e> {
    fn of(event: &'e Event) -> Self {
        if event.data.is_empty() {
            return Self::None {};
        }
        if event.has_json_data()
            && let Ok(data) = serde_json::from_slice(&event.data)
        {
            return Self::Json { data };
        }
        match std::str::from_utf8(&event.data) {
            Ok(data) if event.data_content_type.starts_with("text/") => Self::Text { data },
            _ => Self::Binary {
                data_base64: BASE64_STANDARD.encode(&event.data),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;

    fn event(content_type: &str, data: &'static [u8]) -> Event {
        Event {
            id: "e1".to_owned(),
            kind: "task.created".to_owned(),
            source: "tasks".to_owned(),
            subject: Some("task/1".to_owned()),
            time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
            data_content_type: content_type.to_owned(),
            data: Bytes::from_static(data),
            attributes: BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]),
            tags: BTreeMap::new(),
        }
    }

    fn check(payload: Payload, event: &Event, expected: &str, format: Format) {
        let (data, found) = payload.render(event);
        assert_eq!(std::str::from_utf8(&data).unwrap(), expected);
        assert_eq!(found, format);
    }

    #[test]
    fn an_event_is_told_with_its_json_data_as_it_came() {
        check(
            Payload::Event,
            &event("application/json", br#"{"n": 1.0, "b": 12345678901234567890123}"#),
            r#"{"id":"e1","type":"task.created","source":"tasks","time":"2023-11-14T22:13:20.250Z","subject":"task/1","data":{"n": 1.0, "b": 12345678901234567890123}}"#,
            Format::Json,
        );
    }

    #[test]
    fn what_an_event_does_not_have_is_left_out() {
        let bare = Event {
            source: String::new(),
            subject: None,
            ..event("application/json", b"")
        };
        check(
            Payload::Event,
            &bare,
            r#"{"id":"e1","type":"task.created","time":"2023-11-14T22:13:20.250Z"}"#,
            Format::Json,
        );
        check(Payload::Data, &bare, "null", Format::Json);
    }

    #[test]
    fn data_that_is_not_json_is_told_as_text_or_base64() {
        let short = |content_type, data| Event {
            subject: None,
            source: String::new(),
            ..event(content_type, data)
        };
        check(
            Payload::Event,
            &short("text/plain; charset=utf-8", b"a\n\"b\""),
            r#"{"id":"e1","type":"task.created","time":"2023-11-14T22:13:20.250Z","datacontenttype":"text/plain; charset=utf-8","data":"a\n\"b\""}"#,
            Format::Json,
        );
        check(
            Payload::Event,
            &short("image/png", b"\x89PNG"),
            r#"{"id":"e1","type":"task.created","time":"2023-11-14T22:13:20.250Z","datacontenttype":"image/png","data_base64":"iVBORw=="}"#,
            Format::Json,
        );
    }

    #[test]
    fn bare_data_is_what_the_backend_sent() {
        check(
            Payload::Data,
            &event("application/vnd.x+json", b"[1]"),
            "[1]",
            Format::Json,
        );
        check(
            Payload::Data,
            &event("text/plain", b"hello"),
            "hello",
            Format::Binary,
        );
    }
}
