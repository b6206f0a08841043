//! One round through the entries in flight, in the order of the stream: which are tried now, and in which channels.

use std::{collections::BTreeMap, pin::pin};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{Either, ready},
    stream::FuturesOrdered,
};
use tokio::time::Instant;

use super::{
    entry::{Entry, EntryId},
    in_flight::{HeldUp, Missing, Next, Open, Step},
};
use crate::{
    publish::Plan,
    source::{Attempt, Mouth, outcome::Outcome},
};

/// How many of the entries are published at a time.
const AT_A_TIME: usize = 64;

pub(super) struct Round<'c> {
    mouth: &'c Mouth,
    /// The stream's key.
    stream: &'c str,
    /// When the bus is tried again; `None`: it is not known to be unavailable.
    bus: Option<Instant>,
    now: Instant,
    held: HeldUp,
    /// Entries of which nothing is tried.
    pub(super) waiting: Vec<Open>,
    /// Whether an entry was due, and is not tried because its part of the bus is still known to be unavailable.
    pub(super) unavailable: bool,
}

impl<'c> Round<'c> {
    pub(super) fn new(mouth: &'c Mouth, stream: &'c str, bus: Option<Instant>, now: Instant) -> Self {
        Self {
            mouth,
            stream,
            bus,
            now,
            held: HeldUp::default(),
            waiting: Vec::new(),
            unavailable: false,
        }
    }

    /// Publishes what is due of these entries, which are all that are open, in their order. What became of each that was tried.
    pub(super) async fn publish(&mut self, entries: BTreeMap<EntryId, Open>) -> Vec<(Open, Outcome)> {
        let mouth = self.mouth;
        let order = mouth.publish().ordered();
        let (mut under_way, mut tried) = (FuturesOrdered::new(), Vec::new());
        for open in entries.into_values() {
            let Some((open, planned)) = self.choose(open) else {
                continue;
            };
            let plan = match planned {
                Ok(plan) => plan,
                Err(outcome) => {
                    under_way.push_back(Either::Left(ready((open, Err(outcome)))));
                    continue;
                }
            };
            let mut room = pin!(mouth.publish().room(plan));
            // Those under way have the room that this one may wait for.
            let ready = loop {
                tokio::select! {
                    ready = &mut room, if under_way.len() < AT_A_TIME => break ready,
                    Some(ended) = under_way.next() => tried.push(ended),
                }
            };
            let started = mouth.start(ready, Some(&order));
            under_way.push_back(Either::Right(started.map(|attempt| (open, Ok(attempt)))));
        }
        tried.extend(under_way.collect::<Vec<_>>().await);
        let noted = tried.into_iter().map(|(mut open, tried)| {
            let outcome = match tried {
                Ok(attempt) => note(mouth, &mut open, attempt),
                Err(outcome) => open.refused(outcome),
            };
            (open, outcome)
        });
        noted.collect()
    }

    /// Decides about the next entry: what is to be published of it, or why nothing can be. `None`: it waits in all its channels,
    /// and is kept. Channels in which it waits take no later entry in this round.
    fn choose(&mut self, mut open: Open) -> Option<(Open, Result<Box<Plan>, Outcome>)> {
        let is_due = open.due(self.bus, self.now) <= self.now;
        if !self.has_something_to_try(&open, is_due) {
            self.held.hold(open.missing.keys());
            self.waiting.push(open);
            return None;
        }
        let mut plan = match plan(self.mouth, &open.entry, self.stream) {
            Ok(plan) => plan,
            Err(outcome) => {
                self.held.hold(open.missing.keys());
                return Some((open, Err(outcome)));
            }
        };
        let mut waits = Vec::new();
        plan.leave_out(|channel| match open.step(channel, &self.held, is_due) {
            Step::Publish => false,
            Step::Has => true,
            Step::Wait(why) => {
                waits.push((channel.clone(), why));
                true
            }
        });
        open.missing = waits.into_iter().collect();
        self.mouth.publish().leave_out_unavailable(&mut plan);
        self.held.hold(open.missing.keys());
        // Its part of the bus may be back before this round is over: nothing later must come first.
        self.held.hold(plan.unavailable());
        if plan.is_empty() && !open.missing.is_empty() {
            self.waiting.push(open);
            return None;
        }
        Some((open, Ok(plan)))
    }

    /// Whether an entry is to be tried in any channel, as far as is known without planning it anew. However many entries wait for
    /// a part of the bus that is still known to be unavailable, they need no try.
    fn has_something_to_try(&mut self, open: &Open, is_due: bool) -> bool {
        if open.missing.is_empty() {
            return is_due;
        }
        let mut something = false;
        for (channel, why) in &open.missing {
            if open.step(channel, &self.held, is_due) != Step::Publish {
                continue;
            }
            let waits = *why == Missing::Failed && open.next == Next::WithBus;
            if waits && self.mouth.publish().is_unavailable(channel) {
                self.unavailable = true;
            } else {
                something = true;
            }
        }
        something
    }
}

/// Notes which channels of an entry have it. What is to become of the entry.
fn note(mouth: &Mouth, open: &mut Open, attempt: Attempt) -> Outcome {
    let is_unavailable = |channel| mouth.publish().is_unavailable(channel);
    match open.published(attempt) {
        // While any of its channels cannot be reached it is not counted as tried, though only another one refused it.
        Outcome::Again(why) if open.missing.keys().any(is_unavailable) => Outcome::Wait(why),
        outcome => outcome,
    }
}

fn plan(mouth: &Mouth, entry: &Entry, stream: &str) -> Result<Box<Plan>, Outcome> {
    match entry.event(stream) {
        Ok(event) => mouth.plan(event),
        Err(why) => {
            mouth.malformed();
            Err(Outcome::Never(why))
        }
    }
}
