//! Clients that come and go: visitors, who roam from channel to channel and say where they are, and observers, who write
//! down who came and who left.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Turns,
    socket::{ANSWER, Over, Socket},
    token::token,
};

/// How long a visitor waits before it connects again, at most.
const PAUSE: Duration = Duration::from_millis(500);

/// A client in a channel: the channel, then the client's id.
pub type Stay = (String, String);

/// How visitors roam.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Where they connect: one of these, chosen anew each time.
    pub urls: Vec<String>,
    /// Where they go, one after the other.
    pub channels: Vec<String>,
    /// How long they stay anywhere, at most.
    pub stay: Duration,
    /// Whether they still move. Once they do not, each stays where it is, and comes back when it is thrown out.
    pub roam: watch::Receiver<bool>,
}

/// A client that roams until it is dropped.
#[derive(Debug)]
pub struct Visitor {
    at: Arc<Mutex<Option<Stay>>>,
    _running: AbortOnDropHandle<()>,
}

impl Visitor {
    /// Sets out as `user`; its choices follow from `seed`.
    #[must_use]
    pub fn start(visit: Visit, user: &str, seed: u64) -> Self {
        let at = Arc::new(Mutex::new(None));
        let run = Run {
            visit,
            token: token(user),
            chance: StdRng::seed_from_u64(seed),
            at: at.clone(),
        };
        Self {
            at,
            _running: spawn(run.forever()),
        }
    }

    /// Where it is known to be: it was let in, and has not left.
    ///
    /// # Panics
    /// When it panicked itself.
    #[must_use]
    pub fn at(&self) -> Option<Stay> {
        lock(&self.at).clone()
    }
}

struct Run {
    visit: Visit,
    token: String,
    chance: StdRng,
    at: Arc<Mutex<Option<Stay>>>,
}

impl Run {
    async fn forever(mut self) {
        loop {
            let _ = self.connected().await;
            *lock(&self.at) = None;
            let pause = self.chance.random_range(Duration::ZERO..PAUSE);
            sleep(pause).await;
        }
    }

    /// One connection: some stays, and then it goes without a word.
    async fn connected(&mut self) -> Result<(), Over> {
        let url = self.visit.urls[self.chance.random_range(0..self.visit.urls.len())].clone();
        let (mut socket, client) = Socket::connect(&url, &self.token).await?;
        for id in 1..=self.chance.random_range(1..6) {
            let n = self.chance.random_range(0..self.visit.channels.len());
            let channel = self.visit.channels[n].clone();
            let subscribe = json!({"id": 2 * id, "subscribe": {"channel": channel}});
            let reply = socket.ask(&subscribe, Instant::now() + ANSWER).await?;
            if reply["subscribe"].is_null() {
                return Err(Over);
            }
            *lock(&self.at) = Some((channel.clone(), client.clone()));
            self.stay(&mut socket).await?;
            *lock(&self.at) = None;
            let unsubscribe = json!({"id": 2 * id + 1, "unsubscribe": {"channel": channel}});
            socket.ask(&unsubscribe, Instant::now() + ANSWER).await?;
        }
        Ok(())
    }

    /// Stays for its time; for ever once nobody roams any more.
    async fn stay(&mut self, socket: &mut Socket) -> Result<(), Over> {
        let until = Instant::now() + self.chance.random_range(Duration::ZERO..self.visit.stay);
        loop {
            let roams = *self.visit.roam.borrow_and_update();
            let message = tokio::select! {
                message = socket.read() => message,
                _ = self.visit.roam.changed() => continue,
                () = tokio::time::sleep_until(until), if roams => return Ok(()),
            };
            message?;
        }
    }
}

/// A client that is in some channels, hears who comes and who leaves, and must not lose its connection.
#[derive(Debug)]
pub struct Observer {
    heard: Arc<Mutex<Turns<Stay>>>,
    running: AbortOnDropHandle<()>,
}

impl Observer {
    /// Begins to listen in these channels, which grant joins and leaves. Those who are there are not told of, itself is.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn start(url: &str, channels: &[String]) -> (Self, String) {
        let heard = Arc::new(Mutex::new(Turns::default()));
        let Ok((mut socket, client)) = Socket::connect(url, &token("observer")).await else {
            panic!("no connection to {url}");
        };
        for (id, channel) in (2..).zip(channels) {
            let subscribe = json!({"id": id, "subscribe": {"channel": channel, "join_leave": true}});
            assert!(socket.send(&subscribe).await.is_ok(), "cut off");
            let answered = async {
                loop {
                    let Ok(message) = socket.read().await else {
                        panic!("cut off");
                    };
                    if message["id"] == id {
                        assert!(message["subscribe"].is_object(), "{message}");
                        return;
                    }
                    note(&heard, &message);
                }
            };
            timeout_at(Instant::now() + ANSWER, answered)
                .await
                .expect("an answer");
        }
        let noting = heard.clone();
        let running = spawn(async move {
            while let Ok(message) = socket.read().await {
                note(&noting, &message);
            }
            lock(&noting).heard(("its connection".to_owned(), String::new()), false);
        });
        let observer = Self { heard, running };
        (observer, client)
    }

    /// Ends its connection.
    pub fn leave(&self) {
        self.running.abort();
    }

    /// What it heard so far.
    ///
    /// # Panics
    /// When it panicked itself.
    pub fn heard(&self) -> MutexGuard<'_, Turns<Stay>> {
        lock(&self.heard)
    }
}

fn note(heard: &Mutex<Turns<Stay>>, message: &serde_json::Value) {
    let push = &message["push"];
    for (what, came) in [("join", true), ("leave", false)] {
        let Some(client) = push[what]["info"]["client"].as_str() else {
            continue;
        };
        let channel = push["channel"].as_str().unwrap_or_default();
        lock(heard).heard((channel.to_owned(), client.to_owned()), came);
    }
}

fn spawn(work: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio_util::task::TaskTracker::new().spawn(work))
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().expect("the client has not panicked")
}
