//! One node's part in an outbox: which lanes it takes, when, and what it tells the table.
//!
//! It goes in rounds: which lanes have rows? Each that nobody else has is taken, read, published, and left. In between it
//! waits to be notified, or to look again. While the bus is unavailable as a whole it takes nothing, and tries again within a
//! second, or as soon as the bus is up. What was published and could not be deleted is remembered beyond the session, and
//! deleted before anything is read.

use std::{future::poll_fn, pin::pin, time::Duration};

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;
use tidings_runtime::{Shutdown, health::Component};
use tokio::{sync::Notify, time::Instant};
use tokio_postgres::{AsyncMessage, Client};

use super::{
    Config,
    held::Held,
    lane::{self, Stop, TERM, Tries},
    place::{Place, Wire},
    row::Key,
    table::{Dead, Error, Name, Table, in_time},
};
use crate::source::{Mouth, backoff, metrics::Tried, outage::Outage, signs::Signs};

/// How many lanes are worked on at a time.
const AT_A_TIME: usize = 4;

/// The shortest pause between two rounds that found nothing to go on with.
const PAUSE: Duration = Duration::from_millis(20);

pub(in crate::source) struct Relay {
    mouth: Mouth,
    config: Config,
    name: Name,
    place: Place,
    signs: Signs,
    bus: Outage,
    held: Held,
    /// Published, and not deleted yet: what a session could not tell any more.
    owed: Vec<i64>,
}

/// One lane's work.
struct Work {
    lane: i16,
    partitions: Vec<(Key, Tries)>,
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
            bus: Outage::new(mouth.publish().status()),
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
        loop {
            let more = self.round(&table, shutdown).await?;
            self.signs.up();
            if shutdown.is_requested() {
                return Ok(());
            }
            if more {
                continue;
            }
            let wait = self.until_next();
            tokio::select! {
                came_up = self.bus.ended() => {
                    if came_up {
                        self.held.bus_is_up(Instant::now());
                    }
                }
                // Rows that are new wait with all others for the bus.
                () = tokio::time::sleep(wait), if !self.is_out() => {}
                () = woken.notified(), if !self.is_out() => {}
                () = shutdown.requested() => {}
            }
        }
    }

    /// Whether the bus is unavailable as a whole.
    fn is_out(&self) -> bool {
        self.bus.is_on() && !self.mouth.publish().is_partial()
    }

    /// How long there is nothing to do that nobody notifies of.
    fn until_next(&self) -> Duration {
        let due = self
            .held
            .due()
            .map(|due| due.saturating_duration_since(Instant::now()));
        // What is due may be in a lane that another node works on.
        due.unwrap_or(self.config.poll).clamp(PAUSE, self.config.poll)
    }

    /// Works once on each lane that has rows. Whether there may be more to do at once.
    async fn round(&mut self, table: &Table<'_>, shutdown: &Shutdown) -> Result<bool, Error> {
        self.pay(table).await?;
        self.bus.begin();
        self.held.forget(Instant::now());
        let mut lanes = table.waiting().await?;
        // So that nodes do not go for the same lanes all the time.
        lanes.shuffle(&mut rand::rng());
        let (mut more, mut unavailable, mut failure) = (false, false, None);
        for lanes in lanes.chunks(AT_A_TIME) {
            // Where it is all one, the rows of other lanes would only find the same.
            let out = unavailable && !self.mouth.publish().is_partial();
            if shutdown.is_requested() || failure.is_some() || out {
                break;
            }
            let works = lanes.iter().copied().map(|lane| self.lane(table, lane, shutdown));
            let works: Vec<_> = stream::iter(works).buffer_unordered(AT_A_TIME).collect().await;
            for work in works {
                let told = work.told.is_ok();
                let mut moved = false;
                for (key, tries) in work.partitions {
                    unavailable |= matches!(tries.stopped, Some((_, Stop::Wait(_))));
                    moved |= self.note(work.lane, key, tries, told);
                }
                more |= work.full && moved;
                failure = failure.or(work.told.err());
            }
        }
        if unavailable {
            self.bus.failed();
            more &= self.mouth.publish().is_partial();
        } else {
            self.bus.over();
        }
        if self.held.is_empty() && !unavailable {
            self.signs.goes_on();
        }
        failure.map_or(Ok(more), Err)
    }

    /// Takes a lane, if nobody else has it, and does its work. It is left only when the table knows what was published.
    async fn lane(&self, table: &Table<'_>, lane: i16, shutdown: &Shutdown) -> Work {
        let mut work = Work {
            lane,
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
        let held = self.held.keys(lane, Instant::now());
        let rows = table.read(lane, &held, self.config.batch).await?;
        work.full = rows.len() >= usize::from(self.config.batch);
        work.partitions = lane::publish(&self.mouth, rows, &self.held, self.config.attempts, over).await;
        let tries = || work.partitions.iter().map(|(_, tries)| tries);
        let done: Vec<i64> = tries().flat_map(|tries| &tries.done).copied().collect();
        if !done.is_empty() {
            table.delete(&done).await?;
        }
        let dead: Vec<&Dead> = tries().flat_map(|tries| &tries.dead).collect();
        if !dead.is_empty() {
            table.set_aside(&dead).await?;
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

    /// Remembers what became of a partition. `told`: the table knows, too. Whether other rows may be read next time.
    fn note(&mut self, lane: i16, key: Key, tries: Tries, told: bool) -> bool {
        let Tries { done, dead, stopped } = tries;
        let moved = !done.is_empty() || !dead.is_empty();
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
        let Some((row, stop)) = stopped else {
            self.held.release(key);
            return moved;
        };
        let (Stop::Wait(why) | Stop::Again(why)) = &stop;
        self.signs.waits(why);
        // While the bus is unavailable as a whole, it is waited for, and not with each partition.
        let whole = matches!(stop, Stop::Wait(_)) && !self.mouth.publish().is_partial();
        moved || !whole && self.held.hold(lane, key, row, &stop, Instant::now())
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
