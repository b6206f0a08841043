//! UTF-8 in text messages (RFC 6455 section 8.1), whole or in pieces.

use crate::Error;

/// The text that `bytes` are, all of it being there.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Error> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| Error::InvalidUtf8)
}

/// Checks the beginning of a text from byte `from`, up to which it was checked before, and returns up to where
/// it is now. That is all of it but for a code point cut off at the end, so at most three bytes are seen again.
///
/// Fails at the first byte that no continuation could make valid.
pub(crate) fn check_beginning(text: &[u8], from: usize) -> Result<usize, Error> {
    match simdutf8::compat::from_utf8(&text[from..]) {
        Ok(_) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(from + error.valid_up_to()),
        Err(_) => Err(Error::InvalidUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_point_that_is_cut_off_is_waited_for() {
        let text = "aß€𝄞".as_bytes();
        let whole = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10];
        for (end, valid) in whole.into_iter().enumerate() {
            assert_eq!(check_beginning(&text[..end], 0), Ok(valid), "{end} bytes");
        }
    }

    #[test]
    fn the_beginning_fails_as_soon_as_nothing_can_make_it_valid() {
        // An overlong encoding, a surrogate, beyond U+10FFFF, a byte that never occurs.
        for text in [&b"\xC0"[..], b"\xE0\x80", b"\xED\xA0", b"\xF4\x90", b"\xFF"] {
            assert_eq!(check_beginning(text, 0), Err(Error::InvalidUtf8), "{text:x?}");
        }
    }

    #[test]
    fn text_that_ends_inside_a_code_point_is_not_whole() {
        assert_eq!(text(b"a\xE2\x82"), Err(Error::InvalidUtf8));
        assert_eq!(text("a€".as_bytes()), Ok("a€"));
    }
}
