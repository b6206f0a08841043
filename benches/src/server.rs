//! What both senders have in common: they say where they listen, then send what they are told to.

use std::{net::SocketAddr, thread, time::Duration};

use tokio::time::Instant;

use crate::orders::{self, Done, Listening, Send};

/// Gives `frames` frames, made now, to everyone; `send` is how.
pub(crate) fn run(
    address: SocketAddr,
    mut send: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    orders::say(&Listening { address })?;
    for order in orders::heard() {
        match order? {
            Send::Burst { frames } => send(frames)?,
            Send::Paced { per_second, times } => {
                let start = Instant::now();
                for time in 0..times {
                    let due = start + Duration::from_secs(1) * time / per_second;
                    thread::sleep(due.duration_since(Instant::now()));
                    send(1)?;
                }
            }
        }
        orders::say(&Done)?;
    }
    Ok(())
}
