//! One node's part in a consumer group: what it takes, tries, lets go of and sets aside.
//!
//! It goes in rounds: tell Redis what became of the last one, take over what others left, read what is new if there is room,
//! publish. What it has in hand outlives the connection, so an answer is told once Redis is back. Only what is
//! acknowledged is let go of; if this process dies, others claim the rest.

use std::{mem, time::Duration};

use backon::ExponentialBackoff;
use futures_util::{StreamExt as _, stream};
use redis::{RedisError, aio::MultiplexedConnection};
use tidings_runtime::{Shutdown, health::Component};
use tokio::time::Instant;

use super::{
    Config,
    entry::Entry,
    place::{BLOCK, Place},
    stream::{Claimed, Dead, Stream},
};
use crate::source::{Mouth, backoff, metrics::Tried, outcome::Outcome, signs::Signs};

/// How many of the entries in hand are published at a time.
const AT_A_TIME: usize = 64;

pub(in crate::source) struct Consumer {
    mouth: Mouth,
    config: Config,
    place: Place,
    stream: Stream,
    signs: Signs,
    hand: Hand,
    /// When to look for entries that others left.
    next_claim: Instant,
    /// Where to look on.
    claim_from: Option<String>,
}

/// What Redis has given to this consumer and not been told the end of.
#[derive(Default)]
struct Hand {
    open: Vec<Open>,
    done: Vec<String>,
    dead: Vec<Dead>,
}

/// An entry that is not published yet.
struct Open {
    entry: Entry,
    /// How often it was refused, or its node died.
    tried: u32,
    /// Not to be tried before.
    due: Instant,
    backoff: ExponentialBackoff,
}

impl Hand {
    fn len(&self) -> usize {
        self.open.len() + self.done.len() + self.dead.len()
    }

    fn has(&self, id: &str) -> bool {
        self.open.iter().any(|open| open.entry.id == id)
            || self.done.iter().any(|done| done == id)
            || self.dead.iter().any(|dead| dead.entry.id == id)
    }
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
            mouth,
            config,
            place,
            stream,
            signs,
            hand: Hand::default(),
            next_claim: Instant::now(),
            claim_from: None,
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
        loop {
            self.tell(connection).await?;
            if shutdown.is_requested() {
                return self.stream.leave(connection).await;
            }
            self.claim(connection).await?;
            self.read(connection).await?;
            self.signs.up();
            self.publish().await;
        }
    }

    /// Tells Redis what was done.
    async fn tell(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        if !self.hand.done.is_empty() {
            self.stream.acknowledge(connection, &self.hand.done).await?;
            self.hand.done.clear();
        }
        while let Some(dead) = self.hand.dead.last() {
            self.stream.set_aside(connection, dead).await?;
            self.mouth.metrics.count(&self.mouth.name, Tried::SetAside, 1);
            tracing::warn!(
                source = self.mouth.name,
                entry = dead.entry.id,
                to = self.stream.dead_letter,
                reason = dead.why,
                "an entry was set aside"
            );
            self.hand.dead.pop();
        }
        Ok(())
    }

    /// From time to time takes over what others left, and keeps what is in hand.
    async fn claim(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let room = self.config.batch.saturating_sub(self.hand.len());
        if Instant::now() < self.next_claim || room == 0 && self.hand.open.is_empty() {
            return Ok(());
        }
        let kept: Vec<&str> = self.hand.open.iter().map(|open| open.entry.id.as_str()).collect();
        if !kept.is_empty() {
            self.stream.keep(connection, &kept).await?;
        }
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
            self.next_claim = Instant::now() + self.config.claim_after / 3;
        }
        Ok(())
    }

    /// Reads what is new, if there is room for it. Waits only where nothing else is to be done.
    async fn read(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let now = Instant::now();
        let due = self
            .hand
            .open
            .iter()
            .map(|open| open.due.saturating_duration_since(now))
            .min();
        let ended = !self.hand.dead.is_empty() || !self.hand.done.is_empty();
        let wait = if ended || self.claim_from.is_some() {
            Duration::ZERO
        } else {
            due.unwrap_or(BLOCK).min(BLOCK)
        };
        let room = self.config.batch.saturating_sub(self.hand.len());
        if room == 0 {
            tokio::time::sleep(wait).await;
            return Ok(());
        }
        let wait = Some(wait).filter(|wait| !wait.is_zero());
        for entry in self.stream.read(connection, room, wait).await? {
            self.take(entry, 0);
        }
        Ok(())
    }

    /// Takes an entry into the hand, of which something came to nothing so often before.
    fn take(&mut self, entry: Entry, tried: u32) {
        if self.hand.has(&entry.id) {
            return;
        }
        if entry.fields.is_none() {
            // There is nothing left to publish.
            self.hand.done.push(entry.id);
        } else if tried >= self.config.attempts {
            let why = format!("it was taken {tried} times, and no node finished it");
            self.hand.dead.push(Dead { entry, why, tried });
        } else {
            self.hand.open.push(Open {
                entry,
                tried,
                due: Instant::now(),
                backoff: backoff(),
            });
        }
    }

    /// Tries to publish all that is due, in its order.
    async fn publish(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = mem::take(&mut self.hand.open)
            .into_iter()
            .partition(|open| open.due <= now);
        self.hand.open = later;
        let (mouth, key) = (&self.mouth, &self.stream.key);
        let tries = due.into_iter().map(|open| async move {
            let outcome = match open.entry.event(key) {
                Ok(event) => mouth.publish(event).await,
                Err(why) => {
                    mouth.malformed();
                    Outcome::Never(why)
                }
            };
            (open, outcome)
        });
        let tried: Vec<_> = stream::iter(tries).buffered(AT_A_TIME).collect().await;
        for (open, outcome) in tried {
            self.settle(open, outcome);
        }
        self.hand.open.sort_by_key(|open| open.due);
        if self.hand.open.is_empty() {
            self.signs.goes_on();
        }
    }

    fn settle(&mut self, mut open: Open, outcome: Outcome) {
        let why = match outcome {
            Outcome::Done => {
                self.mouth.metrics.count(&self.mouth.name, Tried::Published, 1);
                self.hand.done.push(open.entry.id);
                return;
            }
            Outcome::Never(why) => {
                let Open { entry, tried, .. } = open;
                let tried = tried + 1;
                self.hand.dead.push(Dead { entry, why, tried });
                return;
            }
            Outcome::Again(why) => {
                open.tried += 1;
                if open.tried >= self.config.attempts {
                    let Open { entry, tried, .. } = open;
                    self.hand.dead.push(Dead { entry, why, tried });
                    return;
                }
                why
            }
            Outcome::Wait(why) => why,
        };
        self.mouth.metrics.count(&self.mouth.name, Tried::Retried, 1);
        self.signs.waits(&why);
        open.due = Instant::now() + open.backoff.next().unwrap_or_default();
        self.hand.open.push(open);
    }
}
