//! The JSON event format, and batches of it. Data is taken over as it was written, not parsed and written anew.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Error, MAX_BATCH, Read,
    attributes::{Attributes, MAX_ATTRIBUTES, is_own},
};

/// Reads one event.
pub(super) fn one(body: &Bytes) -> Result<Read, Error> {
    let members: Members<'_> = parse(body)?;
    Ok(members.event(body))
}

/// Reads a batch, which may be empty.
pub(super) fn batch(body: &Bytes) -> Result<Vec<Read>, Error> {
    let Batch(events) = parse(body)?;
    let events = events.ok_or(Error::TooMany)?;
    Ok(events.iter().map(|members| members.event(body)).collect())
}

fn parse<'de, T: Deserialize<'de>>(body: &'de Bytes) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Json(error.to_string()))
}

/// The members of a JSON object in order, their values as they were written. Names may repeat.
struct Members<'a>(Vec<(String, &'a RawValue)>);

/// The events of a batch; `None`: too many.
struct Batch<'a>(Option<Vec<Members<'a>>>);

impl Members<'_> {
    fn event(&self, body: &Bytes) -> Read {
        let mut attributes = Attributes::default();
        let (mut data, mut base64) = (None, None);
        for (name, value) in &self.0 {
            let place = match name.as_str() {
                "data" => &mut data,
                "data_base64" => &mut base64,
                _ => {
                    attribute(&mut attributes, name, value);
                    continue;
                }
            };
            if place.replace(*value).is_some() {
                attributes.wrong(name, "is there twice");
            }
        }
        // Unlike other members, data that is null is the value null.
        let base64 = base64.filter(|value| value.get() != "null");
        let data = match (data, base64) {
            (Some(_), Some(_)) => {
                attributes.wrong(
                    "data_base64",
                    "is there beside data; an event has one or the other",
                );
                Bytes::new()
            }
            (Some(data), None) => written(&mut attributes, data, body),
            (None, Some(data)) => encoded(&mut attributes, data),
            (None, None) => Bytes::new(),
        };
        attributes.with(data)
    }
}

/// Section 2.2: texts, booleans and integers have canonical forms; null is as good as nothing.
fn attribute(attributes: &mut Attributes, name: &str, value: &RawValue) {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => {}
        Some(b'"') => match from(value) {
            Some(text) => attributes.set(name, text),
            None => attributes.wrong(name, "is no text in Unicode"),
        },
        _ if is_own(name) => attributes.wrong(name, "is no text"),
        Some(b't' | b'f') => attributes.set(name, text.to_owned()),
        Some(b'-' | b'0'..=b'9') => match text.parse::<i32>() {
            Ok(number) => attributes.set(name, number.to_string()),
            Err(_) => attributes.wrong(name, "is a number, but no integer of 32 bits"),
        },
        _ => attributes.wrong(
            name,
            "is an array or an object; attributes are texts, integers or booleans",
        ),
    }
}

/// Section 3.1.2: JSON is what it is; anything else stands in a text.
fn written(attributes: &mut Attributes, data: &RawValue, body: &Bytes) -> Bytes {
    if declares_json(attributes.content_type()) {
        return body.slice_ref(data.get().as_bytes());
    }
    let text: Option<String> = from(data);
    text.map(Bytes::from).unwrap_or_else(|| {
        let kind = attributes.content_type().to_owned();
        attributes.wrong(
            "data",
            format!("is no text, as data of the type {kind:?} has to be"),
        );
        Bytes::new()
    })
}

fn encoded(attributes: &mut Attributes, data: &RawValue) -> Bytes {
    let text: Option<String> = from(data);
    let bytes = text.and_then(|text| BASE64_STANDARD.decode(text).ok());
    bytes.map(Bytes::from).unwrap_or_else(|| {
        attributes.wrong("data_base64", "is no text in Base64 (RFC 4648, section 4)");
        Bytes::new()
    })
}

/// Section 3.1.1: `*/json` and `*/*+json`; nothing is JSON too.
fn declares_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media_type
        .split_once('/')
        .map_or(media_type, |(_, subtype)| subtype);
    let subtype = subtype.to_ascii_lowercase();
    content_type.is_empty() || subtype == "json" || subtype.ends_with("+json")
}

fn from<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event, which is a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MAX_ATTRIBUTES {
                        return Err(A::Error::custom(format!(
                            "an event has more than {MAX_ATTRIBUTES} members"
                        )));
                    }
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Self)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Option<Vec<Members<'de>>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a batch, which is a JSON array of events")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut events = Vec::new();
                while let Some(event) = array.next_element()? {
                    if events.len() < MAX_BATCH {
                        events.push(event);
                    } else {
                        while array.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                        return Ok(None);
                    }
                }
                Ok(Some(events))
            }
        }
        deserializer.deserialize_seq(Array).map(Self)
    }
}
