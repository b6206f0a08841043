//! What clients send for others to read: what it is, and whether they can be expected to parse it.

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tidings_core::{Format, Payload, json};

/// JSON that is nested deeper than [`json::MAX_DEPTH`].
#[derive(Debug)]
pub(crate) struct TooDeep;

/// JSON that stands in other JSON, and so has been checked for being that; ready to be embedded in a line.
pub(crate) fn embedded(raw: &RawValue) -> Result<Payload, TooDeep> {
    let text = raw.get().as_bytes();
    if !json::depth_within(text, json::MAX_DEPTH) {
        return Err(TooDeep);
    }
    Ok(Payload::json(json::one_line(Bytes::copy_from_slice(text))))
}

/// Where the format does not say what it is. JSON when it can be, ready to be embedded in a line; anything else as it
/// came, JSON too that is nested deeper than [`json::MAX_DEPTH`]: nobody is made to parse that.
pub(crate) fn check(data: Bytes) -> Payload {
    // From text, not from bytes: what is skipped over in bytes is not checked for being UTF-8.
    match std::str::from_utf8(&data).map(serde_json::from_str::<IgnoredAny>) {
        Ok(Ok(_)) if json::depth_within(&data, json::MAX_DEPTH) => Payload::json(json::one_line(data)),
        _ => Payload {
            data,
            format: Format::Binary,
        },
    }
}

/// The same for a part of a larger message, which is copied where it would keep the whole in memory for little.
pub(crate) fn check_part(data: Bytes, whole: usize) -> Payload {
    if data.len() < whole / 2 {
        check(Bytes::copy_from_slice(&data))
    } else {
        check(data)
    }
}

/// The same where no data is none, rather than something empty.
pub(crate) fn check_optional(data: Bytes) -> Payload {
    match data.is_empty() {
        true => Payload::default(),
        false => check(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf_8_is_not_json_either() {
        assert_eq!(check("{\"a\":\n1}".into()), Payload::json("{\"a\": 1}".into()));
        assert_eq!(check(Bytes::from_static(b"\"\xff\"")).format, Format::Binary);
        assert_eq!(check(Bytes::new()).format, Format::Binary);
        assert_eq!(check_optional(Bytes::new()), Payload::default());
    }

    #[test]
    fn a_small_part_of_a_large_message_does_not_keep_the_whole() {
        let whole = Bytes::from(vec![b'1'; 1000]);
        let part = check_part(whole.slice(..10), whole.len());
        assert_ne!(part.data.as_ptr(), whole.as_ptr());
        let most = check_part(whole.slice(..900), whole.len());
        assert_eq!(most.data.as_ptr(), whole.as_ptr());
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_passed_on_as_bytes() {
        let nested = |depth: usize| Bytes::from(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert_eq!(check(nested(128)).format, Format::Json);
        let deep = check(nested(129));
        assert_eq!((deep.data, deep.format), (nested(129), Format::Binary));
    }
}
