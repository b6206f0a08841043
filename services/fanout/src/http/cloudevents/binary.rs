//! Binary mode: attributes are headers, data is the body (HTTP binding, section 3.1).

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::{
    Read,
    attributes::{Attributes, MAX_ATTRIBUTES},
};

const PREFIX: &str = "ce-";

/// What data is that nobody says anything of (RFC 9110, section 8.3).
const BYTES: &str = "application/octet-stream";

/// Reads a message. Header names come in lower case.
pub(super) fn read(headers: &HeaderMap, body: Bytes) -> Read {
    let mut attributes = Attributes::default();
    let named = |name: &'_ str| name.strip_prefix(PREFIX).map(str::to_owned);
    let names = headers.keys().filter_map(|name| named(name.as_str()));
    for name in names.take(MAX_ATTRIBUTES) {
        if name == "datacontenttype" {
            attributes.wrong(
                &name,
                "is the header content-type, not ce-datacontenttype, in binary mode",
            );
            continue;
        }
        for value in headers.get_all(format!("{PREFIX}{name}")) {
            match decode(value.as_bytes()) {
                Ok(value) => attributes.set(&name, value),
                Err(why) => attributes.wrong(&name, why),
            }
        }
    }
    match headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) {
        Some(Ok(content_type)) => attributes.set("datacontenttype", content_type.to_owned()),
        Some(Err(_)) => attributes.wrong("datacontenttype", "is no media type"),
        None if body.is_empty() => {}
        None => attributes.set("datacontenttype", BYTES.to_owned()),
    }
    attributes.with(body)
}

/// Section 3.1.3.2: quotes are taken off first, then one round of percent-decoding, whose bytes must be UTF-8.
fn decode(value: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "is not UTF-8")?;
    let text = unquote(text.trim_matches([' ', '\t']))?;
    let text = percent_decode_str(&text).decode_utf8();
    text.map(Cow::into_owned)
        .map_err(|_| "is not UTF-8 once it is percent-decoded")
}

/// RFC 7230, section 3.2.6.
fn unquote(text: &str) -> Result<Cow<'_, str>, &'static str> {
    const UNENDED: &str = "begins with a quote that does not end with it";
    let Some(rest) = text.strip_prefix('"') else {
        return Ok(text.into());
    };
    let mut inside = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next().ok_or(UNENDED)? {
            '"' if characters.as_str().is_empty() => return Ok(inside.into()),
            '"' => return Err(UNENDED),
            '\\' => inside.push(characters.next().ok_or(UNENDED)?),
            character => inside.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &str) {
        assert_eq!(decode(value.as_bytes()).as_deref(), Ok(expected), "{value}");
    }

    #[test]
    fn a_value_is_unquoted_and_percent_decoded_once() {
        // The specification's own example.
        check("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀");
        check("%e2%82%ac", "€");
        check("unnecessary%41", "unnecessaryA");
        check("%2525", "%25");
        check(r#""quoted \"text\" \\ %20""#, "quoted \"text\" \\  ");
        check("100%", "100%");
        check("a%zz", "a%zz");
        check("  spaced\t", "spaced");
        check(r#""""#, "");
    }

    #[test]
    fn what_is_not_utf_8_or_not_closed_is_refused() {
        // The first is the specification's own example, an overlong space.
        for value in [
            &b"%C0%A0"[..],
            b"%ff",
            b"\xff",
            b"%E2%82",
            b"\"open",
            b"\"a\"b",
            b"\"a\\",
            b"\"",
        ] {
            assert!(decode(value).is_err(), "{value:?}");
        }
    }
}
