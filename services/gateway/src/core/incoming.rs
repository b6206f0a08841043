//! What clients send, and how connections end.

use std::time::Instant;

use bytes::Bytes;
use tidings_protocol::{CloseReason, Command};
use tidings_websocket::{Message, frame};

use super::{Core, clock, connection::Ending};

impl Core {
    /// Takes bytes from a client's socket, in place.
    pub(super) fn received(&mut self, key: usize, bytes: &mut [u8]) {
        let now = clock::now();
        let mut input = bytes;
        while let Some(connection) = self.connections.get_mut(key) {
            match connection.parser.next(&mut input) {
                Ok(None) => return,
                Ok(Some(message)) => self.message(key, message, now),
                Err(error) => {
                    let client = connection.session.client();
                    tracing::debug!(client.id = %client, %error, "a client broke the WebSocket protocol");
                    return self.close(key, CloseReason::WebSocket(error.close_code()), now);
                }
            }
        }
    }

    fn message(&mut self, key: usize, message: Message, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let session = &mut connection.session;
        let mut actions = Vec::new();
        match message {
            Message::Close(_) => return self.heard_close(key, now),
            _ if session.is_closed() => return,
            // Only where it is the answer to our ping: elsewhere it would stand for the answer in the protocol, which
            // then came unasked.
            Message::Pong(_) => {
                if connection.wire.pings_by_transport() {
                    session.transport_pong();
                }
            }
            Message::Ping(data) => {
                session.transport_ping(now, &mut actions);
                self.push(key, frame::pong(&data), &mut actions);
            }
            Message::Text(data) | Message::Binary(data) => {
                let read = connection.wire.commands(data, |command| {
                    session.command(command, now, &mut actions);
                    !session.is_closed()
                });
                if let Err(malformed) = read {
                    tracing::debug!(client.id = %session.client(), %malformed, "a client sent what is no command");
                    session.close(CloseReason::BadRequest, &mut actions);
                }
            }
        }
        self.carry_out(key, actions, now);
    }

    /// Takes commands that came by other ways than a message.
    pub(super) fn commands(&mut self, key: usize, commands: Vec<Command>, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut actions = Vec::new();
        for command in commands {
            connection.session.command(command, now, &mut actions);
        }
        self.carry_out(key, actions, now);
    }

    /// Ends a session from outside; its last action ends the connection.
    pub(super) fn close(&mut self, key: usize, reason: CloseReason, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut actions = Vec::new();
        connection.session.close(reason, &mut actions);
        self.carry_out(key, actions, now);
    }

    /// The session is over. The client is told why, and has a moment to say goodbye.
    pub(super) fn end(&mut self, key: usize, reason: CloseReason, now: Instant) {
        self.node.metrics.closed(&reason);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !reason.flushes() {
            connection.outbox.drop_unbegun();
        }
        let wait = match &reason {
            CloseReason::Gone => return,
            CloseReason::WebSocket(_) => clock::SHORT_GOODBYE,
            _ => clock::GOODBYE,
        };
        let goodbye = frame::close(reason.code(), reason.text());
        self.farewell(
            key,
            goodbye,
            Ending {
                by: now + wait,
                heard: false,
            },
        );
    }

    /// The client says goodbye: first, or in answer to ours.
    fn heard_close(&mut self, key: usize, now: Instant) {
        self.close(key, CloseReason::Gone, now);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(ending) = &mut connection.ending {
            ending.heard = true;
            return self.touch(key);
        }
        let goodbye = frame::close(CloseReason::Gone.code(), "");
        self.farewell(
            key,
            goodbye,
            Ending {
                by: now + clock::GOODBYE,
                heard: true,
            },
        );
        self.reschedule(key);
    }

    /// Queues the last frame of a connection, whatever waits before it.
    fn farewell(&mut self, key: usize, goodbye: Bytes, ending: Ending) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.ending = Some(ending);
        if connection.push(goodbye, usize::MAX).is_ok() {
            self.touch(key);
        }
    }

    /// The socket is broken or was shut by the client: nothing can be said any more.
    pub(super) fn gone(&mut self, key: usize) {
        self.close(key, CloseReason::Gone, clock::now());
        self.remove(key);
    }
}
