//! What a client can say, and what a close frame may hold (RFC 6455 sections 5.5, 5.6 and 7.4).

use bytes::Bytes;

use crate::{Error, utf8};

/// One whole message of a client, unmasked and put together from its fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text. Guaranteed to be valid UTF-8; kept as bytes because that is what JSON parsers and publications take.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// To be answered by [`frame::pong`](crate::frame::pong) with the same payload of at most 125 bytes.
    Ping(Bytes),
    /// The answer to a ping, or unsolicited; at most 125 bytes.
    Pong(Bytes),
    /// The client closes; nothing after it is parsed. `None` when it gave no code.
    Close(Option<CloseFrame>),
}

/// Why a peer closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code; from a client always one that may be sent: 1000–1003, 1007–1014 or 3000–4999.
    pub code: u16,
    /// The reason, at most 123 bytes; often empty.
    pub reason: String,
}

impl CloseFrame {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The peer goes away: a server shuts down, a browser leaves the page.
    pub const GOING_AWAY: u16 = 1001;
    /// The other side broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of data that this endpoint cannot take, such as binary where only text is spoken.
    pub const UNSUPPORTED: u16 = 1003;
    /// Data that does not fit its type, such as text that is not UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A message over the limit.
    pub const TOO_BIG: u16 = 1009;

    /// The payload of a close frame: nothing, or a code and a reason.
    ///
    /// # Errors
    /// When there is half a code, a code that must not be sent, or a reason that is not UTF-8.
    pub(crate) fn decode(payload: &[u8]) -> Result<Option<Self>, Error> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(Error::HalfCloseCode),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        if !may_be_sent(code) {
            return Err(Error::CloseCode(code));
        }
        let reason = utf8::text(reason)?.to_owned();
        Ok(Some(Self { code, reason }))
    }
}

/// Whether a code is defined for use in a close frame (section 7.4 and the IANA registry up to 1014), or free for
/// libraries and applications. 1004 to 1006 and 1015 are for reports of one's own and never sent.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_be_sent_are_taken() {
        for code in [1000, 1003, 1007, 1011, 1014, 3000, 4999] {
            let frame = CloseFrame::decode(&u16::to_be_bytes(code)).unwrap().unwrap();
            assert_eq!((frame.code, frame.reason.as_str()), (code, ""));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(
                CloseFrame::decode(&code.to_be_bytes()),
                Err(Error::CloseCode(code))
            );
        }
    }

    #[test]
    fn a_close_frame_has_no_code_or_a_whole_one() {
        assert_eq!(CloseFrame::decode(b""), Ok(None));
        assert_eq!(CloseFrame::decode(b"\x03"), Err(Error::HalfCloseCode));
    }

    #[test]
    fn a_reason_is_text() {
        let frame = CloseFrame::decode(b"\x03\xE8auf sp\xC3\xA4ter").unwrap().unwrap();
        assert_eq!((frame.code, frame.reason.as_str()), (1000, "auf später"));
        assert_eq!(CloseFrame::decode(b"\x03\xE8\xFF"), Err(Error::InvalidUtf8));
    }
}
