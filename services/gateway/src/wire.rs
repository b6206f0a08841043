//! Which language a connection speaks, and finished messages in it.
//!
//! A language is a speech (what is said: Centrifuge commands and replies, bare pushes, bare data) in a framing (how
//! one message is told from the next on its transport). There are ten of them, and a publication is written once in
//! each that somebody here needs.

mod envelope;
#[cfg(test)]
mod tests;

use std::error::Error;

use bytes::Bytes;
use tidings_core::{Channel, Format, Publication};
use tidings_protocol::{
    CloseReason, Command, Push, Reply, Request,
    centrifuge::{json, protobuf, uni},
    plain::{self, sse},
};
use tidings_websocket::frame;

use self::envelope::{delimited, lines};

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// Centrifuge commands and replies, in JSON.
    Json,
    /// The same in Protobuf.
    Protobuf,
    /// Pushes alone, in JSON. All that its clients say is who they are.
    Uni,
    /// The bare data of one channel, in both directions where the transport has both.
    Plain,
}

/// How one message is told from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// WebSocket frames.
    WebSocket,
    /// Lines of JSON, or Protobuf messages each after its length: they need nothing more.
    Lines,
    /// Server-sent events.
    Sse,
}

/// The languages a publication can be written in: an index into a delivery's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    WebSocketJson,
    WebSocketProtobuf,
    WebSocketUni,
    WebSocketPlain,
    LinesJson,
    LinesProtobuf,
    LinesUni,
    SseJson,
    SseUni,
    SsePlain,
}

/// How many [`Language`]s there are.
pub(crate) const LANGUAGES: usize = Language::SsePlain as usize + 1;

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

/// How one connection is spoken to: its language, and what differs between two connections of one language.
#[derive(Debug)]
pub(crate) struct Wire {
    language: Language,
    /// Of a plain connection: its channel.
    channel: Box<str>,
    /// Of a unidirectional connection: it has not said yet who it is.
    awaits_greeting: bool,
    /// Its clients are pinged by the WebSocket's own pings, because they asked for it.
    control_pings: bool,
}

impl Wire {
    /// A connection that speaks `language` and needs nothing beside.
    pub(crate) fn new(language: Language) -> Self {
        Self {
            language,
            channel: Box::default(),
            awaits_greeting: false,
            control_pings: false,
        }
    }

    /// A connection that hears the bare data of one channel.
    pub(crate) fn plain(language: Language, channel: String) -> Self {
        Self {
            channel: channel.into(),
            ..Self::new(language)
        }
    }

    /// A unidirectional WebSocket whose first message will say who the client is.
    pub(crate) fn awaiting_greeting() -> Self {
        Self {
            awaits_greeting: true,
            ..Self::new(Language::WebSocketUni)
        }
    }

    /// The same, pinged by WebSocket pings.
    pub(crate) fn with_control_pings(self) -> Self {
        Self {
            control_pings: true,
            ..self
        }
    }

    pub(crate) fn language(&self) -> Language {
        self.language
    }

    /// The channel of a connection that hears bare data.
    pub(crate) fn only_channel(&self) -> Option<Channel> {
        // Its name was checked at the door.
        Channel::parse(&self.channel).ok()
    }

    /// What it is written in, for the user's backend: `json` or `protobuf`.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.language.speech() {
            Speech::Protobuf => "protobuf",
            Speech::Json | Speech::Uni | Speech::Plain => "json",
        }
    }

    /// Whether its clients are pinged by WebSocket pings: for want of any in the protocol, or because they asked for it.
    pub(crate) fn pings_by_transport(&self) -> bool {
        self.control_pings || self.language == Language::WebSocketPlain
    }

    /// Whether its clients never answer pings, because they cannot.
    pub(crate) fn is_mute(&self) -> bool {
        self.language == Language::SsePlain || self.language.speech() == Speech::Uni
    }

    /// Hands the commands of a message on, in order, until `take` has had enough (false) or one is malformed.
    pub(crate) fn commands(
        &mut self,
        message: Bytes,
        mut take: impl FnMut(Command) -> bool,
    ) -> Result<(), Malformed> {
        match self.language.speech() {
            Speech::Json => {
                for command in json::commands(&message) {
                    if !take(command?) {
                        break;
                    }
                }
            }
            Speech::Protobuf => {
                for command in protobuf::commands(message) {
                    if !take(command?) {
                        break;
                    }
                }
            }
            Speech::Uni if std::mem::take(&mut self.awaits_greeting) => {
                take(greeting(&message)?);
            }
            Speech::Uni => {}
            Speech::Plain => {
                take(plain::publish(self.channel.to_string(), message));
            }
        }
        Ok(())
    }

    pub(crate) fn reply(&self, reply: &Reply) -> Said {
        if matches!(reply, Reply::Ping) && self.pings_by_transport() {
            return Said::Frame(frame::ping(b""));
        }
        if let (Reply::Connect { id, result }, true) = (reply, self.control_pings) {
            let mut result = result.clone();
            (result.ping_interval, result.pong) = (std::time::Duration::ZERO, false);
            return self.language.reply(&Reply::Connect { id: *id, result });
        }
        self.language.reply(reply)
    }

    /// The last that a client hears of a session which has ended: why, in all the words its transport has for it.
    pub(crate) fn goodbye(&self, reason: &CloseReason) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let (speech, framing) = (self.language.speech(), self.language.framing());
        // A bidirectional WebSocket says it in the close frame alone.
        if (framing != Framing::WebSocket || speech == Speech::Uni)
            && let Said::Frame(frame) = self.language.reply(&Reply::Disconnect(reason.clone()))
        {
            frames.push(frame);
        }
        if framing == Framing::WebSocket {
            frames.push(frame::close(reason.code(), reason.text()));
        }
        frames
    }
}

/// Who a unidirectional client says it is, as the command that it stands for.
pub(crate) fn greeting(request: &[u8]) -> Result<Command, uni::Malformed> {
    Ok(Command {
        id: 1,
        request: Request::Connect(Box::new(uni::connect(request)?)),
    })
}

/// What is wrong with something that a client sent, without any of it: serde's own words repeat values, and a value may
/// be a token.
pub(crate) fn without_values(wrong: &(dyn Error + 'static)) -> String {
    let mut causes = std::iter::successors(Some(wrong), |&it| it.source());
    match causes.find_map(|it| it.downcast_ref::<serde_json::Error>()) {
        Some(json) => {
            let what = match json.classify() {
                serde_json::error::Category::Data => "JSON, but a field is not what it should be",
                serde_json::error::Category::Eof => "JSON that breaks off",
                _ => "no JSON",
            };
            format!("{what}, at line {} column {}", json.line(), json.column())
        }
        None => wrong.to_string(),
    }
}

/// A message that is not made of commands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error(transparent)]
    Json(#[from] json::Malformed),
    #[error(transparent)]
    Protobuf(#[from] protobuf::Malformed),
    #[error(transparent)]
    Uni(#[from] uni::Malformed),
}

impl Language {
    fn speech(self) -> Speech {
        match self {
            Self::WebSocketJson | Self::LinesJson | Self::SseJson => Speech::Json,
            Self::WebSocketProtobuf | Self::LinesProtobuf => Speech::Protobuf,
            Self::WebSocketUni | Self::LinesUni | Self::SseUni => Speech::Uni,
            Self::WebSocketPlain | Self::SsePlain => Speech::Plain,
        }
    }

    /// Whether it is spoken in server-sent events.
    pub(crate) fn is_sse(self) -> bool {
        self.framing() == Framing::Sse
    }

    fn framing(self) -> Framing {
        match self {
            Self::WebSocketJson | Self::WebSocketProtobuf | Self::WebSocketUni | Self::WebSocketPlain => {
                Framing::WebSocket
            }
            Self::LinesJson | Self::LinesProtobuf | Self::LinesUni => Framing::Lines,
            Self::SseJson | Self::SseUni | Self::SsePlain => Framing::Sse,
        }
    }

    /// A publication.
    pub(crate) fn write(self, channel: &Channel, publication: &Publication) -> Written {
        match self {
            Self::WebSocketPlain => Ok(match (publication.format, &publication.data) {
                (Format::Json, data) => frame::text(data),
                (Format::Binary, data) if std::str::from_utf8(data).is_ok() => frame::text(data),
                (Format::Binary, data) => frame::binary(data),
            }),
            Self::SsePlain => {
                let mut event = Vec::with_capacity(publication.data.len() + AROUND);
                sse::publication(publication, &mut event);
                Ok(event.into())
            }
            _ => self.push(Push::Publication(channel, publication), publication.data.len()),
        }
    }

    /// A publication for those who read differences. Plain connections do not, and get it whole.
    pub(crate) fn write_delta(
        self,
        channel: &Channel,
        publication: &Publication,
        patch: Option<&[u8]>,
    ) -> Written {
        match self.speech() {
            Speech::Plain => self.write(channel, publication),
            _ => self.push(
                Push::Delta(channel, publication, patch),
                patch.unwrap_or(&publication.data).len(),
            ),
        }
    }

    /// Whatever is said to everyone in a channel; `None` where the language has no word for it.
    pub(crate) fn write_push(self, push: Push<'_>) -> Option<Written> {
        match (self.speech(), push) {
            (_, Push::Publication(channel, publication)) => Some(self.write(channel, publication)),
            (_, Push::Delta(channel, publication, patch)) => {
                Some(self.write_delta(channel, publication, patch))
            }
            (Speech::Plain, Push::Join(..) | Push::Leave(..)) => None,
            (_, Push::Join(_, info) | Push::Leave(_, info)) => Some(self.push(push, info.conn_info.len())),
        }
    }

    /// A push in a speech that has pushes, of about `size` bytes beside what stands around it.
    fn push(self, push: Push<'_>, size: usize) -> Written {
        let room = size + AROUND;
        match self.speech() {
            Speech::Protobuf => Ok(delimited(self.framing(), room, |mut out| {
                protobuf::push(push, &mut out);
            })),
            Speech::Uni => lines(self.framing(), room, |out| uni::push(push, out)),
            Speech::Json | Speech::Plain => lines(self.framing(), room, |out| json::push(push, out)),
        }
    }

    fn reply(self, reply: &Reply) -> Said {
        let mut said = true;
        let written = match (self, self.speech()) {
            (_, Speech::Json) => lines(self.framing(), REPLY, |out| json::reply(reply, out)),
            (_, Speech::Protobuf) => Ok(delimited(self.framing(), REPLY, |mut out| {
                protobuf::reply(reply, &mut out);
            })),
            (_, Speech::Uni) => lines(self.framing(), REPLY, |out| {
                said = uni::reply(reply, out)?;
                Ok(())
            }),
            (Self::SsePlain, _) => {
                let mut events = Vec::new();
                match sse::reply(reply, &mut events) {
                    // Whoever waits for the stream to begin, it has.
                    Ok(false) if matches!(reply, Reply::Subscribe { .. }) => Ok(sse::PING.into()),
                    outcome => outcome.map(|any| {
                        said = any;
                        events.into()
                    }),
                }
            }
            (_, Speech::Plain) => match reply {
                Reply::Error { error, .. } => Err(plain::close_for(error)),
                _ => return Said::Nothing,
            },
        };
        match written {
            Ok(frame) if said => Said::Frame(frame),
            Ok(_) => Said::Nothing,
            Err(reason) => Said::Close(reason),
        }
    }
}
