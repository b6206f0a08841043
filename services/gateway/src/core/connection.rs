//! One client with everything that belongs to it.

use std::{
    io,
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use bytes::Bytes;
use tidings_hub::Full;
use tidings_protocol::CloseReason;
use tidings_session::{Answer, Refusal, Session};
use tidings_websocket::{Error, Message};
use uuid::Uuid;

use super::socket::{Flushed, Socket};
use crate::{
    adopt::About,
    body::Writer,
    quota::{Entered, Quota},
    wire::Wire,
};

/// A connection of a core.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) wire: Wire,
    /// How it came.
    pub(super) about: Arc<About>,
    /// What its client knows and nobody else, if it is addressed apart from its connection.
    pub(super) secret: Option<Uuid>,
    /// In the core's list of connections to flush.
    pub(super) touched: bool,
    /// Set when the session is over: how the WebSocket ends.
    pub(super) ending: Option<Ending>,
    /// The moment for which it stands in the core's list of deadlines.
    pub(super) deadline: Option<Instant>,
    pub(super) sink: Sink,
    /// Taken by the first answer of who the client is; none while it is unknown, or nobody.
    pub(super) user: Option<Entered<Arc<str>>>,
    /// Bytes of what it missed that wait with the answer to its connect.
    pub(super) recovered: u32,
    /// Bytes of the outbox that the node's metrics know of.
    pub(super) counted: u32,
    waker: Option<Waker>,
}

/// Where a connection's frames go.
pub(super) enum Sink {
    /// A WebSocket client's socket.
    Socket(Box<Socket>),
    /// The response to a request. What the client says comes by other requests.
    Body(Writer),
}

/// A closing handshake (RFC 6455 section 7.1.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// When we stop waiting for the client's part of it.
    pub(super) by: Instant,
    /// The client has said its part: the socket goes as soon as ours is written.
    pub(super) heard: bool,
}

pub(super) enum Read {
    Bytes(usize),
    Nothing,
    End,
}

impl Connection {
    pub(super) fn new(
        sink: Sink,
        session: Session,
        wire: Wire,
        about: Arc<About>,
        secret: Option<Uuid>,
    ) -> Self {
        Self {
            session,
            wire,
            about,
            secret,
            touched: false,
            ending: None,
            deadline: None,
            sink,
            user: None,
            recovered: 0,
            counted: 0,
            waker: None,
        }
    }

    /// Reads what is there. When nothing is, the task of `cx` is woken once something comes, or the client goes.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Read {
        match &mut self.sink {
            Sink::Socket(socket) => socket.read(cx, into),
            Sink::Body(writer) if writer.is_gone(cx) => Read::End,
            Sink::Body(_) => Read::Nothing,
        }
    }

    /// The next whole message in what was read, if there is one.
    pub(super) fn parse(&mut self, input: &mut &mut [u8]) -> Result<Option<Message>, Error> {
        match &mut self.sink {
            Sink::Socket(socket) => socket.parser.next(input),
            Sink::Body(_) => Ok(None),
        }
    }

    /// Whether a socket that was full takes more now. If not, the task of `cx` is woken once it does.
    pub(super) fn unblocked(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.sink {
            Sink::Socket(socket) => socket.unblocked(cx),
            Sink::Body(_) => false,
        }
    }

    /// Remembers the task that reads this connection.
    pub(super) fn remember(&mut self, task: &Waker) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(task),
            None => self.waker = Some(task.clone()),
        }
    }

    /// Makes the task that reads this connection look at it.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Queues a frame. What waits is written first where it leaves no room for it: who reads what it gets is not slow,
    /// however much comes at once.
    pub(super) fn push(&mut self, frame: Bytes, limit: usize) -> Result<(), Full> {
        if let Sink::Socket(socket) = &self.sink
            && !socket.outbox.has_room(frame.len(), limit)
            && self.flush().is_err()
        {
            return Ok(()); // it is broken, which the next flush finds again
        }
        match &mut self.sink {
            Sink::Socket(socket) => socket.outbox.push(frame, limit),
            Sink::Body(writer) => writer.push(frame, limit),
        }
    }

    /// Bytes that wait for the client.
    pub(super) fn waiting(&self) -> usize {
        match &self.sink {
            Sink::Socket(socket) => socket.outbox.bytes(),
            Sink::Body(writer) => writer.bytes(),
        }
    }

    /// Drops every frame that has not begun to leave.
    pub(super) fn drop_unbegun(&mut self) {
        match &mut self.sink {
            Sink::Socket(socket) => socket.outbox.drop_unbegun(),
            Sink::Body(writer) => writer.drop_unbegun(),
        }
    }

    /// Lets everything that waits leave, as far as it can.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Socket(socket) => {
                if let Flushed::Blocked(true) = socket.flush()? {
                    self.wake(); // so that its task waits for room
                }
            }
            Sink::Body(writer) => writer.flush(),
        }
        Ok(())
    }

    /// Bytes that wait for the socket: as they were counted last, and now.
    pub(super) fn recount(&mut self) -> (u32, u32) {
        let waiting = match &self.sink {
            Sink::Socket(socket) => u32::try_from(socket.outbox.bytes()).unwrap_or(u32::MAX),
            // Its reader takes what waits at its own pace, without asking the core.
            Sink::Body(_) => 0,
        };
        (std::mem::replace(&mut self.counted, waiting), waiting)
    }

    /// Both sides of a WebSocket have said goodbye, and the client has got all that it gets.
    pub(super) fn is_over(&self) -> bool {
        match &self.sink {
            Sink::Socket(socket) => {
                socket.outbox.is_empty() && self.ending.is_some_and(|ending| ending.heard)
            }
            Sink::Body(_) => false,
        }
    }

    /// Passes an answer on to the session, unless it says that the client is a user who has all the connections that one
    /// may have.
    pub(super) fn admit(&mut self, answer: Answer, users: &Quota<Arc<str>>) -> Answer {
        match answer {
            Answer::Authenticated { id, result: Ok(who) } if self.user.is_none() && !who.user.is_empty() => {
                self.user = users.enter(&who.user);
                let result = match self.user {
                    Some(_) => Ok(who),
                    None => Err(Refusal::Close(CloseReason::ConnectionLimit)),
                };
                Answer::Authenticated { id, result }
            }
            _ => answer,
        }
    }

    /// When something has to happen that nobody else causes.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.ending {
            Some(ending) => Some(ending.by),
            None => self.session.deadline(),
        }
    }
}
