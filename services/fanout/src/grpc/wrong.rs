//! What is wrong with a request, field by field, as it is found.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost_types::Timestamp;
use serde_json::value::RawValue;
use tidings_core::{event::DEFAULT_CONTENT_TYPE, json};
use tonic_types::FieldViolation;

/// Of names: ids, types, content types; in bytes.
pub(super) const MAX_NAME: usize = 255;
/// The last second of the year 9999, the last that RFC 3339 can write.
const MAX_SECONDS: u64 = 253_402_300_799;
/// A thousand wrong channels need not be listed to be put right.
pub(super) const MAX_VIOLATIONS: usize = 16;

/// What has been found so far. Its checks return something usable whatever they find, so that one pass finds all.
#[derive(Default)]
pub(super) struct Wrong(Vec<FieldViolation>);

impl Wrong {
    /// Notes what is wrong with a field; the message goes on from the field's name.
    pub(super) fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(FieldViolation::new(field, why));
        }
    }

    /// All that was found, if anything was.
    pub(super) fn nothing(self) -> Result<(), Vec<FieldViolation>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    /// All that was found.
    pub(super) fn into_violations(self) -> Vec<FieldViolation> {
        self.0
    }

    /// A text for people and logs: bounded, without control characters.
    pub(super) fn text(&mut self, field: &str, text: &str, max: usize) {
        if text.len() > max {
            self.add(
                field,
                format!("is {} bytes long, at most {max} are allowed", text.len()),
            );
        } else if let Some(character) = text.chars().find(|character| character.is_control()) {
            self.add(field, format!("has the control character {character:?}"));
        }
    }

    /// A media type; JSON's when there is none.
    pub(super) fn content_type(&mut self, field: &str, content_type: String) -> String {
        if content_type.is_empty() {
            return DEFAULT_CONTENT_TYPE.to_owned();
        }
        self.text(field, &content_type, MAX_NAME);
        if !content_type.is_ascii() || !content_type.contains('/') {
            self.add(field, "is no media type (\"application/json\")");
        }
        content_type
    }

    /// A time that can be written.
    pub(super) fn time(
        &mut self,
        field: &str,
        Timestamp { seconds, nanos }: Timestamp,
    ) -> Option<SystemTime> {
        let seconds = u64::try_from(seconds)
            .ok()
            .filter(|&seconds| seconds <= MAX_SECONDS);
        let nanos = u32::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000);
        if let (Some(seconds), Some(nanos)) = (seconds, nanos) {
            return Some(UNIX_EPOCH + Duration::new(seconds, nanos));
        }
        self.add(
            field,
            "is outside the years 1970 to 9999, or its nanos are outside 0 to 999,999,999",
        );
        None
    }

    /// Valid JSON, on one line; or nothing at all.
    pub(super) fn json(&mut self, field: &str, data: Bytes) -> Bytes {
        if data.is_empty() {
            return data;
        }
        // A raw value is checked in full, but nothing is built of it.
        if let Err(error) = serde_json::from_slice::<&RawValue>(&data) {
            self.add(field, format!("is not the JSON that it should be: {error}"));
        } else if !json::depth_within(&data, json::MAX_DEPTH) {
            let why = format!("is nested more than {} arrays and objects deep", json::MAX_DEPTH);
            self.add(field, why);
        }
        json::one_line(data)
    }
}
