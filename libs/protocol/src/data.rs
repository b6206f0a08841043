//! What clients publish, where their format does not say what it is.

use bytes::Bytes;
use serde::de::IgnoredAny;
use tidings_core::{Format, json};

/// JSON when it can be, ready to be embedded in a line; anything else as it came.
pub(crate) fn check(data: Bytes) -> (Bytes, Format) {
    match serde_json::from_slice::<IgnoredAny>(&data) {
        Ok(_) => (json::one_line(data), Format::Json),
        Err(_) => (data, Format::Binary),
    }
}
