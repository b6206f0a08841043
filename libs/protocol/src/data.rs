//! What clients publish, where their format does not say what it is.

use bytes::Bytes;
use serde::de::IgnoredAny;
use tidings_core::{Format, json};

/// JSON when it can be, ready to be embedded in a line; anything else as it came.
pub(crate) fn check(data: Bytes) -> (Bytes, Format) {
    // From text, not from bytes: what is skipped over in bytes is not checked for being UTF-8.
    match std::str::from_utf8(&data).map(serde_json::from_str::<IgnoredAny>) {
        Ok(Ok(_)) => (json::one_line(data), Format::Json),
        _ => (data, Format::Binary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf_8_is_not_json_either() {
        assert_eq!(check("{\"a\":\n1}".into()), ("{\"a\": 1}".into(), Format::Json));
        assert_eq!(check(Bytes::from_static(b"\"\xff\"")).1, Format::Binary);
        assert_eq!(check(Bytes::new()).1, Format::Binary);
    }
}
