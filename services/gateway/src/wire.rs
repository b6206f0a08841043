//! Which language a connection speaks, and finished frames in it.

use bytes::Bytes;
use tidings_core::{Channel, Format, Publication};
use tidings_protocol::{
    CloseReason, Command, Push, Reply,
    centrifuge::{json, protobuf},
    plain,
};
use tidings_websocket::{FrameBuilder, frame};

/// A connection's language. What differs between two connections of one language is in the variant.
#[derive(Debug)]
pub(crate) enum Wire {
    /// Centrifuge commands and replies, in JSON.
    Json,
    /// The same in Protobuf.
    Protobuf,
    /// Bare data of this channel, in both directions.
    Plain(String),
}

/// The languages a publication can be written in: an index into a delivery's frames.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Language {
    Json,
    Protobuf,
    Plain,
}

/// How many [`Language`]s there are.
pub(crate) const LANGUAGES: usize = Language::Plain as usize + 1;

/// Room that most replies fit in, in bytes.
const REPLY: usize = 128;

/// Room for what most often stands around a publication's data.
const AROUND: usize = 128;

/// A publication as one language writes it, or why a connection of that language cannot have it.
pub(crate) type Written = Result<Bytes, CloseReason>;

/// What becomes of a reply.
pub(crate) enum Said {
    /// It is this frame.
    Frame(Bytes),
    /// The language has no word for it.
    Nothing,
    /// The language can only say it by ending the connection.
    Close(CloseReason),
}

impl Wire {
    pub(crate) fn language(&self) -> Language {
        match self {
            Self::Json => Language::Json,
            Self::Protobuf => Language::Protobuf,
            Self::Plain(_) => Language::Plain,
        }
    }

    /// Whether its clients are pinged by WebSocket pings, for want of any in the protocol.
    pub(crate) fn pings_by_transport(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Hands the commands of a message on, in order, until `take` has had enough (false) or one is malformed.
    pub(crate) fn commands(
        &self,
        message: Bytes,
        mut take: impl FnMut(Command) -> bool,
    ) -> Result<(), Malformed> {
        match self {
            Self::Json => {
                for command in json::commands(&message) {
                    if !take(command?) {
                        break;
                    }
                }
            }
            Self::Protobuf => {
                for command in protobuf::commands(message) {
                    if !take(command?) {
                        break;
                    }
                }
            }
            Self::Plain(channel) => {
                take(plain::publish(channel.clone(), message));
            }
        }
        Ok(())
    }

    pub(crate) fn reply(&self, reply: &Reply) -> Said {
        match (self, reply) {
            (Self::Json, _) => {
                let mut frame = FrameBuilder::text(REPLY);
                match json::reply(reply, &mut frame) {
                    Ok(()) => Said::Frame(frame.finish()),
                    Err(reason) => Said::Close(reason),
                }
            }
            (Self::Protobuf, _) => {
                let mut frame = FrameBuilder::binary(REPLY);
                protobuf::reply(reply, &mut frame.buf());
                Said::Frame(frame.finish())
            }
            (Self::Plain(_), Reply::Ping) => Said::Frame(frame::ping(b"")),
            (Self::Plain(_), Reply::Error { error, .. }) => Said::Close(plain::close_for(error)),
            (Self::Plain(_), _) => Said::Nothing,
        }
    }
}

/// A message that is not made of commands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error(transparent)]
    Json(#[from] json::Malformed),
    #[error(transparent)]
    Protobuf(#[from] protobuf::Malformed),
}

impl Language {
    pub(crate) fn write(self, channel: &Channel, publication: &Publication) -> Written {
        match self {
            Self::Json => {
                let mut frame = FrameBuilder::text(publication.data.len() + AROUND);
                json::push(Push::Publication(channel, publication), &mut frame)?;
                Ok(frame.finish())
            }
            Self::Protobuf => {
                let mut frame = FrameBuilder::binary(publication.data.len() + AROUND);
                protobuf::push(Push::Publication(channel, publication), &mut frame.buf());
                Ok(frame.finish())
            }
            Self::Plain => Ok(match (publication.format, &publication.data) {
                (Format::Json, data) => frame::text(data),
                (Format::Binary, data) if std::str::from_utf8(data).is_ok() => frame::text(data),
                (Format::Binary, data) => frame::binary(data),
            }),
        }
    }
}
