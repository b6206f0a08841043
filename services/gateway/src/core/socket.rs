//! The socket of a WebSocket client. It has no buffer of its own: what arrives is parsed in the core's, and what leaves
//! is shared with everyone who gets the same.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tidings_hub::Outbox;
use tidings_websocket::Parser;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};

use super::connection::Read;
use crate::admission::Place;

/// How many frames one write takes at most. The kernel's own limit is 1024; past this it gains nothing.
const SLICES: usize = 64;

pub(super) struct Socket {
    pub(super) parser: Parser,
    pub(super) outbox: Outbox,
    stream: TcpStream,
    /// It takes no more for now; its task waits until it does.
    blocked: bool,
    _place: Place,
}

/// What became of the frames that waited.
pub(super) enum Flushed {
    /// All have left.
    All,
    /// The socket takes no more for now. True the first time: its task must wait for room.
    Blocked(bool),
}

impl Socket {
    pub(super) fn new(stream: TcpStream, parser: Parser, place: Place) -> Self {
        Self {
            parser,
            outbox: Outbox::default(),
            stream,
            blocked: false,
            _place: place,
        }
    }

    /// Reads what is there. When nothing is, the task of `cx` is woken once something comes.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Read {
        let mut buffer = ReadBuf::new(into);
        // A read that does not fill the buffer also notes that there is no more, which saves asking the kernel again.
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => Read::Bytes(buffer.filled().len()),
            Poll::Ready(_) => Read::End,
        }
    }

    /// Whether a socket that was full takes more now. If not, the task of `cx` is woken once it does.
    pub(super) fn unblocked(&mut self, cx: &mut Context<'_>) -> bool {
        self.blocked && self.stream.poll_write_ready(cx).is_ready()
    }

    /// Writes everything that waits, as far as the socket takes it; usually in one call.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<Flushed> {
        while !self.outbox.is_empty() {
            match self.write() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.outbox.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked(!std::mem::replace(&mut self.blocked, true)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.blocked = false;
        Ok(Flushed::All)
    }

    /// One write of as much as waits. Most often that is a single frame, which needs no list of slices.
    fn write(&self) -> io::Result<usize> {
        if let Some(frame) = self.outbox.only() {
            return self.stream.try_write(frame);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = self.outbox.slices(&mut slices);
        self.stream.try_write_vectored(&slices[..filled])
    }
}
