//! A load balancer, as small as it can be: what stands between clients and gateways in production.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// Takes connections and passes each on to the first of its nodes that accepts one. Ends when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Balancer {
    /// In front of the nodes on these ports.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(ports: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let serving = tokio_util::task::TaskTracker::new().spawn(serve(listener, ports.to_vec()));
        Self {
            address,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Where clients of the Centrifuge protocol connect.
    #[must_use]
    pub fn websocket(&self) -> String {
        format!("ws://{}/connection/websocket", self.address)
    }
}

async fn serve(listener: TcpListener, ports: Vec<u16>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(pass_on(client, ports.clone()));
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
