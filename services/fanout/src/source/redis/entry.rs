//! A stream's entry to an event.
//!
//! Either its field `event` has a CloudEvent in JSON, or its fields are the attributes of one, as in CloudEvents' binary mode,
//! and `data` is the data. Beside both, `channels` and `tags` may say in JSON what the event's fields of these names say.
//! An event that has no id has the entry's, and one that has no source the stream's name: so every entry can be repeated. One
//! that was dead-lettered and is put back keeps the id of its first entry, so that channels that have it do not get it again.

use std::collections::HashMap;

use bytes::Bytes;
use redis::Value;
use serde::de::DeserializeOwned;
use tidings_proto::fanout as proto;

use crate::http::cloudevents;

/// What fields are called that tell why an entry was dead-lettered. But for [`FIRST`], they are of no account when it is put
/// back.
pub(super) const ASIDE: &str = "tidings-";

/// The id that a dead-lettered entry had when it was first in the stream.
pub(super) const FIRST: &str = "tidings-entry";

/// The place of an entry in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId(u64, u64);

impl EntryId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ms, sequence) = text.split_once('-')?;
        Some(Self(ms.parse().ok()?, sequence.parse().ok()?))
    }
}

/// The longest name of a field that is repeated to whoever looks.
const MAX_NAME: usize = 64;

/// One entry as it is in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// `None`: it was deleted or trimmed, and only the group remembers it.
    pub(super) fields: Option<Vec<(Bytes, Bytes)>>,
}

impl Entry {
    /// Reads a list of entries; what is none is left out.
    pub(super) fn list(value: Value) -> Vec<Self> {
        match value {
            Value::Array(entries) => entries.into_iter().filter_map(Self::read).collect(),
            _ => Vec::new(),
        }
    }

    fn read(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
        let id = String::from_utf8(bytes(id)?.into()).ok()?;
        let fields = match fields {
            Value::Array(flat) => {
                let mut flat = flat.into_iter();
                let mut pairs = Vec::with_capacity(flat.len() / 2);
                while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                    pairs.push((bytes(name)?, bytes(value)?));
                }
                Some(pairs)
            }
            _ => None,
        };
        Some(Self { id, fields })
    }

    /// Its id when it was first in the stream: a dead-lettered entry that is put back gets another.
    pub(super) fn first_id(&self) -> &str {
        let mut fields = self.fields.iter().flatten();
        let first = fields.find(|(name, _)| &name[..] == FIRST.as_bytes());
        let first = first.and_then(|(_, value)| text(value).ok());
        first
            .filter(|id| EntryId::parse(id).is_some())
            .unwrap_or(&self.id)
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let fields = self.fields.iter().flatten();
        fields.map(|(name, value)| name.len() + value.len() + 64).sum()
    }

    /// The event that it says, of the stream of this name.
    ///
    /// # Errors
    /// Why it says none.
    pub(super) fn event(&self, stream: &str) -> Result<proto::Event, String> {
        let mut attributes = Vec::new();
        let (mut event, mut data, mut channels, mut tags) = (None, None, None, None);
        for (name, value) in self.fields.iter().flatten() {
            let name = text(name).map_err(|why| format!("the name of a field {why}"))?;
            if name.starts_with(ASIDE) {
                continue;
            }
            let place = match name {
                "event" => &mut event,
                "data" => &mut data,
                "channels" => &mut channels,
                "tags" => &mut tags,
                _ => {
                    let value = text(value).map_err(|why| format!("{} {why}", short(name)))?;
                    attributes.push((name.to_owned(), value.to_owned()));
                    continue;
                }
            };
            if place.replace(value).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        let mut read = match (event, data) {
            (Some(_), Some(_)) => {
                return Err("event and data are both there; the data is in the event".to_owned());
            }
            (Some(event), None) => {
                if let Some((name, _)) = attributes.first() {
                    return Err(format!("{} is beside event; it is to be in it", short(name)));
                }
                cloudevents::structured(event).map_err(|why| format!("event: {why}"))?
            }
            (None, data) => {
                let mut default = |name: &str, value: &str| {
                    if attributes.iter().all(|(has, _)| has != name) {
                        attributes.push((name.to_owned(), value.to_owned()));
                    }
                };
                default("id", self.first_id());
                default("source", stream);
                cloudevents::apart(attributes, data.cloned().unwrap_or_default())?
            }
        };
        read.channels = json(channels, "channels", "an array of names")?;
        read.tags = json::<HashMap<_, _>>(tags, "tags", "an object of texts")?;
        Ok(read)
    }
}

/// A field in JSON; nothing where there is none.
fn json<T: DeserializeOwned + Default>(field: Option<&Bytes>, name: &str, what: &str) -> Result<T, String> {
    field.map_or_else(
        || Ok(T::default()),
        |field| serde_json::from_slice(field).map_err(|why| format!("{name} is not {what} in JSON: {why}")),
    )
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) => Some(text.into_bytes().into()),
        _ => None,
    }
}

fn text(bytes: &Bytes) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")
}

fn short(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let pair = |&(name, value): &(&str, &str)| {
            (
                Bytes::copy_from_slice(name.as_bytes()),
                Bytes::copy_from_slice(value.as_bytes()),
            )
        };
        Entry {
            id: "7-1".to_owned(),
            fields: Some(fields.iter().map(pair).collect()),
        }
    }

    #[track_caller]
    fn wrong(fields: &[(&str, &str)], part: &str) {
        let why = entry(fields).event("orders").unwrap_err();
        assert!(why.contains(part), "{why}");
    }

    #[test]
    fn fields_are_the_attributes_of_an_event() {
        let event = entry(&[
            ("id", "e1"),
            ("source", "shop"),
            ("type", "order.paid"),
            ("subject", "42"),
            ("tenant", "acme"),
            ("channels", r#"["orders:42"]"#),
            ("tags", r#"{"kind":"paid"}"#),
            ("data", r#"{"total":3}"#),
        ]);
        let event = event.event("orders").unwrap();
        assert_eq!((event.id.as_str(), event.source.as_str()), ("e1", "shop"));
        assert_eq!(
            (event.r#type.as_str(), event.subject.as_str()),
            ("order.paid", "42")
        );
        assert_eq!(event.attributes["tenant"], "acme");
        assert_eq!(event.channels, ["orders:42"]);
        assert_eq!(event.tags["kind"], "paid");
        assert_eq!(&event.data[..], br#"{"total":3}"#);
    }

    #[test]
    fn an_entry_can_be_repeated_though_nobody_gave_it_an_id() {
        let event = entry(&[("type", "order.paid")]).event("orders").unwrap();
        assert_eq!((event.id.as_str(), event.source.as_str()), ("7-1", "orders"));
    }

    #[test]
    fn a_cloud_event_in_json_is_an_event() {
        let json =
            r#"{"specversion":"1.0","id":"e1","source":"/shop","type":"order.paid","data":{"total":3}}"#;
        let event = entry(&[("event", json), ("channels", r#"["orders:42"]"#)]);
        let event = event.event("orders").unwrap();
        assert_eq!((event.id.as_str(), event.source.as_str()), ("e1", "/shop"));
        assert_eq!(event.channels, ["orders:42"]);
        assert_eq!(&event.data[..], br#"{"total":3}"#);
    }

    #[test]
    fn why_it_was_set_aside_is_of_no_account_when_it_is_put_back() {
        let event = entry(&[("type", "a"), ("tidings-reason", "b")])
            .event("s")
            .unwrap();
        assert!(event.attributes.is_empty());
    }

    #[test]
    fn what_is_no_event_is_told_by_its_field() {
        wrong(&[("id", "e1")], "type is required");
        wrong(&[("type", "a"), ("type", "b")], "type is there twice");
        wrong(&[("type", "a"), ("Tenant", "b")], "Tenant is no name");
        wrong(
            &[("type", "a"), ("channels", "orders:42")],
            "channels is not an array",
        );
        wrong(&[("event", "{")], "event: ");
        wrong(&[("event", "{}"), ("data", "1")], "event and data");
        wrong(&[("event", "{}"), ("id", "1")], "id is beside event");
        wrong(&[("type", "a"), ("time", "now")], "time is no time");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            prop::collection::vec(any::<u8>(), 0..16).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop::collection::vec(inner, 0..6).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn whatever_a_server_answers_is_entries_or_none(value in any_value()) {
            for entry in Entry::list(value) {
                let _ = entry.event("s");
            }
        }

        #[test]
        fn fields_of_any_bytes_are_an_event_or_told(
            fields in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..9)), 0..9)
        ) {
            let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let _ = Entry { id: "1-1".to_owned(), fields: Some(fields) }.event("s");
        }
    }
}
