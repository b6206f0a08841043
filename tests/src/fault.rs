//! A wire between a node and its Redis that can be cut, held up and slowed down.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// How the wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As a wire should be.
    Whole,
    /// Every connection is closed, and new ones at once.
    Cut,
    /// Nothing gets through, and nobody is told.
    Held,
    /// Everything arrives so much later.
    Slow(Duration),
}

/// Passes connections on to one port. Ends when it is dropped.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    _serving: AbortOnDropHandle<()>,
}

impl Faulty {
    /// In front of a port of this machine.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let wire = watch::Sender::new(Wire::Whole);
        let serving = tokio_util::task::TaskTracker::new().spawn(serve(listener, port, wire.subscribe()));
        Self {
            address,
            wire,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// The address of the Redis behind it.
    #[must_use]
    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From here on the wire is like this.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn serve(listener: TcpListener, port: u16, mut wire: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((near, _)) = listener.accept() => {
                if *wire.borrow() != Wire::Cut {
                    connections.spawn(join(near, port, wire.clone()));
                }
            }
            Ok(()) = wire.changed() => {
                if *wire.borrow_and_update() == Wire::Cut {
                    connections.abort_all();
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn join(near: TcpStream, port: u16, wire: watch::Receiver<Wire>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (near, far) = (near.into_split(), far.into_split());
    // Whichever direction ends, both are closed.
    tokio::select! {
        () = carry(near.0, far.1, wire.clone()) => {}
        () = carry(far.0, near.1, wire) => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let Ok(state) = wire.wait_for(|wire| *wire != Wire::Held).await.map(|wire| *wire) else {
            return;
        };
        if let Wire::Slow(by) = state {
            sleep(by).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
