//! Clients of both protocols, as small as they can be, so that what goes over the wire is what a test says.

use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::eventually::in_time;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client of the Centrifuge protocol in JSON. It answers pings while it waits for something.
pub struct Client {
    socket: Socket,
    last_id: u32,
    /// What came while something else was waited for.
    pushes: VecDeque<Value>,
}

impl Client {
    /// Opens a connection that has said nothing yet.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn open(url: &str) -> Self {
        let connected = in_time("a handshake", Box::pin(connect_async(url))).await;
        let (socket, _) = connected.unwrap_or_else(|error| panic!("no connection to {url}: {error}"));
        Self {
            socket,
            last_id: 0,
            pushes: VecDeque::new(),
        }
    }

    /// Connects as the token's user.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn connect(url: &str, token: &str) -> Self {
        let mut client = Self::open(url).await;
        let reply = client.ask("connect", json!({ "token": token })).await;
        assert!(reply["connect"]["client"].is_string(), "not let in: {reply}");
        client
    }

    /// Sends a command and waits for its reply: `{"id":1,"connect":{…}}` or `{"id":1,"error":{…}}`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn ask(&mut self, command: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "id": id, command: parameters }).to_string())
            .await;
        loop {
            let message = self
                .next()
                .await
                .unwrap_or_else(|code| panic!("closed with {code}, no reply to {command}"));
            if message["id"] == id {
                return message;
            }
            self.pushes.push_back(message);
        }
    }

    /// Subscribes.
    ///
    /// # Panics
    /// When it may not.
    pub async fn subscribe(&mut self, channel: &str) {
        let reply = self.ask("subscribe", json!({ "channel": channel })).await;
        assert!(
            reply["subscribe"].is_object(),
            "not subscribed to {channel}: {reply}"
        );
    }

    /// The next publication: its channel and its data.
    ///
    /// # Panics
    /// When there is none, or something else comes.
    pub async fn hear(&mut self) -> (String, Value) {
        let push = self.push().await;
        assert!(push["pub"].is_object(), "not a publication: {push}");
        (
            push["channel"].as_str().expect("a channel").to_owned(),
            push["pub"]["data"].clone(),
        )
    }

    /// The next push, whatever it is.
    ///
    /// # Panics
    /// When the connection ends, or something else comes.
    pub async fn push(&mut self) -> Value {
        let mut message = match self.pushes.pop_front() {
            Some(message) => message,
            None => self
                .next()
                .await
                .unwrap_or_else(|code| panic!("closed with {code} instead of a push")),
        };
        assert!(message["push"].is_object(), "not a push: {message}");
        message["push"].take()
    }

    /// Sends bytes as they are: a text message.
    pub async fn send(&mut self, text: &str) {
        // A connection that has ended says why to whoever reads next.
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// Sends any message or frame.
    pub async fn send_message(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    /// The code and the text with which the server ends the connection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(code) = self.next_or_close().await {
                return code;
            }
        }
    }

    async fn next(&mut self) -> Result<Value, u16> {
        self.next_or_close().await.map_err(|(code, _)| code)
    }

    /// The next reply or push, or the close.
    async fn next_or_close(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match read(&mut self.socket).await? {
                text if text == "{}" => self.send("{}").await,
                text if !text.contains('\n') => return Ok(parse(&text)),
                text => {
                    // Several in one frame: those after the first wait, pings among them are answered.
                    let mut messages = text.lines().map(parse).collect::<VecDeque<_>>();
                    while let Some(ping) = messages.iter().position(|message| *message == json!({})) {
                        messages.remove(ping);
                        self.send("{}").await;
                    }
                    if let Some(first) = messages.pop_front() {
                        self.pushes.extend(messages);
                        return Ok(first);
                    }
                }
            }
        }
    }
}

/// A client of the plain protocol: messages are bare data.
pub struct Plain(Socket);

impl Plain {
    /// Connects to `/ws/{channel}`.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn connect(url: &str) -> Self {
        Self(Client::open(url).await.socket)
    }

    /// The next publication's data.
    ///
    /// # Panics
    /// When there is none.
    pub async fn hear(&mut self) -> String {
        let read = read(&mut self.0).await;
        read.unwrap_or_else(|(code, text)| panic!("closed with {code} ({text}) instead of a publication"))
    }

    /// Publishes to its channel.
    pub async fn publish(&mut self, data: &str) {
        let _ = self.0.send(Message::text(data)).await;
    }

    /// The code and the text with which the server ends the connection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(code) = read(&mut self.0).await {
                return code;
            }
        }
    }
}

/// Tries a handshake that will not succeed, with further headers: its status and body.
///
/// # Panics
/// When it succeeds after all.
pub async fn handshake(url: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    let mut request = url.into_client_request().expect("a valid URL");
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, value.parse().expect("a valid header"));
    }
    match in_time("a handshake", Box::pin(connect_async(request))).await {
        Ok(_) => panic!("{url} was let in"),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            (
                response.status().as_u16(),
                String::from_utf8_lossy(body).into_owned(),
            )
        }
        Err(error) => panic!("{url}: {error}"),
    }
}

/// The next text, or how the connection ended; 1006 when nobody said.
async fn read(socket: &mut Socket) -> Result<String, (u16, String)> {
    loop {
        match in_time("a message", socket.next()).await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Close(Some(frame)))) => {
                return Err((frame.code.into(), frame.reason.to_string()));
            }
            Some(Ok(Message::Close(None)) | Err(_)) | None => return Err((1006, String::new())),
            Some(Ok(_)) => {}
        }
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}
