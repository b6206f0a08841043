//! What stands around one message on its transport.

use std::io::{self, Write};

use bytes::{BufMut, Bytes};
use tidings_websocket::FrameBuilder;

use super::{Framing, Written};

/// Longest of what stands around a message in a stream.
const AROUND: usize = b"data: \n\n".len();

/// A message that is one line of text, written by `write`, with room for `room` bytes.
pub(super) fn lines(
    framing: Framing,
    room: usize,
    write: impl FnOnce(&mut Text) -> Result<(), tidings_protocol::CloseReason>,
) -> Written {
    let mut text = match framing {
        Framing::WebSocket => Text::Frame(FrameBuilder::text(room)),
        Framing::Lines | Framing::Sse => Text::Plain(Vec::with_capacity(room + AROUND)),
    };
    if framing == Framing::Sse {
        text.append(b"data: ");
    }
    write(&mut text)?;
    match framing {
        Framing::WebSocket => {}
        Framing::Lines => text.append(b"\n"),
        Framing::Sse => text.append(b"\n\n"),
    }
    Ok(text.finish())
}

/// A message that knows its own length, written by `write`, with room for `room` bytes.
pub(super) fn delimited(framing: Framing, room: usize, write: impl FnOnce(&mut dyn BufMut)) -> Bytes {
    if framing == Framing::WebSocket {
        let mut frame = FrameBuilder::binary(room);
        write(&mut frame.buf());
        return frame.finish();
    }
    let mut message = Vec::with_capacity(room);
    write(&mut message);
    message.into()
}

/// Text under way.
pub(super) enum Text {
    Frame(FrameBuilder),
    Plain(Vec<u8>),
}

impl Text {
    fn append(&mut self, bytes: &[u8]) {
        match self {
            Self::Frame(frame) => frame.buf().put_slice(bytes),
            Self::Plain(text) => text.extend_from_slice(bytes),
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Frame(frame) => frame.finish(),
            Self::Plain(text) => text.into(),
        }
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
