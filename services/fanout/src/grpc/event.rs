//! `PublishRequest` to [`Event`]: everything that can be wrong with one is found here and nowhere else.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tidings_broker::Once;
use tidings_core::{Channel, Event};
use tidings_proto::fanout as proto;
use tonic_types::FieldViolation;
use uuid::Uuid;

use super::wrong::{MAX_NAME, Wrong};
use crate::{
    once,
    template::{MAX_CHANNELS, is_attribute_name},
};

/// Of `source`, `subject` and each attribute and tag, in bytes.
const MAX_TEXT: usize = 1024;
const MAX_ATTRIBUTES: usize = 64;
/// Each publication carries them, to each subscriber.
const MAX_TAGS: usize = 16;

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
    let mut wrong = Wrong::default();
    let Some(event) = request.event else {
        wrong.add("event", "is required");
        return Err(wrong.into_violations());
    };
    wrong.kind(&event.r#type);
    wrong.text("event.id", &event.id, MAX_NAME);
    wrong.text("event.source", &event.source, MAX_TEXT);
    wrong.text("event.subject", &event.subject, MAX_TEXT);
    let content_type = wrong.content_type("event.data_content_type", event.data_content_type);
    let time = event
        .time
        .and_then(|time| wrong.time("event.time", time))
        .unwrap_or_else(|| to_the_millisecond(now));
    let attributes = wrong.attributes(event.attributes);
    let tags = wrong.tags(event.tags);
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
        tags,
    };
    if event.has_json_data() {
        event.data = wrong.json("event.data", event.data);
    }
    wrong.nothing()?;
    let once = named.then(|| once::of(&event, key));
    Ok(Accepted {
        event,
        channels,
        once,
    })
}

/// Tags of what is published without an event around it, by the same rules.
pub(crate) fn tags(tags: HashMap<String, String>) -> Result<BTreeMap<String, String>, Vec<FieldViolation>> {
    let mut wrong = Wrong::default();
    let tags = wrong.tags(tags);
    wrong.nothing()?;
    Ok(tags)
}

impl Wrong {
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

    fn tags(&mut self, tags: HashMap<String, String>) -> BTreeMap<String, String> {
        let field = "event.tags";
        if tags.len() > MAX_TAGS {
            self.add(
                field,
                format!("are {}, at most {MAX_TAGS} are allowed", tags.len()),
            );
            return BTreeMap::new();
        }
        for (name, value) in &tags {
            if name.is_empty() {
                self.add(field, "a tag needs a name");
            }
            self.text(field, name, MAX_NAME);
            self.text(field, value, MAX_TEXT);
        }
        tags.into_iter().collect()
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
}

/// As exact as clients get it.
fn to_the_millisecond(time: SystemTime) -> SystemTime {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::new(since_epoch.as_secs(), since_epoch.subsec_millis() * 1_000_000)
}

#[cfg(test)]
mod tests;
