//! The clients' ends of all connections, on one thread: they connect, then count what comes.
//!
//! They share the machine with what is measured, so they do as little as they can: one read per wake-up, and no
//! look at a frame unless its age is asked for.

mod dial;

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::dial::{Dial, Progress};
use crate::{
    frame::{Layout, since_1970},
    orders::{self, Ages, Done, Protocol, Receive},
};

/// Connections that are being made at once.
const DIALS: usize = 512;

/// How long everybody may be silent before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until the orders end.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut clients = Clients::new()?;
    for order in orders::heard() {
        match order? {
            Receive::Connect {
                to,
                protocol,
                clients: many,
            } => clients.connect(to, protocol, many)?,
            Receive::Frames { frames } => clients.receive(frames, None)?,
            Receive::Ages { frames } => {
                let mut ages = Vec::new();
                clients.receive(frames, Some(&mut ages))?;
                orders::say(&percentiles(ages)?)?;
                continue;
            }
        }
        orders::say(&Done)?;
    }
    Ok(())
}

struct Clients {
    poll: Poll,
    events: Events,
    /// By token. Those that are still being made have a place too.
    clients: Vec<Client>,
    layout: Layout,
    scratch: Vec<u8>,
    /// Bytes that came and have not been asked for.
    surplus: u64,
}

struct Client {
    stream: TcpStream,
    /// `None` once it is ready to receive.
    dial: Option<Dial>,
    /// Bytes of a frame of which the rest has yet to come.
    begun: usize,
}

impl Clients {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::new(),
            layout: Layout::learn()?,
            scratch: vec![0; 64 * 1024],
            surplus: 0,
        })
    }

    /// Makes `many` connections, [`DIALS`] at a time, and returns when all of them are ready.
    fn connect(&mut self, to: SocketAddr, protocol: Protocol, many: usize) -> anyhow::Result<()> {
        let mut ready = 0;
        while ready < many {
            while self.clients.len() < many && self.clients.len() - ready < DIALS {
                let number = self.clients.len();
                let (mut stream, dial) = (dial::open(to, number)?, Dial::new(to, protocol));
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut stream, Token(number), both)?;
                self.clients.push(Client {
                    stream,
                    dial: Some(dial),
                    begun: 0,
                });
            }
            self.poll.poll(&mut self.events, Some(PATIENCE))?;
            ensure!(
                !self.events.is_empty(),
                "{ready} of {many} clients are connected and nothing more happens"
            );
            for event in &self.events {
                let client = &mut self.clients[event.token().0];
                let Some(dial) = &mut client.dial else { continue };
                let progress = dial
                    .go_on(&mut client.stream)
                    .with_context(|| format!("client {ready}"))?;
                if progress == Progress::Ready {
                    client.dial = None;
                    ready += 1;
                }
            }
        }
        Ok(())
    }

    /// Reads until `frames` more have come.
    fn receive(&mut self, frames: u64, mut ages: Option<&mut Vec<Duration>>) -> anyhow::Result<()> {
        let wanted = frames * self.layout.len as u64;
        let mut got = self.surplus;
        while got < wanted {
            self.poll.poll(&mut self.events, Some(PATIENCE))?;
            ensure!(
                !self.events.is_empty(),
                "{got} of {wanted} bytes have come and nothing more does"
            );
            for event in &self.events {
                got += self.clients[event.token().0].read(&mut self.scratch, self.layout, &mut ages)?;
            }
        }
        self.surplus = got - wanted;
        Ok(())
    }
}

impl Client {
    /// Reads what is there, and returns how many bytes it was.
    fn read(
        &mut self,
        scratch: &mut [u8],
        layout: Layout,
        ages: &mut Option<&mut Vec<Duration>>,
    ) -> anyhow::Result<u64> {
        let mut all = 0;
        loop {
            let read = match self.stream.read(scratch) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("a client could not read"),
            };
            all += read as u64;
            if let Some(ages) = ages {
                let now = since_1970();
                let whole = scratch[..read]
                    .get((layout.len - self.begun) % layout.len..)
                    .unwrap_or_default();
                ages.extend(
                    whole
                        .chunks_exact(layout.len)
                        .filter_map(|frame| layout.age(frame, now)),
                );
            }
            self.begun = (self.begun + read) % layout.len;
            if read < scratch.len() {
                return Ok(all); // there was no more, and what comes next is told anew
            }
        }
    }
}

fn percentiles(mut ages: Vec<Duration>) -> anyhow::Result<Ages> {
    ages.sort_unstable();
    let at = |percent| -> anyhow::Result<u64> {
        let age: &Duration = ages
            .get(ages.len() * percent / 100)
            .context("no frame came in one piece")?;
        Ok(u64::try_from(age.as_micros())?)
    };
    Ok(Ages {
        p50: at(50)?,
        p99: at(99)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_the_sorted_ages() {
        let ages = (0..100).rev().map(Duration::from_micros).collect();
        let ages = percentiles(ages).unwrap();
        assert_eq!((ages.p50, ages.p99), (50, 99));
        assert!(percentiles(Vec::new()).is_err());
    }
}
