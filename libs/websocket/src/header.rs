//! The header of a client's frame (RFC 6455 section 5.2): two bytes, a longer length if need be, the mask.
//!
//! Decoding judges each byte as soon as it is there, so the verdict does not depend on how much came with it.

use crate::Error;

/// The longest header: two bytes, a 64-bit length, the mask.
const MAX_LEN: usize = 14;

/// The longest payload of a control frame (section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// What a frame is; the values are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    fn decode(nibble: u8) -> Result<Self, Error> {
        Ok(match nibble {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            reserved => return Err(Error::ReservedOpcode(reserved)),
        })
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A header that is valid in itself. Whether the frame may come now is the parser's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: [u8; 4],
    pub(crate) len: u64,
}

impl Header {
    /// The header at the start of `bytes` and how many bytes it takes; `None` while it is not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Error::ReservedBits);
        }
        let fin = first & 0x80 != 0;
        let opcode = Opcode::decode(first & 0x0F)?;
        if opcode.is_control() && !fin {
            return Err(Error::FragmentedControl);
        }

        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(Error::Unmasked);
        }
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Error::LongControl);
        }

        let Some((len, rest)) = decode_len(short, rest)? else {
            return Ok(None);
        };
        let Some((&mask, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let header = Self {
            fin,
            opcode,
            mask,
            len,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }
}

/// The payload's length and what follows it: 7 bits in the second byte, or the 16 or 64 bits behind it.
fn decode_len(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Error> {
    let (len, rest, least) = match short {
        126 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest, 126),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest, 1 << 16),
            None => return Ok(None),
        },
        short => (u64::from(short), rest, 0),
    };
    if len < least {
        return Err(Error::LongLength(len));
    }
    if len >> 63 != 0 {
        return Err(Error::HugeLength);
    }
    Ok(Some((len, rest)))
}

/// The first bytes of a header whose rest has not arrived.
#[derive(Debug, Default)]
pub(crate) struct Start {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Start {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes bytes from `input` until the header is whole, and no byte more; then it is empty again.
    pub(crate) fn complete(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, Error> {
        while let Some(byte) = input.split_off_first_mut() {
            self.bytes[self.len] = *byte;
            self.len += 1;
            if let Some((header, _)) = Header::decode(&self.bytes[..self.len])? {
                self.len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn decode(parts: &[&[u8]]) -> Result<Option<(Header, usize)>, Error> {
        Header::decode(&parts.concat())
    }

    #[test]
    fn a_length_stands_in_7_16_or_64_bits() {
        for (bytes, len, size) in [
            (&b"\x82\x80"[..], 0, 6),
            (b"\x82\xFD", 125, 6),
            (b"\x82\xFE\x00\x7E", 126, 8),
            (b"\x82\xFE\xFF\xFF", 0xFFFF, 8),
            (b"\x82\xFF\x00\x00\x00\x00\x00\x01\x00\x00", 0x10000, 14),
            (b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", u64::MAX >> 1, 14),
        ] {
            let header = Header {
                fin: true,
                opcode: Opcode::Binary,
                mask: MASK,
                len,
            };
            assert_eq!(decode(&[bytes, &MASK, b"payload"]), Ok(Some((header, size))));
        }
    }

    #[test]
    fn a_header_is_awaited_byte_by_byte_and_no_byte_more_is_taken() {
        let mut bytes = *b"\x01\xFF\x00\x00\x00\x00\x00\x01\x00\x00\x01\x02\x03\x04payload";
        for cut in 1..MAX_LEN {
            let (mut first, mut second) = bytes.split_at_mut(cut);
            assert_eq!(Header::decode(first), Ok(None));
            let mut start = Start::default();
            assert_eq!(start.complete(&mut first), Ok(None));
            assert!(!start.is_empty() && first.is_empty());
            let header = start.complete(&mut second).unwrap().unwrap();
            assert_eq!(
                (header.fin, header.opcode, header.len),
                (false, Opcode::Text, 0x10000)
            );
            assert_eq!((start.is_empty(), &*second), (true, &b"payload"[..]));
        }
    }

    #[test]
    fn a_bad_header_is_refused_at_the_byte_that_shows_it() {
        for (bytes, error) in [
            (&b"\xC1"[..], Error::ReservedBits),
            (b"\xA1", Error::ReservedBits),
            (b"\x91", Error::ReservedBits),
            (b"\x83", Error::ReservedOpcode(3)),
            (b"\x87", Error::ReservedOpcode(7)),
            (b"\x8B", Error::ReservedOpcode(11)),
            (b"\x8F", Error::ReservedOpcode(15)),
            (b"\x08", Error::FragmentedControl),
            (b"\x81\x05", Error::Unmasked),
            (b"\x89\xFE", Error::LongControl),
            (b"\x8A\xFF", Error::LongControl),
            (b"\x81\xFE\x00\x7D", Error::LongLength(125)),
            (
                b"\x81\xFF\x00\x00\x00\x00\x00\x00\xFF\xFF",
                Error::LongLength(0xFFFF),
            ),
            (b"\x81\xFF\x80\x00\x00\x00\x00\x00\x00\x00", Error::HugeLength),
        ] {
            assert_eq!(decode(&[&bytes[..bytes.len() - 1]]), Ok(None), "{bytes:x?}");
            assert_eq!(decode(&[bytes]), Err(error), "{bytes:x?}");
        }
    }
}
