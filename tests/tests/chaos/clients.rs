//! The clients of a run: of each stream some that recover, one that wants notices alone and one with an `EventSource`; some of
//! a cache; plain ones without positions; members who come, go and stay; and an observer of members.

use std::sync::{Arc, atomic::AtomicBool};

use tidings_tests::{
    Tidings,
    checker::{History, Place},
    follower::{Follow, Follower, Protocol},
    roamer::{Mode, PAUSE, Roam, Roamer},
    token,
    visitor::{Observer, Stay, Visit, Visitor},
};
use tokio::{sync::watch, time::Duration};

/// How long those who roam stay connected, at most.
const RESTLESS: Duration = Duration::from_millis(1500);

/// How long sleepers stay away, at most.
const AWAY: Duration = Duration::from_secs(6);

/// How long a visitor stays in a room, at most.
const STAY: Duration = Duration::from_secs(3);

const VISITORS: u64 = 6;
const RESIDENTS: u64 = 4;

/// A client of a channel.
pub(crate) struct Client {
    pub(crate) channel: usize,
    pub(crate) kind: Kind,
    pub(crate) habit: Habit,
    it: It,
}

/// How it comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It stays connected as long as it can.
    Steady,
    /// It goes now and then, and comes back at once.
    Restless,
    /// It goes now and then, and stays away so long that several things can go wrong meanwhile.
    Sleeper,
}

/// What it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Recover,
    Position,
    Cache,
    Sse,
    Plain,
}

enum It {
    Roamer(Roamer),
    Follower(Follower),
}

pub(crate) struct Clients {
    pub(crate) clients: Vec<Client>,
    /// Once this is set, all stay connected.
    pub(crate) still: Arc<AtomicBool>,
    pub(crate) members: Members,
}

/// Who is in rooms.
pub(crate) struct Members {
    pub(crate) rooms: Vec<String>,
    pub(crate) visitors: Vec<Visitor>,
    /// They stay, at a gateway that is never killed.
    pub(crate) residents: Vec<Visitor>,
    pub(crate) observer: Observer,
    /// The observer's own client id.
    pub(crate) observing: String,
    pub(crate) roam: watch::Sender<bool>,
}

impl Client {
    pub(crate) fn history(&self) -> History {
        match &self.it {
            It::Roamer(roamer) => roamer.history(),
            It::Follower(follower) => follower.history(),
        }
    }

    /// Where it is.
    pub(crate) fn at(&self) -> Option<Place> {
        self.history().place().cloned()
    }
}

impl Clients {
    /// Of stream channels, then a cache, then one that keeps nothing.
    pub(crate) async fn start(
        gateways: &[Tidings],
        channels: &[String],
        rooms: Vec<String>,
        seed: u64,
    ) -> Self {
        let mut clients = Vec::new();
        let still = Arc::new(AtomicBool::new(false));
        let mut salt = seed << 8;
        for (channel, name) in channels.iter().enumerate() {
            let kinds: &[(Kind, Habit)] = match name.split(':').next() {
                Some("tasks") => &[
                    (Kind::Recover, Habit::Restless),
                    (Kind::Recover, Habit::Restless),
                    (Kind::Recover, Habit::Sleeper),
                    (Kind::Recover, Habit::Sleeper),
                    (Kind::Recover, Habit::Sleeper),
                    (Kind::Recover, Habit::Steady),
                    (Kind::Position, Habit::Steady),
                    (Kind::Sse, Habit::Steady),
                ],
                Some("cache") => &[
                    (Kind::Cache, Habit::Restless),
                    (Kind::Cache, Habit::Restless),
                    (Kind::Cache, Habit::Sleeper),
                ],
                _ => &[(Kind::Plain, Habit::Steady), (Kind::Plain, Habit::Steady)],
            };
            for &(kind, habit) in kinds {
                salt += 1;
                clients.push(Client {
                    channel,
                    kind,
                    habit,
                    it: start(gateways, name, kind, habit, &still, salt),
                });
            }
        }
        Self {
            clients,
            still,
            members: Members::start(gateways, rooms, seed).await,
        }
    }
}

fn start(
    gateways: &[Tidings],
    channel: &str,
    kind: Kind,
    habit: Habit,
    still: &Arc<AtomicBool>,
    seed: u64,
) -> It {
    let token = token(&format!("user{seed}"));
    let mode = match kind {
        Kind::Recover => Mode::Recover,
        Kind::Position => Mode::Position,
        Kind::Cache => Mode::Cache,
        Kind::Sse | Kind::Plain => {
            let protocol = if kind == Kind::Sse {
                Protocol::Sse
            } else {
                Protocol::WebSocket
            };
            return It::Follower(Follower::start(Follow {
                addresses: gateways.iter().map(Tidings::address).collect(),
                token,
                channel: channel.to_owned(),
                protocol,
                seed,
            }));
        }
    };
    It::Roamer(Roamer::start(Roam {
        urls: gateways.iter().map(Tidings::websocket).collect(),
        token,
        channel: channel.to_owned(),
        restless: (habit != Habit::Steady).then_some(RESTLESS),
        away: if habit == Habit::Sleeper { AWAY } else { PAUSE },
        still: still.clone(),
        seed,
        mode,
    }))
}

impl Members {
    async fn start(gateways: &[Tidings], rooms: Vec<String>, seed: u64) -> Self {
        let (observer, observing) = Observer::start(&gateways[0].websocket(), &rooms).await;
        let roam = watch::Sender::new(true);
        let visit = Visit {
            urls: gateways.iter().map(Tidings::websocket).collect(),
            channels: rooms.clone(),
            stay: STAY,
            roam: roam.subscribe(),
        };
        let visitors = (0..VISITORS).map(|n| Visitor::start(visit.clone(), &format!("visitor{n}"), seed + n));
        let still = watch::Sender::new(false);
        let stay = Visit {
            urls: vec![gateways[0].websocket()],
            roam: still.subscribe(),
            ..visit.clone()
        };
        let residents =
            (0..RESIDENTS).map(|n| Visitor::start(stay.clone(), &format!("resident{n}"), seed + 100 + n));
        Self {
            visitors: visitors.collect(),
            residents: residents.collect(),
            rooms,
            observer,
            observing,
            roam,
        }
    }

    /// Where everybody is known to be, the observer too where it still is; `None` while somebody is nowhere.
    pub(crate) fn places(&self, observes: bool) -> Option<Vec<Stay>> {
        let all = self.visitors.iter().chain(&self.residents);
        let mut places: Vec<Stay> = all.map(Visitor::at).collect::<Option<_>>()?;
        if observes {
            places.extend(
                self.rooms
                    .iter()
                    .map(|room| (room.clone(), self.observing.clone())),
            );
        }
        places.sort();
        Some(places)
    }
}
