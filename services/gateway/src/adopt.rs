//! A client on its way from HTTP to the core that will own it.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use bytes::Bytes;
use tidings_protocol::Command;

use crate::{admission::Place, body::Writer, wire::Wire};

/// A client whose handshake is done.
pub(crate) struct Adoption {
    /// Where to write what it is told.
    pub(crate) sink: Sink,
    /// What it sent together with the handshake: the first bytes of a socket, the first message of a request.
    pub(crate) received: Bytes,
    /// The language it speaks.
    pub(crate) wire: Wire,
    /// What it said in the handshake already.
    pub(crate) opening: Vec<Command>,
    /// How it is addressed apart from its connection.
    pub(crate) addressed: Addressed,
    /// How it came.
    pub(crate) about: Arc<About>,
}

/// Where to write what a client is told.
pub(crate) enum Sink {
    /// Its socket, non-blocking, at home in no runtime, and the place that it takes.
    Socket(TcpStream, Place),
    /// The response to its request, which holds the place.
    Body(Writer),
}

/// How a client is addressed apart from its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressed {
    /// Not at all: it speaks by its connection.
    No,
    /// It is told a name of its session, and speaks by no means.
    Named,
    /// It speaks by requests to any node, and is told which node is its own.
    Emulated,
}

/// How a client came: what its user's backend may be told, beside what the client itself says.
#[derive(Debug)]
pub(crate) struct About {
    /// `websocket`, `http_stream`, `sse`, `uni_websocket`, `uni_sse` or `uni_http_stream`.
    pub(crate) transport: &'static str,
    /// The headers that the configuration asks to keep, lower case, as far as they are text.
    pub(crate) headers: Vec<(String, String)>,
    /// The other end of its connection.
    pub(crate) remote: SocketAddr,
}
