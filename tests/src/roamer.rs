//! A client that follows one stream through everything: it comes back, recovers, and writes down what it got.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    checker::{History, Moment, Place, Stamp},
    socket::{ANSWER, Over, Socket},
};

/// How long it waits before it tries again to subscribe, and to connect unless it stays away longer, at most.
pub const PAUSE: Duration = Duration::from_millis(300);

/// A client that runs until it is dropped.
#[derive(Debug)]
pub struct Roamer {
    history: Arc<Mutex<History>>,
    _running: AbortOnDropHandle<()>,
}

/// Where and how a roamer roams.
#[derive(Debug, Clone)]
pub struct Roam {
    /// Where it connects: one of these, chosen anew each time.
    pub urls: Vec<String>,
    /// Its token.
    pub token: String,
    /// Its stream, whose events' data are numbers.
    pub channel: String,
    /// How long it stays connected, at most, before it goes by itself; `None`: it does not.
    pub restless: Option<Duration>,
    /// What its choices follow from.
    pub seed: u64,
    /// What it asks for when it subscribes.
    pub mode: Mode,
    /// How long it stays away between connections, at most.
    pub away: Duration,
    /// Once this is set it stays connected, and comes back at once.
    pub still: Arc<AtomicBool>,
}

/// What a roamer asks for when it subscribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Recovery of everything that it missed.
    Recover,
    /// Notices of what it misses while it is subscribed; each subscription begins with what is new.
    Position,
    /// The newest publication, from a namespace that recovers as a cache.
    Cache,
}

struct Run {
    roam: Roam,
    history: Arc<Mutex<History>>,
    /// Where it is.
    at: Option<Place>,
    /// Which of its addresses it is connected to.
    via: usize,
    chance: StdRng,
}

impl Roamer {
    /// Sets out.
    #[must_use]
    pub fn start(roam: Roam) -> Self {
        let history = Arc::new(Mutex::new(History {
            client: format!("client {} of {}", roam.seed, roam.channel),
            ..History::default()
        }));
        let run = Run {
            chance: StdRng::seed_from_u64(roam.seed),
            history: history.clone(),
            at: None,
            via: 0,
            roam,
        };
        let running = tokio_util::task::TaskTracker::new().spawn(run.forever());
        Self {
            history,
            _running: AbortOnDropHandle::new(running),
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

    /// Where it is; `None` before it was ever subscribed, and from a notice until it is subscribed again.
    ///
    /// # Panics
    /// When it panicked itself.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let history = lock(&self.history);
        history.place().cloned()
    }
}

impl Run {
    async fn forever(mut self) {
        loop {
            let Over = self.connected().await;
            if self.roam.mode == Mode::Position {
                self.note(Moment::Left);
            }
            let most = if self.is_still() { PAUSE } else { self.roam.away };
            let away = self.chance.random_range(Duration::ZERO..most);
            sleep(away).await;
        }
    }

    fn is_still(&self) -> bool {
        self.roam.still.load(Relaxed)
    }

    async fn pause(&mut self) {
        let pause = self.chance.random_range(Duration::ZERO..PAUSE);
        sleep(pause).await;
    }

    /// One connection, from its beginning to its end.
    async fn connected(&mut self) -> Over {
        self.via = self.chance.random_range(0..self.roam.urls.len());
        let url = self.roam.urls[self.via].clone();
        let Ok((mut socket, _)) = Socket::connect(&url, &self.roam.token).await else {
            return Over;
        };
        let restless = self.roam.restless.filter(|_| !self.is_still());
        let leave_at = restless.map(|most| Instant::now() + self.chance.random_range(Duration::ZERO..most));
        loop {
            let Ok(()) = self.subscribed(&mut socket, leave_at).await else {
                return Over;
            };
            self.pause().await;
        }
    }

    /// One subscription. `Ok` when it is over and the connection is not.
    async fn subscribed(&mut self, socket: &mut Socket, leave_at: Option<Instant>) -> Result<(), Over> {
        let wish = match self.roam.mode {
            Mode::Position => "positioned",
            Mode::Recover | Mode::Cache => "recoverable",
        };
        let mut options = json!({"channel": self.roam.channel, wish: true});
        if let (Some(at), Mode::Recover | Mode::Cache) = (&self.at, self.roam.mode) {
            options["recover"] = true.into();
            options["offset"] = at.offset.into();
            options["epoch"] = at.epoch.clone().into();
        }
        let command = json!({"id": 2, "subscribe": options});
        let reply = socket.ask(&command, Instant::now() + ANSWER).await?;
        let result = &reply["subscribe"];
        if result.is_null() {
            return Ok(()); // the stream is away: try again
        }
        let at = Place {
            epoch: result["epoch"].as_str().unwrap_or_default().to_owned(),
            offset: result["offset"].as_u64().unwrap_or_default(),
        };
        let recovered = (result["was_recovering"] == true).then(|| result["recovered"] == true);
        self.note(Moment::Subscribed {
            at: at.clone(),
            recovered,
        });
        self.at = Some(at);
        for publication in result["publications"].as_array().into_iter().flatten() {
            self.hear(publication);
        }
        loop {
            let message = match leave_at {
                Some(leave_at) => match timeout_at(leave_at, socket.read()).await {
                    Ok(message) => message?,
                    Err(_) => return Err(Over),
                },
                None => socket.read().await?,
            };
            let push = &message["push"];
            if push["pub"].is_object() {
                self.hear(&push["pub"]);
            } else if push["unsubscribe"].is_object() {
                self.note(Moment::Told);
                return Ok(());
            }
        }
    }

    fn hear(&mut self, publication: &Value) {
        let epoch = self.at.as_ref().map(|at| at.epoch.clone()).unwrap_or_default();
        let at = Place {
            epoch,
            offset: publication["offset"].as_u64().unwrap_or_default(),
        };
        let number = number(publication);
        self.note(Moment::Heard {
            at: at.clone(),
            number,
        });
        self.at = Some(at);
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

/// The number in a publication: it is an event, whose data is that.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn number(publication: &Value) -> u64 {
    let number = publication["data"]["data"].as_u64();
    number.unwrap_or_else(|| panic!("no number in {publication}"))
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().expect("the client has not panicked")
}
