//! A data message that arrives in pieces: over several reads, several fragments, or both.

use bytes::Bytes;

use crate::{Error, Message, utf8};

/// What a data message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}

impl Kind {
    /// A message that is whole in the input: one copy, one allocation.
    pub(crate) fn whole(self, payload: &[u8]) -> Result<Message, Error> {
        match self {
            Self::Text => utf8::text(payload).map(|_| Message::Text(Bytes::copy_from_slice(payload))),
            Self::Binary => Ok(Message::Binary(Bytes::copy_from_slice(payload))),
        }
    }
}

/// What has arrived of a message. Its buffer grows with what arrives, never with what is announced.
#[derive(Debug)]
pub(crate) struct Pieces {
    kind: Kind,
    data: Vec<u8>,
    /// Of a text, how many bytes are known to be valid UTF-8.
    checked: usize,
}

impl Pieces {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            data: Vec::new(),
            checked: 0,
        }
    }

    /// How many bytes have arrived.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// How many bytes are held for them.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.data.capacity()
    }

    /// Adds an unmasked piece; text that has become invalid fails at once and not when the message ends.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.data.extend_from_slice(piece);
        if self.kind == Kind::Text {
            self.checked = utf8::check_beginning(&self.data, self.checked)?;
        }
        Ok(())
    }

    /// The message, its last piece being there.
    pub(crate) fn finish(self) -> Result<Message, Error> {
        match self.kind {
            Kind::Text if self.checked < self.data.len() => Err(Error::InvalidUtf8),
            Kind::Text => Ok(Message::Text(self.data.into())),
            Kind::Binary => Ok(Message::Binary(self.data.into())),
        }
    }
}
