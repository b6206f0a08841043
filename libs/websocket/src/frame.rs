//! Frames from the server (RFC 6455 section 5.2): final, unmasked, finished, and shared by all who get them.
//!
//! A frame is made once and cloned for each recipient, which copies a pointer. [`FrameBuilder`] is for payloads
//! that are still to be written, the functions are for those that are there.

use std::io;

use bytes::{Buf, BufMut, Bytes};

use crate::header::{MAX_CONTROL, Opcode};

/// The longest reason that fits into a close frame, in bytes.
pub const MAX_REASON: usize = MAX_CONTROL - 2;

/// The longest header of an unmasked frame: two bytes and a 64-bit length.
const MAX_HEADER: usize = 10;

/// A text frame. The payload must be UTF-8; it comes from our own encoders and is not checked again.
#[must_use]
pub fn text(payload: &[u8]) -> Bytes {
    whole(Opcode::Text, payload)
}

/// A binary frame.
#[must_use]
pub fn binary(payload: &[u8]) -> Bytes {
    whole(Opcode::Binary, payload)
}

/// A ping. Of the payload at most 125 bytes are sent: a control frame cannot carry more.
#[must_use]
pub fn ping(payload: &[u8]) -> Bytes {
    whole(Opcode::Ping, &payload[..payload.len().min(MAX_CONTROL)])
}

/// The answer to a ping with its payload, which a valid ping keeps to 125 bytes; the rest would be cut.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    whole(Opcode::Pong, &payload[..payload.len().min(MAX_CONTROL)])
}

/// A close frame. The reason is cut after the last whole character within [`MAX_REASON`] bytes.
///
/// `code` must be one that may be sent: 1000–1003, 1007–1014 or 3000–4999.
#[must_use]
pub fn close(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    whole(Opcode::Close, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

fn whole(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut front = [0; MAX_HEADER];
    let start = write_header(&mut front, opcode, payload.len());
    [&front[start..], payload].concat().into()
}

/// Writes the shortest header to the end of `front`, right before the payload, and returns where it starts.
fn write_header(front: &mut [u8; MAX_HEADER], opcode: Opcode, len: usize) -> usize {
    const FIN: u8 = 0x80;
    let start = match len {
        0..=125 => {
            front[9] = len as u8;
            8
        }
        126..=0xFFFF => {
            front[7] = 126;
            front[8..].copy_from_slice(&(len as u16).to_be_bytes());
            6
        }
        _ => {
            front[1] = 127;
            front[2..].copy_from_slice(&(len as u64).to_be_bytes());
            0
        }
    };
    front[start] = FIN | opcode as u8;
    start
}

/// A frame whose payload is written straight into it, so that nothing is copied when it is finished.
///
/// The payload is written through [`io::Write`], which never fails, or through [`FrameBuilder::buf`].
///
/// ```
/// use std::io::Write;
/// use tidings_websocket::FrameBuilder;
///
/// let mut frame = FrameBuilder::text(64);
/// write!(frame, r#"{{"id":{}}}"#, 7)?;
/// assert_eq!(frame.finish(), &b"\x81\x08{\"id\":7}"[..]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FrameBuilder {
    opcode: Opcode,
    /// Room for the longest header, then the payload.
    frame: Vec<u8>,
}

impl FrameBuilder {
    /// A text frame with room for a payload of `capacity` bytes; it grows beyond. What is written must be UTF-8.
    #[must_use]
    pub fn text(capacity: usize) -> Self {
        Self::new(Opcode::Text, capacity)
    }

    /// A binary frame with room for a payload of `capacity` bytes; it grows beyond.
    #[must_use]
    pub fn binary(capacity: usize) -> Self {
        Self::new(Opcode::Binary, capacity)
    }

    fn new(opcode: Opcode, capacity: usize) -> Self {
        let mut frame = Vec::with_capacity(MAX_HEADER + capacity);
        frame.extend_from_slice(&[0; MAX_HEADER]);
        Self { opcode, frame }
    }

    /// The payload's end, for encoders that append to a [`BufMut`].
    pub fn buf(&mut self) -> impl BufMut {
        &mut self.frame
    }

    /// How many bytes of payload have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frame.len() - MAX_HEADER
    }

    /// Whether no payload has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The finished frame: the header goes right before the payload, the unused front is sliced off.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let len = self.len();
        let mut start = 0;
        if let Some(front) = self.frame.first_chunk_mut() {
            start = write_header(front, self.opcode, len);
        }
        let mut frame = Bytes::from(self.frame);
        frame.advance(start);
        frame
    }
}

impl io::Write for FrameBuilder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_shortest_for_its_length() {
        for (len, header) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7D"),
            (126, b"\x82\x7E\x00\x7E"),
            (0xFFFF, b"\x82\x7E\xFF\xFF"),
            (0x10000, b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            let payload = vec![b'x'; len];
            let frame = binary(&payload);
            assert_eq!(frame, [header, &payload].concat(), "length {len}");

            let mut builder = FrameBuilder::binary(0);
            assert!(builder.is_empty());
            builder.buf().put_slice(&payload);
            assert_eq!(builder.len(), len);
            assert_eq!(builder.finish(), frame, "built, length {len}");
        }
    }

    #[test]
    fn each_kind_has_its_opcode() {
        assert_eq!(text(b"a"), &b"\x81\x01a"[..]);
        assert_eq!(binary(b"a"), &b"\x82\x01a"[..]);
        assert_eq!(close(1000, "a"), &b"\x88\x03\x03\xE8a"[..]);
        assert_eq!(ping(b"a"), &b"\x89\x01a"[..]);
        assert_eq!(pong(b"a"), &b"\x8A\x01a"[..]);
    }

    #[test]
    fn a_control_frame_never_exceeds_what_it_may_carry() {
        assert_eq!(ping(&[0; 200]).len(), 2 + 125);
        assert_eq!(pong(&[0; 200]).len(), 2 + 125);
        assert_eq!(close(1000, &"x".repeat(200)).len(), 2 + 125);
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let reason = "x".repeat(122) + "€";
        assert_eq!(&close(1000, &reason)[4..], &reason.as_bytes()[..122]);
    }

    #[test]
    fn a_finished_frame_is_shared_and_not_copied() {
        let frame = text(b"to everyone");
        assert_eq!(frame.clone().as_ptr(), frame.as_ptr());
    }
}
