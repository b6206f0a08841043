//! One node's part in a consumer group: what it takes, tries, lets go of and sets aside.
//!
//! It goes in rounds: tell Redis what became of the last one, take over what others left, read what is new if there is room,
//! publish. What is in flight outlives the connection, so an answer is told once Redis is back. Only what is
//! acknowledged is let go of; if this process dies, others claim the rest.
//!
//! **Order.** A [`Round`] publishes in the order of the stream, and an entry that fails holds up those behind it in the channels
//! that do not have it. So that nothing older comes later, a node that starts first waits for what others left, and one that was
//! disconnected first fetches what it was given and did not receive.

use std::{mem, time::Duration};

use redis::{RedisError, aio::MultiplexedConnection};
use tidings_runtime::{Shutdown, health::Component};
use tokio::time::Instant;

use super::{
    Config,
    entry::{Entry, EntryId},
    in_flight::{InFlight, Next, Open},
    place::{BLOCK, Place},
    round::Round,
    stream::{Claimed, Dead, Pending, Stream},
};
use crate::source::{self, Mouth, backoff, metrics::Tried, outage::Outage, outcome::Outcome, signs::Signs};

/// How often a node that starts looks for what others left.
const LOOK: Duration = Duration::from_millis(200);

pub(in crate::source) struct Consumer {
    mouth: Mouth,
    config: Config,
    place: Place,
    stream: Stream,
    signs: Signs,
    in_flight: InFlight,
    bus: Outage,
    /// When to look for entries that others left.
    next_claim: Instant,
    /// Where to look on.
    claim_from: Option<String>,
    start: Start,
}

/// Whether older entries are waited for before new ones are read.
#[derive(Clone, Copy)]
enum Start {
    /// Nothing is known yet.
    New,
    /// Others have entries up to this one, which they finish, or which can be claimed by then.
    Waiting { newest: EntryId, until: Instant },
    /// There are none.
    Over,
}

impl Consumer {
    pub(in crate::source) fn new(
        mouth: Mouth,
        config: Config,
        place: Place,
        consumer: String,
        health: Component,
    ) -> Self {
        let stream = Stream {
            key: config.stream.clone(),
            group: config.group.clone(),
            consumer,
            dead_letter: config.dead_letter(),
        };
        let from = format!("{} of {} in group {}", config.stream, place.name(), config.group);
        let signs = Signs::new(&mouth.name, from, mouth.metrics.clone(), health);
        Self {
            bus: Outage::new(mouth.publish().status()),
            mouth,
            config,
            place,
            stream,
            signs,
            in_flight: InFlight::default(),
            next_claim: Instant::now(),
            claim_from: None,
            start: Start::New,
        }
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

    /// Works on one connection until the shutdown, or until it fails: why.
    async fn connected(&mut self, shutdown: &Shutdown) -> Result<(), String> {
        let mut connection = self.place.connect().await?;
        let worked = self.rounds(&mut connection, shutdown).await;
        worked.map_err(|why| self.place.said(&why))
    }

    async fn rounds(
        &mut self,
        connection: &mut MultiplexedConnection,
        shutdown: &Shutdown,
    ) -> Result<(), RedisError> {
        self.stream.join(connection, self.config.begin).await?;
        self.fetch(connection).await?;
        loop {
            self.tell(connection).await?;
            if shutdown.is_requested() {
                return self.stream.leave(connection, self.config.claim_after).await;
            }
            self.wait_for_others(connection).await?;
            self.claim(connection).await?;
            self.read(connection).await?;
            self.signs.up();
            self.publish().await;
        }
    }

    /// Fetches what this consumer was given when the connection broke, and did not receive.
    async fn fetch(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut ids = self.stream.own(connection).await?;
        ids.retain(|id| !self.in_flight.has(id));
        for ids in ids.chunks(self.config.batch) {
            let entries = self.stream.again(connection, ids).await?;
            // What was deleted meanwhile is nothing to be published.
            let gone = |id: &&String| entries.iter().all(|entry| entry.id != **id);
            self.in_flight.done.extend(ids.iter().filter(gone).cloned());
            for entry in entries {
                self.take(entry, 0);
            }
        }
        Ok(())
    }

    /// Tells Redis what was done.
    async fn tell(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        if !self.in_flight.done.is_empty() {
            self.stream.acknowledge(connection, &self.in_flight.done).await?;
            self.in_flight.done.clear();
        }
        while let Some(dead) = self.in_flight.dead.front_mut() {
            self.stream.set_aside(connection, dead).await?;
            self.mouth.metrics.count(&self.mouth.name, Tried::SetAside, 1);
            tracing::warn!(
                source = self.mouth.name,
                entry = dead.entry.id,
                to = self.stream.dead_letter,
                reason = dead.why,
                "an entry was set aside"
            );
            self.in_flight.dead.pop_front();
        }
        Ok(())
    }

    /// Finds out whether others have entries that are older than what is new. A node that dies leaves some, which cannot be
    /// claimed at once.
    async fn wait_for_others(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        if matches!(self.start, Start::Over) {
            return Ok(());
        }
        let now = Instant::now();
        let Pending { range, of_others } = self.stream.pending(connection).await?;
        self.start = match (self.start, range) {
            (Start::New, Some((_, newest))) if of_others => {
                let until = now + self.config.claim_after + 2 * LOOK;
                Start::Waiting { newest, until }
            }
            (Start::Waiting { newest, until }, Some((oldest, _)))
                if of_others && oldest <= newest && now < until =>
            {
                self.start
            }
            _ => Start::Over,
        };
        Ok(())
    }

    fn is_waiting_for_others(&self) -> bool {
        matches!(self.start, Start::Waiting { .. })
    }

    /// From time to time takes over what others left, and keeps what is in flight.
    async fn claim(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        if Instant::now() < self.next_claim {
            return Ok(());
        }
        let kept: Vec<&str> = self
            .in_flight
            .open
            .values()
            .map(|open| open.entry.id.as_str())
            .collect();
        if !kept.is_empty() {
            self.stream.keep(connection, &kept).await?;
        }
        let room = self.in_flight.room(self.config.batch);
        if room > 0 {
            let from = self.claim_from.as_deref().unwrap_or("0-0");
            let idle = self.config.claim_after;
            let Claimed { entries, next } = self.stream.claim(connection, idle, from, room).await?;
            self.mouth.metrics.claimed(&self.mouth.name, entries.len() as u64);
            for (entry, delivered) in entries {
                self.take(entry, delivered.saturating_sub(1));
            }
            self.claim_from = next;
        }
        if self.claim_from.is_none() || room == 0 {
            let often = self.config.claim_after / 3;
            let pause = if self.is_waiting_for_others() {
                LOOK.min(often)
            } else {
                often
            };
            self.next_claim = Instant::now() + pause;
        }
        Ok(())
    }

    /// Reads what is new, if there is room for it, or waits. Waits only where nothing else is to be done.
    async fn read(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let now = Instant::now();
        let due = self.in_flight.due(self.bus.due(), now);
        let ended = !self.in_flight.dead.is_empty() || !self.in_flight.done.is_empty();
        let wait = if ended || self.claim_from.is_some() {
            Duration::ZERO
        } else {
            let due = due.map(|due| due.saturating_duration_since(now));
            due.unwrap_or(BLOCK).min(BLOCK)
        };
        let room = self.in_flight.room(self.config.batch);
        // What is read while the bus is unavailable as a whole would only wait.
        if self.bus.is_on() && !self.mouth.publish().is_partial() || room == 0 {
            drop(tokio::time::timeout(wait, self.bus.ended()).await);
            return Ok(());
        }
        if self.is_waiting_for_others() {
            tokio::time::sleep(wait.min(LOOK)).await;
            return Ok(());
        }
        let wait = Some(wait).filter(|wait| !wait.is_zero());
        for entry in self.stream.read(connection, room, wait).await? {
            self.take(entry, 0);
        }
        Ok(())
    }

    /// Adds an entry, of which something came to nothing so often before.
    fn take(&mut self, entry: Entry, tried: u32) {
        if self.in_flight.has(&entry.id) {
            return;
        }
        let Some(id) = EntryId::parse(&entry.id).filter(|_| entry.fields.is_some()) else {
            // There is nothing left to publish.
            self.in_flight.done.push(entry.id);
            return;
        };
        if tried >= self.config.attempts {
            let why = format!("it was taken {tried} times, and no node finished it");
            self.set_aside(entry, why, tried);
        } else {
            self.in_flight.open.insert(id, Open::new(entry, tried));
        }
    }

    fn set_aside(&mut self, entry: Entry, why: String, tried: u32) {
        self.in_flight.dead.push_back(Dead {
            entry,
            why,
            tried,
            repeated: false,
        });
    }

    /// Tries to publish all that is due and not held up, in the order of the stream.
    async fn publish(&mut self) {
        let now = Instant::now();
        self.bus.begin();
        let bus = self.bus.due();
        let entries = mem::take(&mut self.in_flight.open);
        let mut round = Round::new(&self.mouth, &self.stream.key, bus, now);
        let tried = round.publish(entries).await;
        let Round {
            waiting,
            mut unavailable,
            ..
        } = round;
        for open in waiting {
            self.keep(open);
        }
        for (open, outcome) in tried {
            unavailable |= matches!(outcome, Outcome::Wait(_));
            self.settle(open, outcome);
        }
        // Otherwise nothing that waited for it was tried, and what is new puts that off no further.
        if bus.is_none_or(|due| due <= now) {
            if unavailable {
                self.bus.failed();
            } else {
                self.bus.over();
            }
        }
        if self.in_flight.open.is_empty() {
            self.signs.goes_on();
        }
    }

    fn settle(&mut self, mut open: Open, outcome: Outcome) {
        match outcome {
            Outcome::Done => {
                self.count(Tried::Published);
                self.in_flight.done.push(open.entry.id);
                return;
            }
            Outcome::Never(why) => {
                self.set_aside(open.entry, why, open.tried + 1);
                return;
            }
            Outcome::Again(why) => {
                open.tried += 1;
                if open.tried >= self.config.attempts {
                    self.set_aside(open.entry, why, open.tried);
                    return;
                }
                self.count(Tried::Retried);
                self.signs.waits(&why);
                open.next = Next::At(Instant::now() + source::pause(open.tried));
            }
            Outcome::Wait(why) => {
                self.count(Tried::Retried);
                self.signs.waits(&why);
                open.next = Next::WithBus;
            }
            // Where it failed before, it is tried when it was to be.
            Outcome::Behind => {}
        }
        self.keep(open);
    }

    fn keep(&mut self, open: Open) {
        if let Some(id) = EntryId::parse(&open.entry.id) {
            self.in_flight.open.insert(id, open);
        }
    }

    fn count(&self, tried: Tried) {
        self.mouth.metrics.count(&self.mouth.name, tried, 1);
    }
}
