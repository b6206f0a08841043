//! A client's bytes, however the network cut them, turned into messages.
//!
//! What one read gave is parsed in place. Only what a read left unfinished is kept, in one box that exists from
//! the first byte of a frame or message that is not whole to its last.

use bytes::Bytes;

use crate::{
    CloseFrame, Error, Message,
    header::{Header, Opcode, Start},
    mask,
    pieces::{Kind, Pieces},
};

/// Parses what one client sends after the handshake.
///
/// Between messages it owns no heap memory. While a message is unfinished it holds the bytes that have arrived, in
/// a buffer of at most twice their size: never more than the limit allows, and nothing for what was only declared.
/// However the input is cut into reads, the results are the same.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    partial: Option<Box<Partial>>,
    /// After a close frame or an error nothing is parsed any more.
    ended: bool,
}

/// What the reads so far have left unfinished.
#[derive(Debug, Default)]
struct Partial {
    header: Start,
    /// The frame whose header is whole and whose payload is not.
    frame: Option<Frame>,
    /// The data message that has begun; control frames may come between its fragments.
    message: Option<Pieces>,
}

/// A frame whose payload is being received.
#[derive(Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    /// Rotated so that its first byte belongs to the payload's next.
    mask: [u8; 4],
    /// How many bytes of the payload have not arrived.
    left: usize,
    /// What has arrived of a control frame that did not come whole; data goes to the message instead.
    control: Vec<u8>,
}

impl Frame {
    /// A piece of a control frame; the message when it is the last.
    fn control(&mut self, piece: &[u8]) -> Result<Option<Message>, Error> {
        let payload = if self.left == 0 && self.control.is_empty() {
            piece
        } else {
            self.control.extend_from_slice(piece);
            &self.control
        };
        if self.left > 0 {
            return Ok(None);
        }
        Ok(Some(match self.opcode {
            Opcode::Ping => Message::Ping(Bytes::copy_from_slice(payload)),
            Opcode::Pong => Message::Pong(Bytes::copy_from_slice(payload)),
            _ => Message::Close(CloseFrame::decode(payload)?),
        }))
    }
}

impl Parser {
    /// A parser that refuses messages with more than `limit` bytes, counted over all fragments. Control frames
    /// have their own limit of 125 bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            partial: None,
            ended: false,
        }
    }

    /// The next message in `input`, which shrinks to what comes after it; its bytes are unmasked in place and
    /// worthless afterwards. `None` when no message ends in `input`: then all of it has been taken.
    ///
    /// A message that is whole in `input` costs one allocation, its own `Bytes`. After [`Message::Close`] or an
    /// error the rest of this input, and all input to come, is discarded.
    ///
    /// # Errors
    /// When the client breaks the protocol or exceeds the limit: answer with [`Error::close_code`] and close.
    pub fn next(&mut self, input: &mut &mut [u8]) -> Result<Option<Message>, Error> {
        if self.ended {
            *input = &mut [];
            return Ok(None);
        }
        let result = self.advance(input);
        if matches!(result, Err(_) | Ok(Some(Message::Close(_)))) {
            self.ended = true;
            self.partial = None;
            *input = &mut [];
        }
        result
    }

    /// Frame by frame until a message ends or the input does.
    fn advance(&mut self, input: &mut &mut [u8]) -> Result<Option<Message>, Error> {
        loop {
            let Some(mut frame) = self.frame(input)? else {
                return Ok(None);
            };
            let piece = take(input, frame.left);
            frame.mask = mask::unmask(piece, frame.mask);
            frame.left -= piece.len();

            let message = if frame.opcode.is_control() {
                frame.control(piece)?
            } else {
                self.data(&frame, piece)?
            };
            if frame.left > 0 {
                self.partial().frame = Some(frame);
                return Ok(None);
            }
            if self.message().is_none() {
                self.partial = None;
            }
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// The frame that the next bytes belong to: the one that was interrupted, or the one that starts here.
    fn frame(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Error> {
        if let Some(partial) = &mut self.partial {
            if let Some(frame) = partial.frame.take() {
                return Ok(Some(frame));
            }
            if !partial.header.is_empty() {
                return match partial.header.complete(input)? {
                    Some(header) => self.begin(header).map(Some),
                    None => Ok(None),
                };
            }
        }
        match Header::decode(input)? {
            Some((header, len)) => {
                take(input, len);
                self.begin(header).map(Some)
            }
            None if input.is_empty() => Ok(None),
            None => self.partial().header.complete(input).map(|_| None),
        }
    }

    /// Whether a frame with this header may come now (section 5.4), and whether its message is within the limit.
    fn begin(&self, header: Header) -> Result<Frame, Error> {
        let message = self.message();
        match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(Error::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Error::ExpectedContinuation),
            _ => {}
        }
        let received = message.map_or(0, Pieces::len);
        let allowed = match header.opcode {
            opcode if opcode.is_control() => usize::MAX, // the header's own limit was checked with it
            _ => self.limit - received,
        };
        match usize::try_from(header.len) {
            Ok(len) if len <= allowed => Ok(Frame {
                fin: header.fin,
                opcode: header.opcode,
                mask: header.mask,
                left: len,
                control: Vec::new(),
            }),
            _ => Err(Error::TooBig {
                len: header.len.saturating_add(received as u64),
                limit: self.limit,
            }),
        }
    }

    /// A piece of a data frame; the message when it is the last of the last fragment.
    fn data(&mut self, frame: &Frame, piece: &[u8]) -> Result<Option<Message>, Error> {
        // Looked at only when a message begins, which a continuation never does.
        let kind = match frame.opcode {
            Opcode::Text => Kind::Text,
            _ => Kind::Binary,
        };
        let last = frame.fin && frame.left == 0;
        if last && self.message().is_none() {
            return kind.whole(piece).map(Some);
        }
        let message = &mut self.partial().message;
        message.get_or_insert_with(|| Pieces::new(kind)).push(piece)?;
        match message.take_if(|_| last) {
            Some(message) => message.finish().map(Some),
            None => Ok(None),
        }
    }

    fn message(&self) -> Option<&Pieces> {
        self.partial.as_ref()?.message.as_ref()
    }

    fn partial(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }
}

/// Cuts up to `len` bytes off the front of `input`.
fn take<'a>(input: &mut &'a mut [u8], len: usize) -> &'a mut [u8] {
    let len = len.min(input.len());
    let (taken, rest) = std::mem::take(input).split_at_mut(len);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests;
