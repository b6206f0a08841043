//! tungstenite as a server on the same bytes: the same messages, and both accept or both refuse.
//!
//! Where we differ on purpose:
//!
//! 1. A length that is not in its shortest encoding: RFC 6455 section 5.2 demands the shortest, we refuse,
//!    tungstenite reads on. In a control frame any longer encoding is refused as too long for one.
//! 2. A close code that must not be sent: we refuse, tungstenite reports a close frame with 1002 in its place.
//!    Either way the client gets 1002.
//! 3. Close code 1014 (bad gateway): registered with IANA since, we take it; tungstenite treats it like case 2.
//! 4. When a frame is refused: we refuse at the byte that shows it, tungstenite when the frame is whole. So on
//!    a stream that ends inside a frame we may have refused what tungstenite still waits for; once the frame is
//!    whole it must refuse too.

use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use proptest::prelude::*;
use tidings_websocket::{CloseFrame, Error, Message};
use tungstenite::{
    Message as Theirs,
    protocol::{Role, WebSocket, WebSocketConfig, frame::CloseFrame as TheirCloseFrame},
};

use crate::{
    client::{LIMIT, conversation, limit, stream},
    splits::parse_at_once,
};

/// A socket in memory: gives what was received, then would block; keeps what is sent.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    pub(crate) received: Cursor<Vec<u8>>,
    pub(crate) sent: Vec<u8>,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.received.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a stream ended for tungstenite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It waits for more.
    Open,
    /// The client closed.
    Closed,
    /// It refused something.
    Refused,
}

/// What tungstenite says of a stream.
pub(crate) fn tungstenite(role: Role, limit: usize, stream: Vec<u8>) -> (Vec<Message>, End) {
    let socket = Socket {
        received: Cursor::new(stream),
        ..Socket::default()
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_frame_size(Some(limit))
        .max_message_size(Some(limit));
    let mut websocket = WebSocket::from_raw_socket(socket, role, Some(config));
    let mut messages = Vec::new();
    loop {
        match websocket.read() {
            Ok(message) => {
                let message = into_ours(message);
                let closed = matches!(message, Message::Close(_));
                messages.push(message);
                if closed {
                    return (messages, End::Closed);
                }
            }
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, End::Open);
            }
            Err(_) => return (messages, End::Refused),
        }
    }
}

fn into_ours(message: Theirs) -> Message {
    match message {
        Theirs::Text(text) => Message::Text(text.into()),
        Theirs::Binary(data) => Message::Binary(data),
        Theirs::Ping(data) => Message::Ping(data),
        Theirs::Pong(data) => Message::Pong(data),
        Theirs::Close(frame) => Message::Close(frame.map(|frame| CloseFrame {
            code: frame.code.into(),
            reason: frame.reason.as_str().to_owned(),
        })),
        Theirs::Frame(_) => unreachable!("tungstenite reads no raw frames"),
    }
}

pub(crate) fn into_theirs(message: &Message) -> Theirs {
    let text = |text: &Bytes| String::from_utf8(text.to_vec()).expect("text is UTF-8");
    match message {
        Message::Text(data) => Theirs::text(text(data)),
        Message::Binary(data) => Theirs::Binary(data.clone()),
        Message::Ping(data) => Theirs::Ping(data.clone()),
        Message::Pong(data) => Theirs::Pong(data.clone()),
        Message::Close(frame) => Theirs::Close(frame.as_ref().map(|frame| TheirCloseFrame {
            code: frame.code.into(),
            reason: frame.reason.as_str().into(),
        })),
    }
}

/// What tungstenite reports in place of a close frame whose code it does not take (cases 2 and 3).
fn replaced_close() -> Message {
    Message::Close(Some(CloseFrame {
        code: 1002,
        reason: "Protocol violation".to_owned(),
    }))
}

/// The stream with its last frame made whole; only with its header made whole when the frame is over the limit.
fn complete(limit: usize, mut stream: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at < stream.len() {
        if at + 1 == stream.len() {
            stream.push(0x80); // masked, no payload
        }
        let masked = if stream[at + 1] & 0x80 == 0 { 0 } else { 4 };
        let short = stream[at + 1] & 0x7F;
        let (length, size) = match short {
            126 => (at + 2..at + 4, 2),
            127 => (at + 2..at + 10, 8),
            _ => (at + 1..at + 2, 0),
        };
        if stream.len() < length.end {
            stream.resize(length.end, 0);
        }
        let payload = match size {
            0 => u64::from(short),
            _ => stream[length]
                .iter()
                .fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        at += 2 + size + masked;
        if payload > limit as u64 {
            stream.resize(at.max(stream.len()), 0);
            return stream;
        }
        at += payload as usize;
    }
    stream.resize(at, 0);
    stream
}

/// Both servers' verdicts on a stream, compared.
fn compare(limit: usize, stream: Vec<u8>) -> Result<(), TestCaseError> {
    let (messages, error) = parse_at_once(limit, &stream);
    let (theirs, end) = tungstenite(Role::Server, limit, stream.clone());
    match error {
        // Case 1.
        Some(Error::LongLength(_) | Error::LongControl) => {
            prop_assert!(theirs.starts_with(&messages), "{theirs:?} {messages:?}");
        }
        // Case 2. A reason that is not UTF-8 as well makes tungstenite refuse.
        Some(Error::CloseCode(_)) if end == End::Closed => {
            let mut expected = messages;
            expected.push(replaced_close());
            prop_assert_eq!(theirs, expected);
        }
        Some(error) => {
            prop_assert_eq!(&theirs, &messages);
            if end == End::Open {
                // Case 4.
                let (theirs, end) = tungstenite(Role::Server, limit, complete(limit, stream));
                prop_assert_eq!((theirs, end), (messages, End::Refused), "we said {}", error);
            } else {
                prop_assert_eq!(end, End::Refused, "we said {}", error);
            }
        }
        None => {
            // Case 3.
            let expected: Vec<_> = messages
                .into_iter()
                .map(|message| match message {
                    Message::Close(Some(frame)) if frame.code == 1014 => replaced_close(),
                    message => message,
                })
                .collect();
            let closed = matches!(expected.last(), Some(Message::Close(_)));
            let expected_end = if closed { End::Closed } else { End::Open };
            prop_assert_eq!((theirs, end), (expected, expected_end));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn tungstenite_agrees_on_what_clients_should_send(conversation in conversation()) {
        compare(LIMIT, conversation.stream)?;
    }

    #[test]
    fn tungstenite_agrees_on_what_clients_should_not_send(limit in limit(), stream in stream()) {
        compare(limit, stream)?;
    }
}
