//! The accept loop, over real sockets.

mod http2;

use axum::{
    extract::{ConnectInfo, Request},
    routing::{any, get, post},
};
use hyper_util::{rt::TokioExecutor, server::conn::auto::upgrade::downcast};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_util::task::TaskTracker;

use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Serves `router` at a free port. What it runs ends with the returned shutdown.
fn open(router: Router, limits: Limits) -> (SocketAddr, Shutdown) {
    let listener = bind("test", LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    drop(shutdown.spawn(serve(listener, router, limits, shutdown.clone())));
    (address, shutdown)
}

fn hello() -> Router {
    Router::new().route(
        "/",
        get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
    )
}

/// Reads one response with a `content-length`, or fewer bytes when the connection ends.
async fn response(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let body = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?;
            Some(body.len() >= length.parse::<usize>().ok()?)
        });
        let mut bytes = [0; 1024];
        match body {
            Some(true) => return text,
            _ => match socket.read(&mut bytes).await {
                Ok(0) | Err(_) => return text,
                Ok(read) => text.push_str(std::str::from_utf8(&bytes[..read]).unwrap()),
            },
        }
    }
}

/// Whether the other side has ended the connection.
async fn ends(socket: &mut TcpStream) -> bool {
    matches!(socket.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn a_request_is_answered_and_knows_its_peer() {
    let (address, shutdown) = open(hello(), Limits::DEFAULT);
    let mut socket = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        socket.write_all(GET).await.unwrap();
        let text = response(&mut socket).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(
            text.ends_with(&socket.local_addr().unwrap().to_string()),
            "{text}"
        );
    }
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_brings_no_request_in_time_is_closed() {
    let (address, shutdown) = open(hello(), Limits::DEFAULT);
    // Nothing, a piece of the HTTP/2 preface, half a request line, half the headers.
    for half in [
        &b""[..],
        b"PRI * HT",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(half).await.unwrap();
        assert!(ends(&mut socket).await || ends(&mut socket).await, "{half:?}");
    }
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_keep_alive_connection_is_closed_in_time() {
    let (address, shutdown) = open(hello(), Limits::DEFAULT);
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(GET).await.unwrap();
    assert!(response(&mut socket).await.contains("200 OK"));
    assert!(ends(&mut socket).await);
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_take_longer_than_its_request() {
    let slow = Router::new().route(
        "/",
        get(|| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            "late"
        }),
    );
    let (address, shutdown) = open(slow, Limits::DEFAULT);
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(GET).await.unwrap();
    assert!(response(&mut socket).await.ends_with("late"));
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let (address, shutdown) = open(hello(), Limits::DEFAULT);
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "x".repeat(16 * 1024)
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let text = response(&mut socket).await;
    assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn a_body_may_be_larger_than_headers_may() {
    let length = |body: String| async move { body.len().to_string() };
    let (address, shutdown) = open(Router::new().route("/", post(length)), Limits::DEFAULT);
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = "x".repeat(1_000_000);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    assert!(response(&mut socket).await.ends_with("1000000"));
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let (address, shutdown) = open(
        hello(),
        Limits {
            max_connections: 1,
            ..Limits::DEFAULT
        },
    );
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(GET).await.unwrap();
    assert!(response(&mut first).await.contains("200 OK"));

    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(GET).await.unwrap();
    // The first is still answered, and the second is not.
    first.write_all(GET).await.unwrap();
    assert!(response(&mut first).await.contains("200 OK"));
    assert_eq!(
        second.try_read(&mut [0; 1]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );

    drop(first);
    assert!(response(&mut second).await.contains("200 OK"));
    shutdown.request();
    shutdown.wait().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_takes_nothing_of_its_answer_is_dropped() {
    let large = axum::body::Bytes::from(vec![b'x'; 32 * 1024 * 1024]);
    let (address, shutdown) = open(
        hello().route("/large", get(async move || large)),
        Limits {
            max_connections: 1,
            write_timeout: Duration::from_secs(1),
            ..Limits::DEFAULT
        },
    );
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent
        .write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    silent.readable().await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(GET).await.unwrap();
    assert!(
        response(&mut other).await.contains("200 OK"),
        "its place is free again"
    );
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_answers_requests_in_flight() {
    let (arrived, mut arrivals) = mpsc::channel::<()>(1);
    let (release, released) = tokio::sync::watch::channel(false);
    let router = hello().route(
        "/slow",
        get(move || async move {
            arrived.send(()).await.unwrap();
            released.clone().wait_for(|released| *released).await.unwrap();
            "finished"
        }),
    );
    let (address, shutdown) = open(router, Limits::DEFAULT);
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(GET).await.unwrap();
    assert!(response(&mut idle).await.contains("200 OK"));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    arrivals.recv().await.unwrap();

    shutdown.request();
    assert!(ends(&mut idle).await);
    assert!(ends(&mut silent).await);
    release.send(true).unwrap();
    assert!(response(&mut busy).await.ends_with("finished"));
    assert!(ends(&mut busy).await);
    shutdown.wait().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn forcing_drops_requests_in_flight() {
    let (arrived, mut arrivals) = mpsc::channel::<()>(1);
    let stuck = Router::new().route(
        "/",
        get(move || async move {
            arrived.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }),
    );
    let (address, shutdown) = open(stuck, Limits::DEFAULT);
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(GET).await.unwrap();
    arrivals.recv().await.unwrap();
    shutdown.force();
    shutdown.wait().await;
    assert!(ends(&mut socket).await);
}

#[tokio::test]
async fn an_upgrade_gives_back_the_plain_socket_what_was_read_and_a_place() {
    let (upgraded, mut upgrades) = mpsc::channel(1);
    let upgrade = move |mut request: Request| async move {
        let on_upgrade = hyper::upgrade::on(&mut request);
        let place = request.extensions().get::<Place>().unwrap().clone();
        TaskTracker::new().spawn(async move {
            let parts = downcast::<TokioIo<TcpStream>>(on_upgrade.await.unwrap()).unwrap();
            upgraded
                .send((parts.io.into_inner(), parts.read_buf, place))
                .await
                .unwrap();
        });
        (
            hyper::StatusCode::SWITCHING_PROTOCOLS,
            [("connection", "upgrade"), ("upgrade", "echo")],
        )
    };
    let router = hello().route("/echo", any(upgrade));
    let (address, shutdown) = open(
        router,
        Limits {
            max_connections: 1,
            ..Limits::DEFAULT
        },
    );
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nfirst")
        .await
        .unwrap();
    let (mut socket, read, place) = upgrades.recv().await.unwrap();
    assert!(socket.nodelay().unwrap());
    let mut first = read.to_vec();
    while first.len() < 5 {
        socket.read_buf(&mut first).await.unwrap();
    }
    assert_eq!(first, b"first");

    // The place is still taken, until its new owner lets go.
    let mut next = TcpStream::connect(address).await.unwrap();
    next.write_all(GET).await.unwrap();
    socket.write_all(b"hello").await.unwrap();
    let mut text = String::new();
    while !text.ends_with("hello") {
        let mut bytes = [0; 256];
        let read = client.read(&mut bytes).await.unwrap();
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert_eq!(
        next.try_read(&mut [0; 1]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    drop(place);
    assert!(response(&mut next).await.contains("200 OK"));

    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_says_whose_and_what_to_do() {
    let taken = bind("clients", LOOPBACK).unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let held = listener.local_addr().unwrap();
    assert_eq!(
        bind("operators", held).unwrap_err().to_string(),
        format!(
            "cannot open the operators door on {held}: the port is in use; stop what listens there, \
             or choose another with operators.listen"
        )
    );
    // What was let go can be taken at once.
    bind("clients", taken).unwrap();
}

#[tokio::test]
async fn an_address_of_another_machine_is_an_error_that_says_so() {
    let error = bind("clients", SocketAddr::from(([192, 0, 2, 1], 0)))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "cannot open the clients door on 192.0.2.1:0: this machine does not have that address; \
         set clients.listen to one that it has"
    );
}
