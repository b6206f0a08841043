//! A way to Redis on which one answer is lost.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tidings_runtime::Shutdown;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Passes everything on to `server`, both ways, but for one thing: on the connection that brings `marker` for the first
/// time, Redis' answers get lost from then on.
pub(crate) async fn losing_the_answer_to(marker: &'static [u8], server: u16) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Shutdown::new();
    let armed = Arc::new(AtomicBool::new(true));
    drop(tasks.clone().spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let lost = Arc::new(AtomicBool::new(false));
            drop(tasks.spawn(answers(from_server, to_client, lost.clone())));
            drop(tasks.spawn(requests(from_client, to_server, marker, armed.clone(), lost)));
        }
    }));
    address
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    marker: &'static [u8],
    armed: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let chunk = &bytes[..count];
        if chunk.windows(marker.len()).any(|part| part == marker) && armed.swap(false, Ordering::Relaxed) {
            lost.store(true, Ordering::Relaxed);
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: Arc<AtomicBool>) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !lost.load(Ordering::Relaxed) && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
