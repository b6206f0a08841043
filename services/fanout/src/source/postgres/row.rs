//! A row of the outbox to an event.

use std::{collections::HashMap, time::SystemTime};

use serde_json::Value;
use tidings_proto::fanout as proto;

/// The most bytes of data of one row: what is beyond is not even read.
pub(super) const MAX_DATA: i64 = 8 << 20;

/// An array of arrays.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoPlainArray;

/// What a partition is known by: a hash of its key, so that it takes little room. Where two have the same, one waits with the
/// other.
pub(super) type Key = i64;

/// One row as it is in the table. Whatever may be null is so by mistake or on purpose.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: i64,
    /// Rows of one key are published in the order of their ids.
    pub(super) key: Key,
    pub(super) event_id: String,
    pub(super) kind: Option<String>,
    pub(super) source: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) time: Option<SystemTime>,
    pub(super) content_type: Option<String>,
    /// Of the data, in bytes.
    pub(super) size: i64,
    /// `None`: there is none, or it is too long.
    pub(super) data: Option<Vec<u8>>,
    /// JSON.
    pub(super) attributes: Option<String>,
    /// JSON.
    pub(super) tags: Option<String>,
    pub(super) channels: Result<Option<Vec<Option<String>>>, NoPlainArray>,
}

impl Row {
    /// The event that it says.
    ///
    /// # Errors
    /// Why it says none. What is wrong with an event is told where it is published.
    pub(super) fn event(&self) -> Result<proto::Event, String> {
        if self.event_id.is_empty() {
            return Err("event_id is empty; without it a repeat is not known".to_owned());
        }
        if self.size > MAX_DATA {
            return Err(format!(
                "data has {} bytes, at most {MAX_DATA} are allowed",
                self.size
            ));
        }
        let channels = self
            .channels
            .as_ref()
            .map_err(|_| "channels is an array of arrays")?;
        let channels = channels.iter().flatten();
        Ok(proto::Event {
            id: self.event_id.clone(),
            r#type: self.kind.clone().unwrap_or_default(),
            source: self.source.clone().unwrap_or_default(),
            subject: self.subject.clone().unwrap_or_default(),
            time: self.time.map(Into::into),
            data_content_type: self.content_type.clone().unwrap_or_default(),
            data: self.data.clone().unwrap_or_default().into(),
            attributes: texts("attributes", self.attributes.as_deref())?,
            tags: texts("tags", self.tags.as_deref())?,
            channels: channels.map(|name| name.clone().unwrap_or_default()).collect(),
        })
    }
}

/// A JSON object of texts; numbers and booleans are texts that were not quoted, null is nothing.
fn texts(column: &str, json: Option<&str>) -> Result<HashMap<String, String>, String> {
    let parsed = json.map_or(Ok(Value::Null), serde_json::from_str);
    let members = match parsed {
        Ok(Value::Object(members)) => members,
        Ok(Value::Null) => return Ok(HashMap::new()),
        _ => return Err(format!("{column} is no JSON object")),
    };
    let mut texts = HashMap::with_capacity(members.len());
    for (name, value) in members {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                let name: String = name.chars().take(64).collect();
                return Err(format!("{column}.{name} is an array or an object, and no text"));
            }
        };
        texts.insert(name, text);
    }
    Ok(texts)
}

#[cfg(test)]
pub(super) fn test_row(id: i64, key: Key) -> Row {
    Row {
        id,
        key,
        event_id: format!("e{id}"),
        kind: Some("order.paid".to_owned()),
        source: None,
        subject: None,
        time: None,
        content_type: None,
        size: 0,
        data: None,
        attributes: None,
        tags: None,
        channels: Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn row() -> Row {
        test_row(1, 1)
    }

    #[test]
    fn a_row_is_an_event_by_the_names_of_its_columns() {
        let event = Row {
            source: Some("shop".to_owned()),
            subject: Some("42".to_owned()),
            time: Some(UNIX_EPOCH + Duration::from_millis(1500)),
            content_type: Some("application/json".to_owned()),
            size: 1,
            data: Some(b"3".to_vec()),
            attributes: Some(r#"{"tenant": "acme", "shard": 7, "vip": true, "x": null}"#.to_owned()),
            tags: Some(r#"{"kind": "paid"}"#.to_owned()),
            channels: Ok(Some(vec![Some("orders:42".to_owned())])),
            ..row()
        };
        let event = event.event().unwrap();
        assert_eq!((event.id.as_str(), event.source.as_str()), ("e1", "shop"));
        assert_eq!(
            (event.r#type.as_str(), event.subject.as_str()),
            ("order.paid", "42")
        );
        let time = event.time.unwrap();
        assert_eq!((time.seconds, time.nanos), (1, 500_000_000));
        assert_eq!(&event.data[..], b"3");
        let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
        assert_eq!(
            ["tenant", "shard", "vip", "x"].map(attribute),
            [Some("acme"), Some("7"), Some("true"), None]
        );
        assert_eq!(event.tags["kind"], "paid");
        assert_eq!(event.channels, ["orders:42"]);
    }

    #[test]
    fn what_is_no_event_is_told_by_its_column() {
        let wrong = |row: Row, part: &str| {
            let why = row.event().unwrap_err();
            assert!(why.contains(part), "{why}");
        };
        let text = |text: &str| Some(text.to_owned());
        wrong(
            Row {
                event_id: String::new(),
                ..row()
            },
            "event_id is empty",
        );
        wrong(
            Row {
                size: MAX_DATA + 1,
                ..row()
            },
            "data has 8388609 bytes",
        );
        wrong(
            Row {
                attributes: text("[]"),
                ..row()
            },
            "attributes is no JSON object",
        );
        wrong(
            Row {
                channels: Err(NoPlainArray),
                ..row()
            },
            "channels is an array of arrays",
        );
        wrong(
            Row {
                tags: text(r#"{"a": [1]}"#),
                ..row()
            },
            "tags.a is an array",
        );
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_row_is_an_event_or_told(
            attributes in proptest::option::of(".{0,20}"),
            tags in proptest::option::of(r#"\{"a": ("b"|1|null|\[\]|\{\})\}"#),
            channels in proptest::collection::vec(proptest::option::of(".{0,5}"), 0..3),
        ) {
            let _ = Row { attributes, tags, channels: Ok(Some(channels)), ..row() }.event();
        }
    }
}
