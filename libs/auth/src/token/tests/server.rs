//! A server for documents, over real sockets, that can be slow, wrong, endless, or away.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use url::Url;

pub(super) const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("tls/server.pem");
const KEY: &[u8] = include_bytes!("tls/server.key.pem");

/// How it answers.
#[derive(Clone)]
pub(super) enum Mood {
    /// With this document.
    Document(String),
    /// With another status.
    Status(&'static str),
    /// With a document that never ends.
    Endless,
    /// With a header that never ends.
    EndlessHeader,
    /// With half of what was announced.
    Broken,
    /// In another language.
    Garbage,
    /// Not at all.
    Silent,
}

/// Stops when dropped.
pub(super) struct Server {
    pub(super) url: Url,
    mood: watch::Sender<Mood>,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(super) async fn start(mood: Mood) -> Self {
        Self::run(mood, None).await
    }

    /// Over TLS, with a certificate for `localhost` that [`AUTHORITY`] has signed.
    pub(super) async fn start_tls(mood: Mood) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()],
                PrivateKeyDer::from_pem_slice(KEY).unwrap(),
            )
            .unwrap();
        Self::run(mood, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn run(mood: Mood, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (mood, moods) = watch::channel(mood);
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, moods, count) = (tls.clone(), moods.clone(), count.clone());
                connections.spawn(async move { accept(stream, tls, &moods, &count).await });
            }
        });
        Self {
            url: Url::parse(&format!("{scheme}://localhost:{port}/keys?v=1")).unwrap(),
            mood,
            requests,
            _tasks: tasks,
        }
    }

    pub(super) fn is_now(&self, mood: Mood) {
        self.mood.send(mood).unwrap();
    }

    /// How often it was asked.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn accept(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    moods: &watch::Receiver<Mood>,
    count: &AtomicUsize,
) {
    match tls {
        None => answer(stream, moods, count).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                answer(stream, moods, count).await;
            }
        }
    }
}

/// One answer to one request. The client may hang up at any time.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    moods: &watch::Receiver<Mood>,
    count: &AtomicUsize,
) {
    let mut request = vec![];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    count.fetch_add(1, Ordering::SeqCst);
    let text = String::from_utf8(request).unwrap().to_lowercase();
    assert!(text.starts_with("get /keys?v=1 http/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nhost: localhost:"), "{text}");

    let mood = moods.borrow().clone();
    let ok = |length: usize, body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    let text = match &mood {
        Mood::Document(document) => ok(document.len(), document),
        Mood::Status(status) => {
            format!("HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
        }
        Mood::Endless => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
        Mood::EndlessHeader => "HTTP/1.1 200 OK\r\n".to_owned(),
        Mood::Broken => ok(100, "{\"keys\":"),
        Mood::Garbage => "220 mail.example.com ESMTP\r\n".to_owned(),
        Mood::Silent => std::future::pending().await,
    };
    let more = match &mood {
        Mood::Endless => format!("1000\r\n{}\r\n", " ".repeat(0x1000)),
        Mood::EndlessHeader => format!("x: {}\r\n", "y".repeat(0x1000)),
        _ => String::new(),
    };
    let mut written = stream.write_all(text.as_bytes()).await;
    while written.is_ok() && !more.is_empty() {
        written = stream.write_all(more.as_bytes()).await;
    }
    let _ = stream.shutdown().await;
}
