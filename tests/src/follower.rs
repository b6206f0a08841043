//! A client of the plain protocols that comes back through everything: an `EventSource` that resumes after the last event
//! that it saw, and a plain WebSocket that begins with what is new.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::StreamExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{connect_async, tungstenite::Message};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    checker::{History, Moment, Place, Stamp},
    socket::ANSWER,
};

/// How long it waits before it connects again, at most.
const PAUSE: Duration = Duration::from_millis(300);

/// Which protocol a follower speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Server-sent events with `Last-Event-ID`.
    Sse,
    /// A plain WebSocket, whose publications have no positions: they are numbered as they come.
    WebSocket,
}

/// A client that runs until it is dropped.
#[derive(Debug)]
pub struct Follower {
    history: Arc<Mutex<History>>,
    _running: AbortOnDropHandle<()>,
}

/// Where and how a follower connects.
#[derive(Debug, Clone)]
pub struct Follow {
    /// Addresses of nodes, `host:port`; each connection goes to one of them.
    pub addresses: Vec<String>,
    /// Its token.
    pub token: String,
    /// Its channel, whose events' data are numbers.
    pub channel: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// What its choices follow from.
    pub seed: u64,
}

struct Run {
    follow: Follow,
    history: Arc<Mutex<History>>,
    last_id: Option<Place>,
    via: usize,
    chance: StdRng,
}

impl Follower {
    /// Starts one.
    #[must_use]
    pub fn start(follow: Follow) -> Self {
        let history = Arc::new(Mutex::new(History {
            client: format!(
                "{:?} client {} of {}",
                follow.protocol, follow.seed, follow.channel
            ),
            ..History::default()
        }));
        let run = Run {
            chance: StdRng::seed_from_u64(follow.seed),
            history: history.clone(),
            last_id: None,
            via: 0,
            follow,
        };
        Self {
            history,
            _running: AbortOnDropHandle::new(tokio_util::task::TaskTracker::new().spawn(run.forever())),
        }
    }

    /// What happened to it so far.
    ///
    /// # Panics
    /// When it panicked itself.
    #[must_use]
    pub fn history(&self) -> History {
        lock(&self.history).clone()
    }
}

impl Run {
    async fn forever(mut self) {
        loop {
            self.via = self.chance.random_range(0..self.follow.addresses.len());
            let address = self.follow.addresses[self.via].clone();
            let _ = match self.follow.protocol {
                Protocol::Sse => self.events(&address).await,
                Protocol::WebSocket => self.frames(&address).await,
            };
            if self.follow.protocol == Protocol::WebSocket {
                self.note(Moment::Left);
            }
            sleep(self.chance.random_range(Duration::ZERO..PAUSE)).await;
        }
    }

    /// One response of server-sent events, to its end.
    async fn events(&mut self, address: &str) -> Option<()> {
        let connected = timeout(ANSWER, TcpStream::connect(address)).await.ok()?;
        let mut stream = connected.ok()?;
        let Follow { channel, token, .. } = &self.follow;
        let last = self.last_id.as_ref();
        let last = last.map(|at| format!("Last-Event-ID: {}:{}\r\n", at.epoch, at.offset));
        let last = last.unwrap_or_default();
        // HTTP/1.0: the events are not chunked.
        let request = format!(
            "GET /sse/{channel} HTTP/1.0\r\nHost: tests\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut lines = BufReader::new(stream).lines();
        let status = timeout(ANSWER, lines.next_line()).await.ok()?.ok()??;
        if !status.contains(" 200 ") {
            return None;
        }
        while !lines.next_line().await.ok()??.is_empty() {}
        let resumes = self.last_id.is_some();
        let mut subscribed = false;
        let (mut id, mut kind, mut data) = (None, String::new(), None);
        loop {
            let line = lines.next_line().await.ok()??;
            if let Some(text) = line.strip_prefix("id: ") {
                id = place(text);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut kind);
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(text.to_owned());
            } else if line.is_empty() {
                self.block(
                    id.take(),
                    &std::mem::take(&mut kind),
                    data.take(),
                    resumes,
                    &mut subscribed,
                );
            }
        }
    }

    /// One event. The first is where the subscription begins, and has no data.
    fn block(
        &mut self,
        id: Option<Place>,
        kind: &str,
        data: Option<String>,
        resumes: bool,
        subscribed: &mut bool,
    ) {
        if kind == "gap" {
            let mut history = lock(&self.history);
            if let Some(Moment::Subscribed { recovered, .. }) = history.moments.last_mut() {
                *recovered = Some(false);
            }
            return;
        }
        let Some(at) = id else { return };
        self.last_id = Some(at.clone());
        match data.and_then(|data| serde_json::from_str::<Value>(&data).ok()) {
            Some(event) => {
                let number = number(&event);
                self.note(Moment::Heard { at, number });
            }
            None if !*subscribed => {
                *subscribed = true;
                let recovered = resumes.then_some(true);
                self.note(Moment::Subscribed { at, recovered });
            }
            None => {}
        }
    }

    /// One plain WebSocket, to its end.
    async fn frames(&mut self, address: &str) -> Option<()> {
        let Follow { channel, token, .. } = &self.follow;
        let url = format!("ws://{address}/ws/{channel}?token={token}");
        let connected = timeout(ANSWER, Box::pin(connect_async(url))).await.ok()?;
        let (mut socket, _) = connected.ok()?;
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let Ok(event) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            let offset = lock(&self.history).moments.len() as u64 + 1;
            let at = Place {
                epoch: String::new(),
                offset,
            };
            let number = number(&event);
            self.note(Moment::Heard { at, number });
        }
        None
    }

    fn note(&self, moment: Moment) {
        let mut history = lock(&self.history);
        history.moments.push(moment);
        history.stamps.push(Stamp {
            at: Instant::now(),
            via: self.via,
        });
    }
}

/// The number in an event's bare data.
fn number(event: &Value) -> u64 {
    let number = event["data"].as_u64();
    number.unwrap_or_else(|| panic!("no number in {event}"))
}

fn place(id: &str) -> Option<Place> {
    let (epoch, offset) = id.rsplit_once(':')?;
    Some(Place {
        epoch: epoch.to_owned(),
        offset: offset.parse().ok()?,
    })
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().expect("the client has not panicked")
}
