//! A socket on its way from HTTP to the core that will own it.

use std::net::TcpStream;

use bytes::Bytes;
use tidings_protocol::Command;
use tokio::sync::OwnedSemaphorePermit;

use crate::wire::Wire;

/// A client whose WebSocket handshake is done.
pub(crate) struct Adoption {
    /// Its socket, non-blocking, at home in no runtime.
    pub(crate) stream: TcpStream,
    /// What had been read from it together with the handshake.
    pub(crate) received: Bytes,
    /// The language it speaks.
    pub(crate) wire: Wire,
    /// What it said in the handshake already.
    pub(crate) opening: Vec<Command>,
    /// Its place among the connections that this node takes.
    pub(crate) place: OwnedSemaphorePermit,
}
