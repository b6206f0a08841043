//! What processes say to each other: one line of JSON an order, one an answer, over standard input and output.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a server says first: clients may come.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
}

/// What a server is told. It answers [`Done`] when it has handed everything over, which is not yet received.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Send {
    /// So many frames to everyone, as fast as it can.
    Burst { frames: usize },
    /// One frame to everyone, so many times a second, so many times.
    Paced { per_second: u32, times: u32 },
}

/// What clients are told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Receive {
    /// Connect to a server, and be ready to receive.
    Connect {
        to: SocketAddr,
        protocol: Protocol,
        clients: usize,
    },
    /// Read until this many more frames have come, all clients together. What comes beyond counts for the next.
    Frames { frames: u64 },
    /// The same, and tell how old frames were. They should come one at a time: of a frame that comes in two
    /// pieces the age is not taken.
    Ages { frames: u64 },
}

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// Whoever has heard a byte is ready.
    Bare,
    /// A WebSocket handshake, then Centrifuge's connect and subscribe, each answered before the next.
    Centrifuge,
}

/// The order is carried out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done;

/// How old frames were when they were read, in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ages {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// Says something to the process that started this one.
pub(crate) fn say(message: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(message)?)?;
    out.flush().context("nobody listens")
}

/// The orders of the process that started this one, until it ends.
pub(crate) fn heard<T: DeserializeOwned>() -> impl Iterator<Item = anyhow::Result<T>> {
    io::stdin()
        .lines()
        .map(|line| serde_json::from_str(&line?).context("not an order"))
}
