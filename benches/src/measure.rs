//! A server with its clients, and what can be measured of them.

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::Instant;

use crate::{
    child::Child,
    orders::{Ages, Done, Listening, Protocol, Receive, Send},
    process,
};

/// Frames of one burst.
pub(crate) const BURST: usize = 16;

/// Bursts that are under way at once: while one is being written the next is already there.
const WINDOW: usize = 2;

/// A server, its clients, and how they came together.
pub(crate) struct Pair {
    server: Child,
    clients: Child,
    many: usize,
    /// From the first connection to the last answer.
    pub(crate) connected_in: Duration,
    /// The server's memory before anybody came, in bytes.
    memory_before: u64,
}

/// What single publications cost.
pub(crate) struct Singles {
    /// CPU time of the server per delivery, in microseconds.
    pub(crate) cpu: f64,
    /// Until the last client has read it; the median.
    pub(crate) reached_all_in: Duration,
}

impl Pair {
    /// The bare writes.
    pub(crate) fn floor(many: usize) -> anyhow::Result<Self> {
        Self::start(Child::start("floor", &[])?, Protocol::Bare, many)
    }

    /// The gateway.
    pub(crate) fn node(many: usize, cores: NonZeroUsize) -> anyhow::Result<Self> {
        let node = Child::start("node", &["--cores".to_owned(), cores.to_string()])?;
        Self::start(node, Protocol::Centrifuge, many)
    }

    fn start(mut server: Child, protocol: Protocol, many: usize) -> anyhow::Result<Self> {
        let Listening { address } = server.hear()?;
        let mut clients = Child::start("clients", &[])?;
        let (start, memory_before) = (Instant::now(), process::resident(server.id())?);
        let Done = clients.ask(&Receive::Connect {
            to: address,
            protocol,
            clients: many,
        })?;
        let connected_in = start.elapsed();
        Ok(Self {
            server,
            clients,
            many,
            connected_in,
            memory_before,
        })
    }

    /// The server's process.
    pub(crate) fn id(&self) -> u32 {
        self.server.id()
    }

    /// What the server's memory has grown by since nobody was there, in bytes per client.
    pub(crate) fn memory_per_client(&self) -> anyhow::Result<f64> {
        let grown = process::resident(self.id())?.saturating_sub(self.memory_before);
        Ok(grown as f64 / self.many as f64)
    }

    /// One frame to everyone, the next when all have it.
    pub(crate) fn singles(&mut self, times: usize) -> anyhow::Result<Singles> {
        let before = process::cpu(self.id())?;
        let mut reached = Vec::with_capacity(times);
        for _ in 0..times {
            self.clients.tell(&Receive::Frames {
                frames: self.many as u64,
            })?;
            let start = Instant::now();
            self.server.tell(&Send::Burst { frames: 1 })?;
            let Done = self.clients.hear()?;
            reached.push(start.elapsed());
            let Done = self.server.hear()?;
        }
        reached.sort_unstable();
        let reached_all_in = reached.get(times / 2).copied().unwrap_or_default();
        Ok(Singles {
            cpu: self.cpu_since(before, times)?,
            reached_all_in,
        })
    }

    /// Bursts to everyone, without a pause. The answer is the server's CPU time per delivery, in microseconds.
    pub(crate) fn bursts(&mut self, times: usize) -> anyhow::Result<f64> {
        let before = process::cpu(self.id())?;
        let burst = Send::Burst { frames: BURST };
        for time in 0..times + WINDOW {
            if time < times {
                self.server.tell(&burst)?;
            }
            if time >= WINDOW {
                let Done = self.clients.ask(&Receive::Frames {
                    frames: (self.many * BURST) as u64,
                })?;
                let Done = self.server.hear()?;
            }
        }
        self.cpu_since(before, times * BURST)
    }

    /// A frame to everyone, so many times a second: how old it is when it is read.
    pub(crate) fn paced(&mut self, per_second: u32, times: u32) -> anyhow::Result<Ages> {
        self.clients.tell(&Receive::Ages {
            frames: self.many as u64 * u64::from(times),
        })?;
        self.server.tell(&Send::Paced { per_second, times })?;
        let ages = self.clients.hear()?;
        let Done = self.server.hear()?;
        Ok(ages)
    }

    fn cpu_since(&self, before: Duration, frames: usize) -> anyhow::Result<f64> {
        let used = process::cpu(self.id())?.saturating_sub(before);
        Ok(used.as_secs_f64() * 1e6 / (frames * self.many) as f64)
    }
}
