//! Why a connection must be closed, and the code that tells the client (RFC 6455 section 7.4.1).

use crate::message::CloseFrame;

/// What a client sent that no server may accept. The connection is over: send [`Error::close_code`], then close.
///
/// The display is short enough for the close frame's reason and repeats nothing of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// RSV1, RSV2 or RSV3 is set, and no extension was negotiated (section 5.2).
    #[error("reserved bits are set but no extension was negotiated")]
    ReservedBits,
    /// An opcode that RFC 6455 reserves (section 5.2).
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A control frame without FIN (section 5.5).
    #[error("a control frame must not be fragmented")]
    FragmentedControl,
    /// A control frame with more than 125 bytes (section 5.5).
    #[error("a control frame carries at most 125 bytes")]
    LongControl,
    /// A frame without a mask (section 5.1).
    #[error("frames from a client must be masked")]
    Unmasked,
    /// A length in more bytes than it needs (section 5.2).
    #[error("payload length {0} is not in its shortest encoding")]
    LongLength(u64),
    /// A 64-bit length with its highest bit set (section 5.2).
    #[error("payload length exceeds 63 bits")]
    HugeLength,
    /// A continuation frame where no message has begun (section 5.4).
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A new message before the fragmented one has ended (section 5.4).
    #[error("new message before the fragmented one has ended")]
    ExpectedContinuation,
    /// A close frame with one byte, which is half a code (section 5.5.1).
    #[error("close frame with half a code")]
    HalfCloseCode,
    /// A code that must not be sent (section 7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// Text or a close reason that is not UTF-8 (section 8.1).
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A message over the limit, known from the declared length before it was buffered.
    #[error("message of {len} bytes or more, at most {limit} are allowed")]
    TooBig {
        /// The message's length in bytes as far as it is declared: all its fragments up to this one.
        len: u64,
        /// The parser's limit in bytes.
        limit: usize,
    },
}

impl Error {
    /// The close code to send: 1002 (protocol error), 1007 (not UTF-8) or 1009 (too big).
    #[must_use]
    pub fn close_code(&self) -> u16 {
        match self {
            Self::InvalidUtf8 => CloseFrame::INVALID_DATA,
            Self::TooBig { .. } => CloseFrame::TOO_BIG,
            _ => CloseFrame::PROTOCOL_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_close_code_that_the_rfc_gives_it() {
        assert_eq!(Error::InvalidUtf8.close_code(), 1007);
        assert_eq!(Error::TooBig { len: 2, limit: 1 }.close_code(), 1009);
        assert_eq!(Error::Unmasked.close_code(), 1002);
        assert_eq!(Error::CloseCode(1005).close_code(), 1002);
    }

    #[test]
    fn the_longest_text_fits_into_a_close_frame() {
        let longest = Error::TooBig {
            len: u64::MAX,
            limit: usize::MAX,
        };
        assert!(longest.to_string().len() <= crate::frame::MAX_REASON);
    }
}
