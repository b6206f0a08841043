//! What happened in a backend, in the words of CloudEvents 1.0.

use std::{collections::BTreeMap, time::SystemTime};

use bytes::Bytes;

/// The content type of data that names none.
pub const DEFAULT_CONTENT_TYPE: &str = "application/json";

/// An event that passed validation: fanout's `grpc.rs` makes these and nobody checks them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique together with `source`; never empty.
    pub id: String,
    /// Segments separated by dots: `task.created`; never empty. (CloudEvents `type`.)
    pub kind: String,
    /// Who says so; may be empty.
    pub source: String,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened.
    pub time: SystemTime,
    /// A media type, [`DEFAULT_CONTENT_TYPE`] unless the backend named one.
    pub data_content_type: String,
    /// JSON text where the content type says so; otherwise anything.
    pub data: Bytes,
    /// CloudEvents extensions.
    pub attributes: BTreeMap<String, String>,
    /// Labels that subscribers see and may filter by.
    pub tags: BTreeMap<String, String>,
}

impl Event {
    /// Whether `data` is JSON, by the content type (`application/json` or a `+json` type).
    #[must_use]
    pub fn has_json_data(&self) -> bool {
        is_json(&self.data_content_type)
    }
}

/// Whether a content type is one of JSON: `application/json` or a `+json` type, with whatever parameters.
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case(DEFAULT_CONTENT_TYPE)
        || media_type.to_ascii_lowercase().ends_with("+json")
}
