//! The one accept loop behind every HTTP door: clients', backends' and operators'.
//!
//! HTTP/1.1 and cleartext HTTP/2 on one port, upgrades included. A peer can hold neither memory nor a place
//! without saying anything: a connection has [`Limits::header_timeout`] to bring its first request and, in HTTP/2,
//! [`Limits::idle_timeout`] to bring another; and at most [`Limits::max_connections`] are open. After an upgrade the plain socket comes back out of hyper with
//! `hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>`. A door may speak [TLS](tls).

mod streams;
pub mod tls;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tower::ServiceExt as _;

pub use self::streams::Farewell;
use self::{
    streams::{Activity, Streams},
    tls::{ClientCertificate, Tls},
};
use crate::Shutdown;

/// What one door allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections may be open. Those beyond it wait in the operating system's accept queue, which
    /// is itself bounded ([`BACKLOG`]); when that is full the system turns them away. Default 10,000.
    pub max_connections: usize,
    /// How long a connection may take to bring its first request, and an HTTP/1 connection each later one: an
    /// idle keep-alive connection is closed after it too. A peer that does not let itself be closed politely is
    /// dropped after as long again. Default 10 s.
    pub header_timeout: Duration,
    /// How long an HTTP/2 connection may have no request under way, however alive it is otherwise. Then it is closed,
    /// politely first: who calls again opens another. Default 5 min.
    pub idle_timeout: Duration,
    /// How large the headers of one request may be, its URL included, in bytes. Default 16 KiB.
    pub header_size: u32,
    /// How long a peer may leave what was sent to it untaken, where the system can tell (Linux can, RFC 5482). Then the
    /// connection is dropped, with whatever waits for it. It goes with the socket when the connection is upgraded.
    /// Default 30 s.
    pub write_timeout: Duration,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        max_connections: 10_000,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_mins(5),
        header_size: 16 * 1024,
        write_timeout: Duration::from_secs(30),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How many connections the operating system may keep for a door that has not accepted them yet. Large enough
/// for everybody who reconnects at once after another node died; the system may lower it (`net.core.somaxconn`).
pub const BACKLOG: u32 = 4096;

/// How often an idle HTTP/2 peer is asked whether it is still there, and how long it has to answer.
const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How long to leave a listener alone that could not accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How often a door that stays full says so.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// A door that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the {door} door on {address}: {hint}")]
pub struct BindError {
    door: String,
    address: SocketAddr,
    hint: String,
    #[source]
    source: io::Error,
}

/// Where a door listens, and how it is spoken to.
#[derive(Debug)]
pub struct Listener {
    /// The port, as [`bind`] took it.
    pub tcp: TcpListener,
    /// `None`: in the clear.
    pub tls: Option<Tls>,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

/// A connection's place among [`Limits::max_connections`], found in the extensions of every request. A handler
/// that upgrades its connection and wants it to go on counting keeps a clone as long as the socket lives.
#[derive(Debug, Clone)]
pub struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Opens the door called `door` (whose it is: `"clients"`, `"backends"`, `"operators"`) on `address`.
///
/// # Errors
///
/// When the address is taken, is not this machine's, or needs rights: the error names the door and the address,
/// and says what to do.
pub fn bind(door: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let open = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // A restart must not wait for the connections of the process before it to time out.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| BindError {
        door: door.to_owned(),
        address,
        hint: hint(door, &source),
        source,
    })
}

fn hint(door: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the port is in use; stop what listens there, or choose another with {door}.listen")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have that address; set {door}.listen to one that it has")
        }
        io::ErrorKind::PermissionDenied => {
            format!("not permitted; ports below 1024 need rights, choose a higher one with {door}.listen")
        }
        _ => format!("{error}; see {door}.listen"),
    }
}

/// Accepts connections on `listener` and answers them with `router` until `shutdown` is requested.
///
/// Every socket has `TCP_NODELAY`. Every request has the peer's address ([`ConnectInfo<SocketAddr>`]) and its
/// connection's [`Place`] among its extensions, and its client's [certificate](ClientCertificate) where one was asked
/// for. Every connection is a task of `shutdown`.
///
/// When shutdown is requested it stops accepting and returns at once: idle connections are closed, requests in
/// flight are answered, and [`Shutdown::wait`] says when the last has ended. Forcing drops them. An upgraded
/// connection is no longer a task of this loop: its new owner keeps a [`Hold`](crate::shutdown::Hold).
pub async fn serve(listener: impl Into<Listener>, router: Router, limits: Limits, shutdown: Shutdown) {
    let Listener { tcp: listener, tls } = listener.into();
    let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut last_told: Option<Instant> = None;
    loop {
        if places.available_permits() == 0 && last_told.is_none_or(|told| told.elapsed() >= FULL_AGAIN) {
            last_told = Some(Instant::now());
            let (address, max) = (listener.local_addr().ok(), limits.max_connections);
            tracing::warn!(
                ?address,
                max_connections = max,
                "a door is full; connections wait for a place"
            );
        }
        let next = async {
            // The place comes first: a connection that has none is better off in the accept queue.
            let permit = places.clone().acquire_owned().await.ok()?;
            let (socket, peer) = accept(&listener).await;
            Some((
                socket,
                peer,
                Place {
                    _permit: Arc::new(permit),
                },
            ))
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => None,
            accepted = next => accepted,
        };
        let Some((socket, peer, place)) = accepted else {
            return;
        };
        let connection = Connection {
            peer,
            place,
            router: router.clone(),
            limits,
            shutdown: shutdown.clone(),
        };
        match tls.clone() {
            None => drop(shutdown.spawn(connection.open(socket))),
            Some(tls) => drop(shutdown.spawn(connection.open_with(tls, socket))),
        }
    }
}

/// How many bytes of a request a peer may send before somebody reads them, per HTTP/2 stream and per connection (RFC 9113, 5.2).
/// Apart from these, h2 ends a connection (`too_many_data_frames`) in which many frames of less than 256 bytes wait, by a measure
/// that grows with the window of the connection. The window of a stream has to stop the peer long before: a dozen streams of
/// small messages may wait in one connection.
const STREAM_WINDOW: u32 = 32 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

fn http(limits: Limits, streams: Streams) -> auto::Builder<Streams> {
    let mut http = auto::Builder::new(streams);
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(usize::try_from(limits.header_size).unwrap_or(usize::MAX));
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_size)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(HTTP2_PING.0)
        .keep_alive_timeout(HTTP2_PING.1);
    http
}

/// The next connection. A peer that has gone again is no reason to pause; a system that has run out is.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections; trying again in a second");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// A connection that was accepted.
struct Connection {
    peer: SocketAddr,
    place: Place,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
}

impl Connection {
    async fn open(self, socket: TcpStream) {
        self.prepare(&socket);
        self.answer(socket, None).await;
    }

    /// A client has as long for its handshake as for its first request thereafter.
    async fn open_with(self, tls: Tls, socket: TcpStream) {
        self.prepare(&socket);
        let handshake = tokio::time::timeout(self.limits.header_timeout, tls.accept(socket));
        let shaken = tokio::select! {
            () = self.shutdown.requested() => return,
            shaken = handshake => shaken,
        };
        match shaken {
            Ok(Ok((stream, client))) => self.answer(stream, client).await,
            Ok(Err(error)) => tls.failed(self.peer, &error),
            Err(_) => tls.failed(self.peer, &"it took too long"),
        }
    }

    fn prepare(&self, socket: &TcpStream) {
        // It fails only for a peer that is gone, which the first read will say too.
        let _ = socket.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(self.limits.write_timeout));
    }

    /// Answers until the connection ends, is upgraded, or has brought no request for too long.
    async fn answer<S>(self, socket: S, client: Option<ClientCertificate>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            peer,
            place,
            router,
            limits,
            shutdown,
        } = self;
        let (asked, streams) = (AtomicBool::new(false), Streams::default());
        let service = service_fn(|mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(place.clone());
            if let Some(client) = &client {
                request.extensions_mut().insert(client.clone());
            }
            let router = router.clone();
            async move {
                if let Some(farewell) = Farewell::current() {
                    request.extensions_mut().insert(farewell);
                }
                router.oneshot(request).await
            }
        });
        let http = http(limits, streams.clone());
        let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(socket), service));
        // hyper times HTTP/1's headers, but neither the bytes before it knows which HTTP this is, nor HTTP/2 at all.
        let mut overdue = pin!(tokio::time::sleep(limits.header_timeout));
        let (mut timed, mut late, mut ending) = (true, false, false);
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, error, "connection ended");
                    }
                    return;
                }
                () = overdue.as_mut(), if timed => {
                    let now = Instant::now();
                    let by = match streams.activity() {
                        Activity::Busy => now + limits.idle_timeout,
                        Activity::QuietSince(since) => since + limits.idle_timeout,
                        Activity::None if asked.load(Ordering::Relaxed) => {
                            timed = false;
                            continue;
                        }
                        Activity::None => now,
                    };
                    if by > now {
                        overdue.as_mut().reset(by);
                    } else if late {
                        tracing::debug!(%peer, "connection dropped: no request in time");
                        return;
                    } else {
                        // Politely first: gRPC clients open connections ahead of their calls, and come back.
                        late = true;
                        connection.as_mut().graceful_shutdown();
                        overdue.as_mut().reset(now + limits.header_timeout);
                    }
                }
                () = shutdown.requested(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
