//! A client comes to its core.

use std::time::Instant;

use tidings_core::ClientId;
use tidings_protocol::CloseReason;
use tidings_session::{Session, Transport};
use tidings_websocket::Parser;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::{
    Core,
    connection::{Connection, Sink},
    socket::Socket,
};
use crate::{
    adopt::{self, Addressed, Adoption},
    emulation::SessionId,
    inbox::Address,
};

impl Core {
    /// Takes a client in. The address is for its task.
    pub(super) fn adopt(&mut self, adoption: Adoption, now: Instant) -> Option<Address> {
        let Adoption {
            sink,
            received,
            wire,
            opening,
            addressed,
            about,
        } = adoption;
        let sink = match sink {
            adopt::Sink::Socket(stream, place) => {
                let stream = TcpStream::from_std(stream)
                    .inspect_err(|error| tracing::warn!(%error, "a client's socket could not be taken over"))
                    .ok()?;
                let parser = Parser::new(self.node.message);
                Sink::Socket(Box::new(Socket::new(stream, parser, place)))
            }
            adopt::Sink::Body(writer) => Sink::Body(writer),
        };
        let client = ClientId::random();
        let secret = (addressed != Addressed::No).then(Uuid::new_v4);
        let place = self.connections.vacant_entry();
        let key = place.key();
        let name = secret.map(|secret| SessionId {
            core: self.number,
            key,
            secret,
        });
        let transport = Transport {
            mute: wire.is_mute(),
            session: name.map(|name| name.to_string().into()),
            node: (addressed == Addressed::Emulated).then(|| self.node.name.clone()),
            only: wire.only_channel(),
        };
        let rules = self.node.rules.clone();
        let session = Session::open(rules, client, transport, rand::random(), now);
        place.insert(Box::new(Connection::new(sink, session, wire, about, secret)));
        self.node.metrics.connected();
        self.reschedule(key);
        if self.drain.is_some() {
            self.close(key, CloseReason::Shutdown, now);
            return Some(Address { key, client });
        }
        self.commands(key, opening, now);
        if matches!(self.connections.get(key)?.sink, Sink::Socket(_)) {
            self.received(key, &mut Vec::from(received));
        } else if !received.is_empty() {
            self.said(key, received, now);
        }
        Some(Address { key, client })
    }
}
