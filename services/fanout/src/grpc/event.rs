//! `PublishRequest` to [`Event`]: everything that can be wrong with one is found here and nowhere else.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use prost_types::Timestamp;
use serde_json::value::RawValue;
use tidings_broker::Once;
use tidings_core::{Channel, Event, event::DEFAULT_CONTENT_TYPE, json};
use tidings_proto::fanout as proto;
use tonic_types::FieldViolation;
use uuid::Uuid;

use crate::{
    once,
    template::{MAX_CHANNELS, is_attribute_name},
};

/// Of `id`, `type` and `data_content_type`, in bytes.
const MAX_NAME: usize = 255;
/// Of `source`, `subject` and each attribute, in bytes.
const MAX_TEXT: usize = 1024;
const MAX_ATTRIBUTES: usize = 64;
/// The last second of the year 9999, the last that RFC 3339 can write.
const MAX_SECONDS: u64 = 253_402_300_799;
/// A thousand wrong channels need not be listed to be put right.
const MAX_VIOLATIONS: usize = 16;

/// CloudEvents' own attributes, whose names an extension must not have (section 3.1).
const RESERVED: [&str; 10] = [
    "data",
    "data_base64",
    "datacontenttype",
    "dataschema",
    "id",
    "source",
    "specversion",
    "subject",
    "time",
    "type",
];

/// A request that nothing is wrong with.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Its id and time made up where it has none.
    pub(super) event: Event,
    /// The explicit channels, each once.
    pub(super) channels: Vec<Channel>,
    /// By what a repeat is known; `None` when the id was made up here, because then nobody can repeat it.
    pub(super) once: Option<Once>,
}

/// Makes an event of a request that arrived `now` with the API key of this name.
///
/// # Errors
/// What is wrong, by field.
pub(super) fn check(
    request: proto::PublishRequest,
    key: Option<&str>,
    now: SystemTime,
) -> Result<Accepted, Vec<FieldViolation>> {
    let mut wrong = Wrong(Vec::new());
    let Some(event) = request.event else {
        wrong.add("event", "is required");
        return Err(wrong.0);
    };
    wrong.kind(&event.r#type);
    wrong.text("event.id", &event.id, MAX_NAME);
    wrong.text("event.source", &event.source, MAX_TEXT);
    wrong.text("event.subject", &event.subject, MAX_TEXT);
    let content_type = wrong.content_type(event.data_content_type);
    let time = wrong.time(event.time, now);
    let attributes = wrong.attributes(event.attributes);
    let channels = wrong.channels(&event.channels);

    let named = !event.id.is_empty();
    let mut event = Event {
        id: if named {
            event.id
        } else {
            Uuid::now_v7().to_string()
        },
        kind: event.r#type,
        source: event.source,
        subject: Some(event.subject).filter(|subject| !subject.is_empty()),
        time,
        data_content_type: content_type,
        data: event.data,
        attributes,
    };
    if event.has_json_data() {
        event.data = wrong.json(event.data);
    }
    if !wrong.0.is_empty() {
        return Err(wrong.0);
    }
    let once = named.then(|| once::of(&event, key));
    Ok(Accepted {
        event,
        channels,
        once,
    })
}

/// What has been found so far. Its checks return something usable whatever they find, so that one pass finds all.
struct Wrong(Vec<FieldViolation>);

impl Wrong {
    fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(FieldViolation::new(field, why));
        }
    }

    /// A text for people and logs: bounded, without control characters.
    fn text(&mut self, field: &str, text: &str, max: usize) {
        if text.len() > max {
            self.add(
                field,
                format!("is {} bytes long, at most {max} are allowed", text.len()),
            );
        } else if let Some(character) = text.chars().find(|character| character.is_control()) {
            self.add(field, format!("has the control character {character:?}"));
        }
    }

    fn kind(&mut self, kind: &str) {
        let field = "event.type";
        if kind.is_empty() {
            self.add(
                field,
                "is required: what happened, in segments separated by dots (\"task.created\")",
            );
        } else if kind.split('.').any(str::is_empty) {
            self.add(
                field,
                "has an empty segment: no dot may be first, last or next to another",
            );
        } else if kind.contains(char::is_whitespace) {
            self.add(field, "has white space in it");
        } else {
            self.text(field, kind, MAX_NAME);
        }
    }

    fn content_type(&mut self, content_type: String) -> String {
        if content_type.is_empty() {
            return DEFAULT_CONTENT_TYPE.to_owned();
        }
        let field = "event.data_content_type";
        self.text(field, &content_type, MAX_NAME);
        if !content_type.is_ascii() || !content_type.contains('/') {
            self.add(field, "is no media type (\"application/json\")");
        }
        content_type
    }

    fn time(&mut self, time: Option<Timestamp>, now: SystemTime) -> SystemTime {
        let Some(Timestamp { seconds, nanos }) = time else {
            return to_the_millisecond(now);
        };
        let seconds = u64::try_from(seconds)
            .ok()
            .filter(|&seconds| seconds <= MAX_SECONDS);
        let nanos = u32::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000);
        if let (Some(seconds), Some(nanos)) = (seconds, nanos) {
            return UNIX_EPOCH + Duration::new(seconds, nanos);
        }
        self.add(
            "event.time",
            "is outside the years 1970 to 9999, or its nanos are outside 0 to 999,999,999",
        );
        now
    }

    fn attributes(&mut self, attributes: HashMap<String, String>) -> BTreeMap<String, String> {
        let field = "event.attributes";
        if attributes.len() > MAX_ATTRIBUTES {
            self.add(
                field,
                format!("are {}, at most {MAX_ATTRIBUTES} are allowed", attributes.len()),
            );
            return BTreeMap::new();
        }
        let attributes = BTreeMap::from_iter(attributes);
        for (name, value) in &attributes {
            if !is_attribute_name(name) {
                let name: String = name.chars().take(64).collect();
                let why = format!("the name {name:?} is not 1 to 64 letters, digits, '_' and '-'");
                self.add(field, why);
            } else if RESERVED.contains(&name.as_str()) {
                self.add(
                    format!("{field}.{name}"),
                    "is a name of CloudEvents' own; set the event's field instead",
                );
            } else {
                self.text(&format!("{field}.{name}"), value, MAX_TEXT);
            }
        }
        attributes
    }

    fn channels(&mut self, names: &[String]) -> Vec<Channel> {
        if names.len() > MAX_CHANNELS {
            self.add(
                "event.channels",
                format!("are {}, at most {MAX_CHANNELS} are allowed", names.len()),
            );
            return Vec::new();
        }
        let mut seen = HashSet::with_capacity(names.len());
        let mut channels = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            match Channel::parse(name) {
                Ok(channel) if seen.insert(channel.clone()) => channels.push(channel),
                Ok(_) => {}
                Err(why) => self.add(format!("event.channels[{index}]"), why.to_string()),
            }
        }
        channels
    }

    /// Valid JSON on one line, or nothing at all: an event need not have data.
    fn json(&mut self, data: Bytes) -> Bytes {
        if data.is_empty() {
            return data;
        }
        // A raw value is checked in full, but nothing is built of it.
        if let Err(error) = serde_json::from_slice::<&RawValue>(&data) {
            let why = format!("is not JSON, which data_content_type says it is: {error}");
            self.add("event.data", why);
        } else if !json::depth_within(&data, json::MAX_DEPTH) {
            let why = format!("is nested more than {} arrays and objects deep", json::MAX_DEPTH);
            self.add("event.data", why);
        }
        json::one_line(data)
    }
}

/// As exact as clients get it.
fn to_the_millisecond(time: SystemTime) -> SystemTime {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::new(since_epoch.as_secs(), since_epoch.subsec_millis() * 1_000_000)
}

#[cfg(test)]
mod tests;
