//! Clients that speak HTTP alone: requests, and responses that go on.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::{http1, http2},
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::node::{Node, PATIENCE};

/// A response, with the connection that it comes by: dropping it hangs up.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    read: BytesMut,
    _connection: JoinSet<()>,
}

/// A request to a node.
pub(crate) struct Asked {
    address: SocketAddr,
    request: Request<Full<Bytes>>,
}

impl Node {
    pub(crate) fn get(&self, path: &str) -> Asked {
        self.request(Method::GET, path, Bytes::new())
    }

    pub(crate) fn post(&self, path: &str, body: impl Into<Bytes>) -> Asked {
        self.request(Method::POST, path, body.into())
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: Bytes) -> Asked {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(header::HOST, self.address.to_string())
            .body(Full::new(body))
            .expect("a request");
        Asked {
            address: self.address,
            request,
        }
    }

    /// Says something apart from the connection that was told this `connect` result.
    pub(crate) async fn emulate(&self, connected: &Value, commands: &str) -> StatusCode {
        let body = json!({"session": connected["session"], "node": connected["node"], "data": commands});
        self.post("/emulation", body.to_string()).status().await
    }
}

impl Asked {
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = value.parse().expect("a header");
        self.request.headers_mut().insert(name, value);
        self
    }

    pub(crate) async fn send(self) -> Exchange {
        let socket = TcpStream::connect(self.address).await.expect("an open door");
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        exchange(sender.send_request(self.request).await, tasks)
    }

    /// The same over cleartext HTTP/2, whose client knows beforehand that it will do.
    pub(crate) async fn send_by_http2(self) -> Exchange {
        self.send_by(http2::Builder::new(TokioExecutor::new())).await
    }

    /// The same, by a client that takes nothing of the response.
    pub(crate) async fn send_by_http2_unread(self) -> Exchange {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.initial_stream_window_size(0);
        self.send_by(http2).await
    }

    async fn send_by(self, http2: http2::Builder<TokioExecutor>) -> Exchange {
        let socket = TcpStream::connect(self.address).await.expect("an open door");
        let (mut sender, connection) = http2.handshake(TokioIo::new(socket)).await.expect("HTTP/2");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        exchange(sender.send_request(self.request).await, tasks)
    }

    pub(crate) async fn status(self) -> StatusCode {
        self.send().await.response.status()
    }

    /// What has been refused, and what was said of it.
    pub(crate) async fn refused(self) -> (u16, String) {
        let exchange = self.send().await;
        let status = exchange.response.status().as_u16();
        let body = timeout(PATIENCE, exchange.response.into_body().collect())
            .await
            .expect("in time")
            .expect("a body")
            .to_bytes();
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        (status, body["error"].as_str().expect("a reason").to_owned())
    }
}

fn exchange(response: hyper::Result<Response<Incoming>>, connection: JoinSet<()>) -> Exchange {
    Exchange {
        response: response.expect("a response"),
        read: BytesMut::new(),
        _connection: connection,
    }
}

impl Exchange {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.response.headers().get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }

    /// Everything up to the next `end`, without it; `None` when the response has ended.
    pub(crate) async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let at = self.read.windows(end.len()).position(|it| it == end.as_bytes());
            if let Some(at) = at {
                let text = self.read.split_to(at + end.len());
                return Some(String::from_utf8(text[..at].to_vec()).expect("text"));
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "cut off: {:?}", self.read);
                return None;
            }
        }
    }

    /// The next `size` bytes.
    pub(crate) async fn bytes(&mut self, size: usize) -> Bytes {
        while self.read.len() < size {
            assert!(self.more().await, "the response ended early");
        }
        self.read.split_to(size).freeze()
    }

    async fn more(&mut self) -> bool {
        let frame = timeout(PATIENCE, self.response.body_mut().frame()).await;
        match frame.expect("something in time") {
            Some(frame) => {
                let data = frame.expect("an unbroken response").into_data().expect("data");
                self.read.extend_from_slice(&data);
                true
            }
            None => false,
        }
    }

    /// The next line, in JSON.
    pub(crate) async fn line(&mut self) -> Value {
        let line = self.until("\n").await.expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The data of the next event, in JSON.
    pub(crate) async fn event(&mut self) -> Value {
        let event = self.until("\n\n").await.expect("an event");
        let data = event.trim_start().strip_prefix("data: ").expect("data");
        serde_json::from_str(data).expect("JSON")
    }
}
