//! Ports for processes that have to be told theirs: free now, and nobody else's until they are dropped.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// What a node takes beside its clients' port: backends, operators, and presence where it has a door of its own.
const OFFSETS: [u16; 4] = [0, 1000, 1100, 1200];

/// Below the ports that systems give to clients, so that no connection happens to have one of ours.
const RANGE: std::ops::Range<u16> = 10_000..30_000;

/// The ports of one node.
///
/// Each is held as a UDP port while the process has it as a TCP port: so tests that run at the same time, in
/// whichever process, agree on who has which.
#[derive(Debug)]
pub(crate) struct Ports {
    base: u16,
    _held: [UdpSocket; OFFSETS.len()],
}

impl Ports {
    /// Free ports.
    pub(crate) fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let width = RANGE.end - RANGE.start;
        let start = u16::try_from(process::id() % u32::from(width)).expect("less than the width");
        for _ in 0..width {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let base = RANGE.start + start.wrapping_add(step) % width;
            if let Some(held) = OFFSETS
                .map(|offset| hold(base + offset))
                .into_iter()
                .collect::<Option<Vec<_>>>()
            {
                let held = held.try_into().expect("as many as there are offsets");
                return Self { base, _held: held };
            }
        }
        panic!("no free ports in {RANGE:?}");
    }

    pub(crate) fn clients(&self) -> u16 {
        self.base
    }

    pub(crate) fn backends(&self) -> u16 {
        self.base + OFFSETS[1]
    }

    pub(crate) fn operators(&self) -> u16 {
        self.base + OFFSETS[2]
    }

    pub(crate) fn presence(&self) -> u16 {
        self.base + OFFSETS[3]
    }
}

fn hold(port: u16) -> Option<UdpSocket> {
    let held = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .is_ok()
        .then_some(held)
}
