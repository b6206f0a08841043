//! The WebSocket under a listener: opens connections, carries bytes, and does what the session says.

use std::{
    io::{self, Write},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use rand::Rng;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, http::StatusCode},
};
use url::Url;

use super::session::{Action, End, Session};

/// How long the server may take to open a connection.
const OPEN: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where publications and notices go.
#[derive(Debug)]
pub(super) struct Screen<O, E> {
    /// One line per publication.
    pub(super) out: O,
    /// What happens to the connection.
    pub(super) notices: E,
    /// Print whole pushes instead of channel and data.
    pub(super) json: bool,
}

/// Why listening is over.
#[derive(Debug)]
pub(super) enum Over {
    /// The session gave up, for this reason.
    Stopped(String),
    /// Nobody reads what is printed any more.
    Unread(io::Error),
}

/// Listens until the session gives up or nobody reads.
pub(super) async fn run<R: Rng, O: Write, E: Write>(
    url: &Url,
    mut session: Session<R>,
    mut screen: Screen<O, E>,
) -> Over {
    let mut wait = Duration::ZERO;
    loop {
        sleep(wait).await;
        let next = match open(url).await {
            Ok(socket) => converse(socket, &mut session, &mut screen).await,
            Err(end) => perform(session.ended(end), None, &mut screen).await,
        };
        wait = match next {
            Next::Reconnect(wait) => wait,
            Next::Over(over) => return over,
            Next::Continue => Duration::ZERO,
        };
    }
}

/// What follows a turn.
enum Next {
    Continue,
    Reconnect(Duration),
    Over(Over),
}

async fn open(url: &Url) -> Result<Socket, End> {
    match timeout(OPEN, connect_async(url.as_str())).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(refusal(url, &error)),
        Err(_) => Err(End::Lost(format!("{url} does not answer"))),
    }
}

fn refusal(url: &Url, error: &tungstenite::Error) -> End {
    match error {
        tungstenite::Error::Http(response) => {
            let status = response.status();
            let why = format!("{url} answered {status}");
            let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
            if status.is_client_error() && !passing.contains(&status) {
                End::Refused(format!("{why}; is it the clients' door of Tidings?"))
            } else {
                End::Lost(why)
            }
        }
        tungstenite::Error::Io(error) => End::Lost(format!("cannot connect to {url}: {error}")),
        error => End::Lost(format!("cannot connect to {url}: {error}")),
    }
}

/// One connection, from its first frame to its end.
async fn converse<R: Rng, O: Write, E: Write>(
    mut socket: Socket,
    session: &mut Session<R>,
    screen: &mut Screen<O, E>,
) -> Next {
    let mut actions = session.opened(Instant::now());
    loop {
        match perform(actions, Some(&mut socket), screen).await {
            Next::Continue => {}
            ending => {
                // Politeness: the server need not wait for a peer that is gone. It may be gone itself.
                let _ = timeout(OPEN, socket.close(None)).await;
                return ending;
            }
        }
        let deadline = session.deadline();
        actions = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => session.received(&text, Instant::now()),
                Some(Ok(Message::Close(Some(close)))) => {
                    session.ended(End::Closed { code: close.code.into(), reason: close.reason.to_string() })
                }
                Some(Ok(Message::Close(None))) | None => session.ended(End::Lost("the connection was closed".to_owned())),
                // Control frames are answered below us; a JSON client is sent no others.
                Some(Ok(_)) => Vec::new(),
                Some(Err(error)) => session.ended(End::Lost(format!("the connection was lost: {error}"))),
            },
            () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {
                session.expired(Instant::now())
            }
        };
    }
}

async fn perform<O: Write, E: Write>(
    actions: Vec<Action>,
    mut socket: Option<&mut Socket>,
    screen: &mut Screen<O, E>,
) -> Next {
    for action in actions {
        let written = match action {
            Action::Send(frame) => {
                if let Some(socket) = &mut socket {
                    // A socket that cannot be written to says so when it is read.
                    let _ = timeout(OPEN, socket.send(Message::text(frame))).await;
                }
                Ok(())
            }
            Action::Print { push, .. } if screen.json => writeln!(screen.out, "{push}"),
            Action::Print { channel, data, .. } => writeln!(screen.out, "{channel} {data}"),
            Action::Tell(notice) => {
                // Notices that nobody can read are no reason to stop listening.
                let _ = writeln!(screen.notices, "{notice}");
                Ok(())
            }
            Action::Reconnect(wait) => return Next::Reconnect(wait),
            Action::Stop(why) => return Next::Over(Over::Stopped(why)),
        };
        if let Err(error) = written.and_then(|()| screen.out.flush()) {
            return Next::Over(Over::Unread(error));
        }
    }
    Next::Continue
}
