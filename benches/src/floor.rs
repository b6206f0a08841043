//! The floor: nothing but one bare `write(2)` per client, from one thread. No gateway can be cheaper.

use std::{
    io::Write as _,
    mem,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};

use crate::{frame, server};

/// How many connections may wait to be accepted: all that are ever dialled at once.
const BACKLOG: i32 = 1024;

/// What a client hears once it has been accepted, so that nobody counts who is still in the queue.
const GREETING: &[u8] = b"!";

/// Connections that have come since somebody looked.
type Arrived = Arc<Mutex<Vec<TcpStream>>>;

/// Runs until the orders end.
pub(crate) fn run() -> anyhow::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    let arrived = Arrived::default();
    let accepting = arrived.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream
                .set_nodelay(true)
                .and_then(|()| stream.set_nonblocking(true));
            let mut arrived = accepting.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = stream.write_all(GREETING);
            arrived.push(stream);
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
