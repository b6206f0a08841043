//! JSON that arrives from outside, made fit to be embedded in a line of text.

use bytes::Bytes;

/// The same JSON text on one line. A line break can stand in valid JSON only between tokens, where a space
/// means the same, so no parsing is needed; text without line breaks is returned as it came.
#[must_use]
pub fn one_line(json: Bytes) -> Bytes {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !json.iter().any(is_break) {
        return json;
    }
    json.iter()
        .map(|byte| if is_break(byte) { b' ' } else { *byte })
        .collect()
}

/// How many arrays and objects may be open at once in JSON that is accepted. What clients get is parsed by whatever
/// they have, and most parsers follow nested values by recursion.
pub const MAX_DEPTH: usize = 128;

/// Whether no more than `max` arrays and objects are open at once anywhere in the text. One pass, without parsing:
/// of text that is not valid JSON the answer says nothing.
#[must_use]
pub fn depth_within(json: &[u8], max: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    let mut in_string = false;
    while let Some(byte) = bytes.next() {
        match byte {
            // What is escaped ends no string, and no other escape hides a quote.
            b'\\' if in_string => drop(bytes.next()),
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return false;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_become_spaces_and_nothing_else_changes() {
        let pretty = Bytes::from_static(b"{\r\n  \"a\\n\": 1\n}");
        assert_eq!(one_line(pretty), &b"{    \"a\\n\": 1 }"[..]);
        let flat = Bytes::from_static(b"[1]");
        assert_eq!(one_line(flat.clone()).as_ptr(), flat.as_ptr());
    }

    #[test]
    fn depth_is_what_is_open_at_once_outside_of_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(depth_within(nested(MAX_DEPTH).as_bytes(), MAX_DEPTH));
        assert!(!depth_within(nested(MAX_DEPTH + 1).as_bytes(), MAX_DEPTH));
        for (json, depth) in [
            ("1", 0),
            (r#"{"a": [{}, {}, []]}"#, 3),
            (r#"["[[[", "\"[[[", "\\", []]"#, 2),
            (r#"{"\u005b{": "]"}"#, 1),
        ] {
            assert!(depth_within(json.as_bytes(), depth), "{json}");
            assert!(depth == 0 || !depth_within(json.as_bytes(), depth - 1), "{json}");
        }
        assert!(depth_within(b"]]\\\"", 0) && depth_within(b"\"\\", 0));
    }
}
