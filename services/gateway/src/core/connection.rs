//! One socket with everything that belongs to it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use tidings_hub::{Full, Outbox};
use tidings_protocol::CloseReason;
use tidings_session::{Answer, Refusal, Session};
use tidings_websocket::Parser;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};

use crate::{
    admission::Place,
    adopt::About,
    quota::{Entered, Quota},
    wire::Wire,
};

/// How many frames one write takes at most. The kernel's own limit is 1024; past this it gains nothing.
const SLICES: usize = 64;

/// A connection of a core. It has no buffer of its own: what arrives is parsed in the core's, and what leaves is
/// shared with everyone who gets the same.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) parser: Parser,
    pub(super) wire: Wire,
    /// How it came.
    pub(super) about: Arc<About>,
    pub(super) outbox: Outbox,
    /// In the core's list of connections to flush.
    pub(super) touched: bool,
    /// Set when the session is over: how the WebSocket ends.
    pub(super) ending: Option<Ending>,
    /// The moment for which it stands in the core's list of deadlines.
    pub(super) deadline: Option<Instant>,
    stream: TcpStream,
    /// The socket takes no more for now; its task waits until it does.
    blocked: bool,
    waker: Option<Waker>,
    /// Its place among those of its user, once it is known who that is. Nobody needs none.
    user: Option<Entered<Arc<str>>>,
    _place: Place,
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
        stream: TcpStream,
        session: Session,
        parser: Parser,
        wire: Wire,
        about: Arc<About>,
        place: Place,
    ) -> Self {
        Self {
            session,
            parser,
            wire,
            about,
            outbox: Outbox::default(),
            touched: false,
            ending: None,
            deadline: None,
            stream,
            blocked: false,
            waker: None,
            user: None,
            _place: place,
        }
    }

    /// An answer on its way to the session: where it says who the client is, that user's place is taken. A refresh finds it
    /// taken.
    pub(super) fn admit(&mut self, answer: Answer, users: &Quota<Arc<str>>) -> Answer {
        let Answer::Authenticated {
            id,
            result: Ok(identity),
        } = &answer
        else {
            return answer;
        };
        if self.user.is_none() && !identity.user.is_empty() {
            self.user = users.enter(&identity.user);
            if self.user.is_none() {
                let result = Err(Refusal::Close(CloseReason::ConnectionLimit));
                return Answer::Authenticated { id: *id, result };
            }
        }
        answer
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

    pub(super) fn push(&mut self, frame: Bytes, limit: usize) -> Result<(), Full> {
        self.outbox.push(frame, limit)
    }

    /// Writes everything that waits, as far as the socket takes it; usually in one call.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.write() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.outbox.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.blocked {
                        self.blocked = true;
                        self.wake(); // so that its task waits for room
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.blocked = false;
        Ok(())
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

    /// When something has to happen that nobody else causes.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.ending {
            Some(ending) => Some(ending.by),
            None => self.session.deadline(),
        }
    }
}
