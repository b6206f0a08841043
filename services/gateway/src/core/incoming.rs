//! What clients send, and how connections end.

use std::time::Instant;

use bytes::Bytes;
use tidings_protocol::{CloseReason, Command};
use tidings_websocket::{Message, frame};

use super::{
    Core, clock,
    connection::{Connection, Ending, Sink},
};
use crate::{
    emulation::Emulated,
    reconnect::{comes_back, retry},
    wire::without_values,
};

impl Core {
    /// Takes bytes from a client's socket, in place.
    pub(super) fn received(&mut self, key: usize, bytes: &mut [u8]) {
        let now = clock::now();
        let mut input = bytes;
        while let Some(connection) = self.connections.get_mut(key) {
            match connection.parse(&mut input) {
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
                session.transport_beat(now, &mut actions);
            }
            Message::Ping(data) => {
                session.transport_beat(now, &mut actions);
                self.push(key, frame::pong(&data), &mut actions);
            }
            Message::Text(data) | Message::Binary(data) => return self.said(key, data, now),
        }
        self.carry_out(key, actions, now);
    }

    /// Takes what a client has said, in one message or in one request.
    pub(super) fn said(&mut self, key: usize, data: Bytes, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Connection {
            session, wire, about, ..
        } = &mut **connection;
        let mut actions = Vec::new();
        let mut said = false;
        let read = wire.commands(data, |command| {
            said = true;
            session.command(command, now, &mut actions);
            !session.is_closed()
        });
        match read {
            Err(malformed) => {
                let why = without_values(&malformed);
                tracing::debug!(
                    client.id = %session.client(), peer.address = %about.remote, why, "a client sent what is no command"
                );
                session.close(CloseReason::BadRequest, &mut actions);
            }
            // What says nothing is as much work as a command, and paid for as one.
            Ok(()) if !said && !session.is_closed() => session.transport_beat(now, &mut actions),
            Ok(()) => {}
        }
        self.carry_out(key, actions, now);
    }

    /// Takes what a client has said apart from its connection, if this is where it belongs.
    pub(super) fn emulated(&mut self, emulated: Emulated, now: Instant) {
        let Emulated {
            key,
            secret,
            data,
            heard,
        } = emulated;
        let here = self
            .connections
            .get(key)
            .is_some_and(|it| it.secret == Some(secret) && !it.session.is_closed());
        if let Some(heard) = heard {
            let _ = heard.send(here); // whoever asked may have gone
        }
        if here {
            self.said(key, data, now);
        }
    }

    /// Takes commands that came with the handshake.
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
    pub(super) fn end(&mut self, key: usize, reason: &CloseReason, now: Instant) {
        self.node.metrics.closed(reason);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !reason.flushes() {
            connection.drop_unbegun();
        }
        let wait = match reason {
            CloseReason::Gone => return,
            CloseReason::WebSocket(_) => clock::SHORT_GOODBYE,
            _ => clock::GOODBYE,
        };
        if let Sink::Body(writer) = &mut connection.sink {
            writer.begin(Err(reason.clone()));
        }
        let again = connection.wire.language().is_sse() && comes_back(reason);
        for frame in again
            .then(retry)
            .into_iter()
            .chain(connection.wire.goodbye(reason))
        {
            let _ = connection.push(frame, usize::MAX); // never full
        }
        if let Sink::Body(_) = connection.sink {
            // Nobody answers our goodbye. Whoever serves the response sends what is left of it.
            return self.remove(key);
        }
        connection.ending = Some(Ending {
            by: now + wait,
            heard: false,
        });
        self.touch(key);
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
        let _ = connection.push(frame::close(CloseReason::Gone.code(), ""), usize::MAX); // never full
        connection.ending = Some(Ending {
            by: now + clock::GOODBYE,
            heard: true,
        });
        self.touch(key);
        self.reschedule(key);
    }

    /// The socket is broken or was shut by the client: nothing can be said any more.
    pub(super) fn gone(&mut self, key: usize) {
        self.close(key, CloseReason::Gone, clock::now());
        self.remove(key);
    }
}
