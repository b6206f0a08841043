//! A client comes to its core.

use std::time::Instant;

use tidings_core::ClientId;
use tidings_protocol::CloseReason;
use tidings_session::{Session, Transport};
use tidings_websocket::Parser;
use tokio::net::TcpStream;

use super::{Core, connection::Connection};
use crate::{adopt::Adoption, inbox::Address};

impl Core {
    /// Takes a client in. The address is for its task.
    pub(super) fn adopt(&mut self, adoption: Adoption, now: Instant) -> Option<Address> {
        let Adoption {
            stream,
            received,
            wire,
            opening,
            about,
            place,
        } = adoption;
        let stream = TcpStream::from_std(stream)
            .inspect_err(|error| tracing::warn!(%error, "a client's socket could not be taken over"))
            .ok()?;
        let client = ClientId::random();
        let session = Session::open(
            self.node.rules.clone(),
            client,
            Transport::default(),
            rand::random(),
            now,
        );
        let parser = Parser::new(self.node.message);
        let connection = Connection::new(stream, session, parser, wire, about, place);
        let key = self.connections.insert(Box::new(connection));
        self.node.metrics.connected();
        self.reschedule(key);
        if self.drain.is_some() {
            self.close(key, CloseReason::Shutdown, now);
            return Some(Address { key, client });
        }
        self.commands(key, opening, now);
        let mut received = Vec::from(received);
        self.received(key, &mut received);
        Some(Address { key, client })
    }
}
