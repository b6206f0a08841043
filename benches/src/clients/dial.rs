//! One client on its way in: TCP, WebSocket handshake, connect, subscribe, each step answered before the next, as
//! real clients do. It speaks in raw bytes, because thousands of it must cost little.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use crate::{frame::CHANNEL, orders::Protocol};

/// Connections per source address: fewer than the system has ports to give to one.
const PER_ADDRESS: usize = 20_000;

/// Opens the connection of the client with this number, and does not wait until it is there.
pub(super) fn open(to: SocketAddr, number: usize) -> anyhow::Result<TcpStream> {
    let from = Ipv4Addr::LOCALHOST.to_bits() + u32::try_from(number / PER_ADDRESS)?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if number >= PER_ADDRESS {
        socket.bind(&SocketAddr::from((Ipv4Addr::from_bits(from), 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock && !is_in_progress(&error) => {
            Err(error).with_context(|| format!("client {number} cannot connect to {to}"))
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// A client that is not ready yet.
pub(super) struct Dial {
    to: SocketAddr,
    protocol: Protocol,
    awaits: Answer,
    /// What has come of the answer.
    heard: Vec<u8>,
}

/// What it waits for.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Tcp,
    Greeting,
    Upgrade,
    Connect,
    Subscribe,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Ready,
    NotYet,
}

impl Dial {
    pub(super) fn new(to: SocketAddr, protocol: Protocol) -> Self {
        Self {
            to,
            protocol,
            awaits: Answer::Tcp,
            heard: Vec::new(),
        }
    }

    /// Takes what has come, and says what is next.
    pub(super) fn go_on(&mut self, stream: &mut TcpStream) -> anyhow::Result<Progress> {
        if let Answer::Tcp = self.awaits {
            return self.connected(stream);
        }
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed the connection instead of {:?}", self.awaits),
                Ok(read) => self.heard.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.answered(stream),
                Err(error) => return Err(error).context("cannot read"),
            }
        }
    }

    fn connected(&mut self, stream: &mut TcpStream) -> anyhow::Result<Progress> {
        if let Some(error) = stream.take_error()? {
            return Err(error).context("cannot connect");
        }
        if stream.peer_addr().is_err() {
            return Ok(Progress::NotYet);
        }
        stream.set_nodelay(true)?;
        if self.protocol == Protocol::Bare {
            self.awaits = Answer::Greeting;
            return self.go_on(stream); // it may be there already, and is told once
        }
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.to
        );
        self.say(stream, request.as_bytes(), Answer::Upgrade)
    }

    fn answered(&mut self, stream: &mut TcpStream) -> anyhow::Result<Progress> {
        let heard = String::from_utf8_lossy(&self.heard);
        match self.awaits {
            Answer::Greeting if !heard.is_empty() => Ok(Progress::Ready),
            Answer::Upgrade if heard.ends_with("\r\n\r\n") => {
                ensure!(
                    heard.starts_with("HTTP/1.1 101 "),
                    "the handshake was answered: {heard}"
                );
                self.say(stream, &command(r#"{"id":1,"connect":{}}"#), Answer::Connect)
            }
            Answer::Connect if heard.ends_with('}') => {
                ensure!(heard.contains(r#""connect":{"#), "connect was answered: {heard}");
                let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"{CHANNEL}"}}}}"#);
                self.say(stream, &command(&subscribe), Answer::Subscribe)
            }
            Answer::Subscribe if heard.ends_with('}') => {
                ensure!(
                    heard.contains(r#""subscribe":{"#),
                    "subscribe was answered: {heard}"
                );
                Ok(Progress::Ready)
            }
            _ => Ok(Progress::NotYet),
        }
    }

    fn say(&mut self, stream: &mut TcpStream, bytes: &[u8], awaits: Answer) -> anyhow::Result<Progress> {
        stream.write_all(bytes).context("cannot write")?;
        self.heard = Vec::new();
        self.awaits = awaits;
        Ok(Progress::NotYet)
    }
}

/// A text frame from a client. Its mask is zero, which changes nothing and is a mask all the same.
fn command(text: &str) -> Vec<u8> {
    const TEXT: u8 = 0x81;
    const MASKED: u8 = 0x80;
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    debug_assert!(len < 126, "a longer frame has another header");
    [&[TEXT, MASKED | len, 0, 0, 0, 0], text.as_bytes()].concat()
}
