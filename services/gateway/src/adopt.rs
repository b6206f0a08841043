//! A client on its way from HTTP to the core that will own it.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use bytes::Bytes;
use tidings_protocol::Command;

use crate::{admission::Place, wire::Wire};

/// A client whose handshake is done.
pub(crate) struct Adoption {
    /// Its socket, non-blocking, at home in no runtime.
    pub(crate) stream: TcpStream,
    /// What had been read from it together with the handshake.
    pub(crate) received: Bytes,
    /// The language it speaks.
    pub(crate) wire: Wire,
    /// What it said in the handshake already.
    pub(crate) opening: Vec<Command>,
    /// How it came.
    pub(crate) about: Arc<About>,
    /// Its place on this node.
    pub(crate) place: Place,
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
