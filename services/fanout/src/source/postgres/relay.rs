//! One node's part in an outbox: which lanes it takes, when, and what it tells the table.
//!
//! It goes in rounds: which lanes have rows? Each that nobody else has is taken, read, published, and left. In between it
//! waits to be notified, or to look again. While the bus is unavailable as a whole it takes nothing, and tries again within a
//! second, or as soon as the bus is up. While a part of it is (one shard of a Redis Cluster), a few of the rows that wait for
//! it are tried within a second, and all of them once one was published. What was published and could not be deleted is
//! remembered beyond the session, and deleted before anything is read.

use std::{future::poll_fn, pin::pin, time::Duration};

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;
use tidings_runtime::{Shutdown, health::Component};
use tokio::{sync::Notify, time::Instant};
use tokio_postgres::{AsyncMessage, Client};

use super::{
    Config,
    blocked::{Backlog, Blocked, Quota},
    lane::{self, Stop, TERM, Tries},
    place::{Place, Wire},
    row::{Key, Row},
    table::{Dead, Error, Name, Rows, Table, in_time},
};
use crate::source::{
    Mouth, backoff,
    metrics::Tried,
    outage::{Found, Outage},
    signs::Signs,
};

/// How many lanes are worked on at a time.
const AT_A_TIME: usize = 4;

/// The shortest pause between two rounds that found nothing to go on with.
const PAUSE: Duration = Duration::from_millis(20);

/// Which part of a batch may be rows that are tried again though there are as many others.
const AGAIN: usize = 10;

pub(in crate::source) struct Relay {
    mouth: Mouth,
    config: Config,
    name: Name,
    place: Place,
    signs: Signs,
    bus: Outage,
    blocked: Blocked,
    /// Whether rows that had waited for the bus were tried in the last round and did not find it unavailable.
    recovers: bool,
    /// Published, and not deleted yet: what a session could not tell any more.
    owed: Vec<i64>,
}

/// The work on one shard of the table.
struct Work {
    lane: i16,
    /// Whether it could be had: another node may work on it.
    entered: bool,
    partitions: Vec<(Key, Tries)>,
    /// The partitions whose rows were to be tried again and are gone.
    gone: Vec<Key>,
    /// The shard's backlog before, and up to which row of it was tried again; `None`: up to its end.
    backlog: Option<(Backlog, Option<i64>)>,
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
            blocked: Blocked::default(),
            recovers: false,
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
                _ = self.bus.ended() => {}
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
        let now = Instant::now();
        let due = self.blocked.next(now);
        let due = due.map(|due| due.saturating_duration_since(now));
        // More may be due than is tried in a round.
        due.unwrap_or(self.config.poll).clamp(PAUSE, self.config.poll)
    }

    /// Works once on each shard of the table that has rows. Whether there may be more to do at once.
    async fn round(&mut self, table: &Table<'_>, shutdown: &Shutdown) -> Result<bool, Error> {
        self.pay(table).await?;
        self.bus.begin();
        let is_due = self.bus.due().is_none_or(|due| due <= Instant::now());
        let is_partial = self.mouth.publish().is_partial();
        let mut lanes = table.waiting().await?;
        self.blocked.keep(&lanes);
        // So that nodes do not go for the same shards all the time.
        lanes.shuffle(&mut rand::rng());
        let (mut more, mut found, mut failure) = (false, Found::default(), None);
        for lanes in lanes.chunks(AT_A_TIME) {
            // Where it is all one, the rows of other shards would only find the same.
            let out = found.unavailable && !is_partial;
            if shutdown.is_requested() || failure.is_some() || out {
                break;
            }
            let works = lanes.iter().copied();
            let works = works.map(|lane| self.lane(table, lane, is_due, shutdown));
            let works: Vec<_> = stream::iter(works).buffer_unordered(AT_A_TIME).collect().await;
            for work in works {
                more |= work.full;
                failure = failure.or(self.settle(work, &mut found).err());
            }
        }
        // What is new and finds the bus unavailable puts off no further what waits for it.
        if is_due {
            // Of a bus that is unavailable as a whole, partitions do not remember it.
            let all_wait = !is_partial && self.bus.is_on() && !lanes.is_empty();
            found.waiting = all_wait || self.blocked.waits();
            self.bus.end(found);
        }
        let may_go_on = !found.unavailable || is_partial;
        self.recovers = found.went_on && may_go_on;
        if self.blocked.is_empty() && !found.unavailable {
            self.signs.goes_on();
        }
        failure.map_or(Ok(more && may_go_on || self.recovers), Err)
    }

    /// Notes what became of a shard's rows.
    fn settle(&mut self, work: Work, found: &mut Found) -> Result<(), Error> {
        let lane = work.lane;
        self.blocked.entered(lane, work.entered, Instant::now());
        for key in work.gone {
            // Another node has published it.
            found.went_on |= self.blocked.release(lane, key);
        }
        let backlog = work.backlog.map(|(backlog, _)| backlog);
        for (key, tries) in work.partitions {
            let first = tries.first();
            let had_waited = self.blocked.is_waiting(lane, key)
                || first.is_some_and(|row| backlog.is_some_and(|backlog| backlog.waits_with(row)))
                || self.is_out();
            found.unavailable |= matches!(tries.stopped, Some((_, Stop::Wait(_))));
            found.went_on |= had_waited && tries.found_the_bus();
            self.note(lane, key, tries, work.told.is_ok());
        }
        if let Some((backlog, up_to)) = work.backlog {
            self.blocked.tried(lane, backlog, up_to, Instant::now());
        }
        work.told
    }

    /// Takes a lane, if nobody else has it, and does its work. It is left only when the table knows what was published.
    /// `is_due`: whether the bus is to be tried again.
    async fn lane(&self, table: &Table<'_>, lane: i16, is_due: bool, shutdown: &Shutdown) -> Work {
        let mut work = Work {
            lane,
            entered: false,
            partitions: Vec::new(),
            gone: Vec::new(),
            backlog: None,
            full: false,
            told: Ok(()),
        };
        work.told = self.work(table, is_due, shutdown, &mut work).await;
        work
    }

    async fn work(
        &self,
        table: &Table<'_>,
        is_due: bool,
        shutdown: &Shutdown,
        work: &mut Work,
    ) -> Result<(), Error> {
        let lane = work.lane;
        if !table.enter(lane).await? {
            return Ok(());
        }
        work.entered = true;
        let until = Instant::now() + TERM;
        let over = || shutdown.is_requested() || Instant::now() >= until;
        let rows = self.read(table, is_due, work).await?;
        let attempts = self.config.attempts;
        work.partitions = lane::publish(&self.mouth, lane, rows, &self.blocked, attempts, over).await;
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

    /// The rows of a shard that are to be tried: a batch of those that nothing holds up, and of those that were tried before
    /// as many as are missing from the batch, or a few. Those that wait for the bus are tried when it is.
    async fn read(&self, table: &Table<'_>, is_due: bool, work: &mut Work) -> Result<Vec<Row>, Error> {
        let (lane, batch) = (work.lane, usize::from(self.config.batch));
        let (blocked, backlog) = (self.blocked.keys(lane), self.blocked.backlog(lane));
        let behind = backlog.map_or(i64::MIN, |backlog| backlog.end);
        let Rows { mut rows, more } = table.read(lane, &blocked, (behind, i64::MAX), batch).await?;
        work.full = more;
        let few = batch.div_ceil(AGAIN);
        let refused = batch.saturating_sub(rows.len()).max(few);
        let waiting = match (self.recovers, is_due) {
            (true, _) => refused,
            (false, true) => few,
            (false, false) => 0,
        };
        let now = Instant::now();
        let due = self.blocked.due(lane, Quota { refused, waiting }, now);
        if !due.is_empty() {
            let ids: Vec<i64> = due.iter().map(|(_, row)| *row).collect();
            let again = table.again(lane, &ids).await?;
            // Where there is more, that is behind the last one.
            let end = again
                .rows
                .last()
                .filter(|_| again.more)
                .map_or(i64::MAX, |row| row.id);
            let is_gone = |id| id <= end && again.rows.iter().all(|row| row.id != id);
            let gone = due.iter().filter(|(_, row)| is_gone(*row));
            work.gone.extend(gone.map(|(key, _)| *key));
            rows.extend(again.rows);
        }
        // As many rows as of those that were refused, though they wait: rows that were committed late may be among them.
        let bus = is_due || self.recovers;
        if let Some(backlog) = backlog.filter(|backlog| self.blocked.is_due(*backlog, bus, now)) {
            let ids = (backlog.tried, backlog.end);
            let again = table.read(lane, &blocked, ids, refused).await?;
            let up_to = again.rows.last().filter(|_| again.more).map(|row| row.id);
            work.backlog = Some((backlog, up_to));
            rows.extend(again.rows);
        }
        Ok(rows)
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
    fn note(&mut self, lane: i16, key: Key, tries: Tries, told: bool) {
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
        if moved {
            self.blocked.release(lane, key);
        }
        if let Some((row, stop)) = stopped {
            let (Stop::Wait(why) | Stop::Again(why)) = &stop;
            self.signs.waits(why);
            // While the bus is unavailable as a whole, it is waited for, and not with each partition.
            if matches!(stop, Stop::Again(_)) || self.mouth.publish().is_partial() {
                self.blocked.hold(lane, key, row, &stop, Instant::now());
            }
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
