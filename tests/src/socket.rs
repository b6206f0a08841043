//! The socket of clients that go on whatever happens: a connection that fails is over, and that is all there is to say.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// How long a handshake or an answer may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// Why a connection or a subscription is over.
pub(crate) struct Over;

/// A connection of the Centrifuge protocol in JSON.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects with a token: the connection, and the client's id.
    pub(crate) async fn connect(url: &str, token: &str) -> Result<(Self, String), Over> {
        let deadline = Instant::now() + ANSWER;
        let connected = timeout_at(deadline, Box::pin(connect_async(url))).await;
        let Ok(Ok((socket, _))) = connected else {
            return Err(Over);
        };
        let mut socket = Self(socket);
        let reply = socket
            .ask(&json!({"id": 1, "connect": {"token": token}}), deadline)
            .await?;
        let client = reply["connect"]["client"].as_str().ok_or(Over)?.to_owned();
        Ok((socket, client))
    }

    /// Sends a command; what comes next is taken for its reply.
    pub(crate) async fn ask(&mut self, command: &Value, deadline: Instant) -> Result<Value, Over> {
        self.send(command).await?;
        timeout_at(deadline, self.read()).await.map_err(|_| Over)?
    }

    /// Sends a command.
    pub(crate) async fn send(&mut self, command: &Value) -> Result<(), Over> {
        let command = Message::text(command.to_string());
        self.0.send(command).await.map_err(|_| Over)
    }

    /// The next message that is no ping. Several in one frame are not expected.
    pub(crate) async fn read(&mut self) -> Result<Value, Over> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) if text == "{}" => {
                    self.0.send(Message::text("{}")).await.map_err(|_| Over)?;
                }
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("each frame is one line of JSON"));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Over),
                Some(Ok(_)) => {}
            }
        }
    }
}
