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
}
