//! The floor: nothing but one bare `write(2)` per client, from one thread. No gateway can be cheaper.

use std::{
    io::Write as _,
    mem,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Context as _;

use crate::{frame, server};

/// Connections that have come since somebody looked.
type Arrived = Arc<Mutex<Vec<TcpStream>>>;

/// Runs until the orders end.
pub(crate) fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let arrived = Arrived::default();
    let accepting = arrived.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if stream
                .set_nodelay(true)
                .and_then(|()| stream.set_nonblocking(true))
                .is_ok()
            {
                accepting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(stream);
            }
        }
    });

    let channel = frame::channel()?;
    let mut clients = Vec::new();
    server::run(address, |frames| {
        clients.append(&mut mem::take(
            &mut *arrived.lock().unwrap_or_else(PoisonError::into_inner),
        ));
        let bytes = frame::of(&channel, &frame::publication())?.repeat(frames);
        for client in &mut clients {
            // A full socket would be a mistake of the measurement, and ends it.
            client.write_all(&bytes).context("the floor could not write")?;
        }
        Ok(())
    })
}
