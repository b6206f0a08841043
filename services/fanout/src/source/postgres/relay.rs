//! One node's part in an outbox: which lanes it takes, when, and what it tells the table.
//!
//! It goes in rounds: which lanes have rows? Each that nobody else has is taken, read, published, and left. In between it
//! waits to be notified, or to look again. What was published and could not be deleted is remembered beyond the session,
//! and deleted before anything is read.

use std::{future::poll_fn, pin::pin, time::Duration};

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;
use tidings_runtime::{Shutdown, health::Component};
use tokio::{sync::Notify, time::Instant};
use tokio_postgres::{AsyncMessage, Client};

use super::{
    Config,
    lane::{self, Held, Stop, TERM, Tries},
    place::{Place, Wire},
    table::{Dead, Error, Name, Table, in_time},
};
use crate::source::{Mouth, backoff, metrics::Tried, signs::Signs};

/// How many lanes are worked on at a time.
const AT_A_TIME: usize = 4;

pub(in crate::source) struct Relay {
    mouth: Mouth,
    config: Config,
    name: Name,
    place: Place,
    signs: Signs,
    held: Held,
    /// Published, and not deleted yet: what a session could not tell any more.
    owed: Vec<i64>,
}

/// What a round came to.
#[derive(Default)]
struct Round {
    /// Whether there may be more at once.
    more: bool,
    /// Whether the bus is away and nothing was published.
    stuck: bool,
}

/// One lane's work.
struct Work {
    partitions: Vec<(String, Tries)>,
    /// Whether as many rows were read as may be.
    full: bool,
    /// Whether the table knows all of it.
    told: Result<(), Error>,
}

impl Relay {
    /// # Errors
    /// The key below `source` that is wrong, and why.
    pub(in crate::source) fn new(
        mouth: Mouth,
        config: Config,
        health: Component,
    ) -> Result<Self, (&'static str, String)> {
        let name = Name::parse(&config.table).map_err(|why| ("postgres.table", why))?;
        let place = Place::new(&config)?;
        let from = format!("{} of {}", config.table, place.name());
        let signs = Signs::new(&mouth.name, from, mouth.metrics.clone(), health);
        Ok(Self {
            mouth,
            config,
            name,
            place,
            signs,
            held: Held::default(),
            owed: Vec::new(),
        })
    }

    pub(in crate::source) async fn run(mut self, shutdown: Shutdown) {
        let mut pause = backoff();
        while !shutdown.is_requested() {
            let Err(why) = self.connected(&shutdown).await else {
                return;
            };
            if self.signs.is_up() {
                pause = backoff();
            }
            self.signs.away(&why);
            tokio::select! {
                () = tokio::time::sleep(pause.next().unwrap_or_default()) => {}
                () = shutdown.requested() => {}
            }
        }
    }

    /// Works in one session until the shutdown, or until it fails: why.
    async fn connected(&mut self, shutdown: &Shutdown) -> Result<(), String> {
        let (client, wire) = tokio::select! {
            connected = self.place.connect() => connected?,
            () = shutdown.requested() => return Ok(()),
        };
        let woken = Notify::new();
        let mut wire = pin!(drive(wire, &woken));
        let worked = {
            let mut work = pin!(self.rounds(&client, &woken, shutdown));
            // When the session ends, the work hears of it by its next statement: it is not cut off while it publishes.
            let mut lost = None;
            loop {
                tokio::select! {
                    worked = &mut work => break worked.map_err(|why| (why, lost.take())),
                    why = &mut wire, if lost.is_none() => {
                        lost = Some(why);
                        woken.notify_one();
                    }
                }
            }
        };
        worked.map_err(|(why, lost)| self.said(&why, lost.as_ref()))
    }

    fn said(&self, why: &Error, lost: Option<&Option<tokio_postgres::Error>>) -> String {
        match (lost, why) {
            (Some(Some(lost)), _) => self.place.said(lost),
            (Some(None), Error::Server(why)) if why.as_db_error().is_none() => {
                format!("{}: the session was ended by the other side", self.place.name())
            }
            (_, Error::Server(why)) => self.place.said(why),
            (_, Error::Late) => format!("{}: it does not answer in time", self.place.name()),
            (_, Error::Unfit(why)) => format!("{}: {why}", self.place.name()),
        }
    }

    async fn rounds(&mut self, client: &Client, woken: &Notify, shutdown: &Shutdown) -> Result<(), Error> {
        in_time(client.batch_execute(&Place::greeting())).await?;
        let table = Table::find(client, &self.name).await?;
        in_time(client.batch_execute(&self.name.listen())).await?;
        let mut pause = backoff();
        loop {
            let round = self.round(&table, shutdown).await?;
            self.signs.up();
            if shutdown.is_requested() {
                return Ok(());
            }
            if round.more {
                continue;
            }
            let wait = if round.stuck {
                pause.next().unwrap_or_default()
            } else {
                pause = backoff();
                self.until_next()
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = woken.notified(), if !round.stuck => {}
                () = shutdown.requested() => {}
            }
        }
    }

    /// How long there is nothing to do that nobody notifies of.
    fn until_next(&self) -> Duration {
        let due = self
            .held
            .due()
            .map(|due| due.saturating_duration_since(Instant::now()));
        due.unwrap_or(self.config.poll).min(self.config.poll)
    }

    async fn round(&mut self, table: &Table<'_>, shutdown: &Shutdown) -> Result<Round, Error> {
        self.pay(table).await?;
        self.held.forget(Instant::now());
        let mut lanes = table.waiting().await?;
        // So that nodes do not go for the same lanes all the time.
        lanes.shuffle(&mut rand::rng());
        let mut round = Round::default();
        let (mut published, mut failure) = (false, None);
        for lanes in lanes.chunks(AT_A_TIME) {
            if shutdown.is_requested() || failure.is_some() || round.stuck || self.held.is_full() {
                break;
            }
            let works = lanes.iter().copied().map(|lane| self.lane(table, lane, shutdown));
            let works: Vec<_> = stream::iter(works).buffer_unordered(AT_A_TIME).collect().await;
            for work in works {
                round.more |= work.full && work.partitions.iter().any(|(_, tries)| tries.stopped.is_none());
                let told = work.told.is_ok();
                for (key, tries) in work.partitions {
                    published |= !tries.done.is_empty();
                    round.stuck |= matches!(tries.stopped, Some((_, Stop::Wait(_))));
                    self.note(key, tries, told);
                }
                failure = failure.or(work.told.err());
            }
            round.stuck &= !published;
        }
        round.stuck |= self.held.is_full();
        if self.held.is_empty() {
            self.signs.goes_on();
        }
        failure.map_or(Ok(round), Err)
    }

    /// Takes a lane, if nobody else has it, and does its work. It is left only when the table knows what was published.
    async fn lane(&self, table: &Table<'_>, lane: i16, shutdown: &Shutdown) -> Work {
        let mut work = Work {
            partitions: Vec::new(),
            full: false,
            told: Ok(()),
        };
        work.told = self.work(table, lane, shutdown, &mut work).await;
        work
    }

    async fn work(
        &self,
        table: &Table<'_>,
        lane: i16,
        shutdown: &Shutdown,
        work: &mut Work,
    ) -> Result<(), Error> {
        if !table.enter(lane).await? {
            return Ok(());
        }
        let until = Instant::now() + TERM;
        let over = || shutdown.is_requested() || Instant::now() >= until;
        let held = self.held.keys(Instant::now());
        let rows = table.read(lane, &held, self.config.batch).await?;
        work.full = rows.len() >= usize::from(self.config.batch);
        work.partitions = lane::publish(&self.mouth, rows, &self.held, self.config.attempts, over).await;
        let tries = || work.partitions.iter().map(|(_, tries)| tries);
        let done: Vec<i64> = tries().flat_map(|tries| &tries.done).copied().collect();
        if !done.is_empty() {
            table.delete(&done).await?;
        }
        for dead in tries().flat_map(|tries| &tries.dead) {
            table.set_aside(dead).await?;
        }
        table.leave(lane).await
    }

    /// Deletes what an earlier session had published.
    async fn pay(&mut self, table: &Table<'_>) -> Result<(), Error> {
        if !self.owed.is_empty() {
            table.delete(&self.owed).await?;
            self.owed.clear();
        }
        Ok(())
    }

    /// Remembers what became of a partition. `told`: the table knows, too.
    fn note(&mut self, key: String, tries: Tries, told: bool) {
        let Tries { done, dead, stopped } = tries;
        if told {
            for Dead { id, why } in dead {
                self.mouth.metrics.count(&self.mouth.name, Tried::SetAside, 1);
                tracing::warn!(
                    source = self.mouth.name,
                    row = id,
                    reason = why,
                    "a row was set aside"
                );
            }
        } else {
            self.owed.extend(done);
        }
        match stopped {
            Some((row, stop)) => {
                let (Stop::Wait(why) | Stop::Again(why)) = &stop;
                self.signs.waits(why);
                self.held.hold(key, row, &stop, Instant::now());
            }
            None => self.held.release(&key),
        }
    }
}

/// Reads what the server sends until the session ends: why, unless that is what was wanted.
async fn drive(wire: Wire, woken: &Notify) -> Option<tokio_postgres::Error> {
    let mut wire = pin!(wire);
    loop {
        match poll_fn(|context| wire.as_mut().get_mut().poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(_))) => woken.notify_one(),
            Some(Ok(_)) => {}
            Some(Err(why)) => return Some(why),
            None => return None,
        }
    }
}
