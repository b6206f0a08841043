//! A load balancer, as small as it can be: what stands between clients and gateways in production.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// Takes connections and passes each on to the first of its nodes that accepts one. Ends when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    open: watch::Sender<bool>,
    _serving: AbortOnDropHandle<()>,
}

/// Which node a connection is passed on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Next,
}

impl Balancer {
    /// In front of the nodes on these ports: all get to the first that is there.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(ports: &[u16]) -> Self {
        Self::serving(ports, Turn::First).await
    }

    /// The same, and each connection begins at the node after the one where the last began.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start_in_turn(ports: &[u16]) -> Self {
        Self::serving(ports, Turn::Next).await
    }

    async fn serving(ports: &[u16], turn: Turn) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let open = watch::Sender::new(true);
        let work = serve(listener, ports.to_vec(), turn, open.subscribe());
        let serving = tokio_util::task::TaskTracker::new().spawn(work);
        Self {
            address,
            open,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where clients of the Centrifuge protocol connect.
    #[must_use]
    pub fn websocket(&self) -> String {
        format!("ws://{}/connection/websocket", self.address)
    }

    /// Cuts every connection and lets nobody through until [`mend`](Self::mend).
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets everybody through again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

async fn serve(listener: TcpListener, mut ports: Vec<u16>, turn: Turn, mut open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                // Dropped while it is cut: the client sees its connection closed.
                if *open.borrow() {
                    connections.spawn(pass_on(client, ports.clone()));
                    if turn == Turn::Next {
                        ports.rotate_left(1);
                    }
                }
            }
            Ok(()) = open.changed() => {
                if !*open.borrow_and_update() {
                    connections.abort_all();
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn pass_on(mut client: TcpStream, ports: Vec<u16>) {
    for port in ports {
        if let Ok(mut node) = TcpStream::connect(("127.0.0.1", port)).await {
            // Whichever end goes, both are closed.
            let _ = copy_bidirectional(&mut client, &mut node).await;
            return;
        }
    }
}
