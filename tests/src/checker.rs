//! Whether what clients have heard of a stream keeps the promises: everything once and in order, or word that something is
//! missing.
//!
//! Publishers number what they publish. Every client writes down what happened to it ([`Moment`]), publishers what
//! was acknowledged; beside that the checker is told what the stream holds in the end, and looks at nothing else.

mod provisional;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::Excluded,
};

pub use provisional::Epochs;
use tokio::time::Instant;

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Which life of the stream.
    pub epoch: String,
    /// From 1.
    pub offset: u64,
}

/// What can happen to a client, as far as its stream is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// It is subscribed, and was told that this is where it is; that it has got all that it missed, that it has not, or,
    /// because it did not ask, neither.
    Subscribed {
        /// Where it is.
        at: Place,
        /// Whether it has got all that it missed.
        recovered: Option<bool>,
    },
    /// It got a publication.
    Heard {
        /// Where it is in the stream.
        at: Place,
        /// The publisher's number.
        number: u64,
    },
    /// It was told that it may have missed something.
    Told,
    /// Its subscription ended without a notice, and it does not ask for what it misses until the next one.
    Left,
}

/// When and where something happened to a client.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// When.
    pub at: Instant,
    /// Through which of its addresses.
    pub via: usize,
}

/// What a client went through, in order.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// For reports.
    pub client: String,
    /// In the order in which they happened.
    pub moments: Vec<Moment>,
    /// One for each moment; none where nobody asks for them.
    pub stamps: Vec<Stamp>,
}

impl History {
    /// Where the client is; `None` before it was ever subscribed, and from a notice until it is subscribed again.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        let last = self.moments.iter().rev().find(|it| **it != Moment::Left);
        match last? {
            Moment::Subscribed { at, .. } | Moment::Heard { at, .. } => Some(at),
            Moment::Told | Moment::Left => None,
        }
    }
}

impl Place {
    /// Whether the place was given before the first publication: its epoch says only when.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.epoch.starts_with('~')
    }

    /// Whether both may be the same place, as far as a client can know that subscribed before the first publication.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        self.offset == other.offset
            && (self.epoch == other.epoch || self.is_provisional() || other.is_provisional())
    }
}

/// A number that names its publisher: the `n`th of `publisher`.
#[must_use]
pub fn numbered(publisher: u32, n: u32) -> u64 {
    (u64::from(publisher) << 32) | u64::from(n)
}

/// The publisher of a number, and which of its numbers it is.
#[must_use]
pub fn publisher(number: u64) -> (u32, u32) {
    let low = u32::try_from(number & u64::from(u32::MAX)).expect("32 bits");
    (u32::try_from(number >> 32).expect("32 bits"), low)
}

/// What a stream is known to hold, and what its clients say.
#[derive(Debug, Default)]
pub struct Checker {
    /// What publishers were told, and what is there: where which number is.
    acknowledged: BTreeMap<Place, u64>,
    kept: BTreeMap<Place, u64>,
    faults: Vec<String>,
}

impl Checker {
    /// A publisher was told that `number` is there.
    pub fn acknowledged(&mut self, at: &Place, number: u64) {
        let before = *self.acknowledged.entry(at.clone()).or_insert(number);
        if before != number {
            self.faults
                .push(format!("{at:?} was given to {before} and to {number}"));
        }
    }

    /// Looks at one client. `top`: where the stream is, and the client, which is still connected, must be.
    pub fn look(&mut self, history: &History, top: &Place) {
        let history = &history.clone().resolved(&self.epochs());
        let mut reached: Option<Place> = None;
        // A notice makes the next place any place.
        let mut excused = true;
        for (index, moment) in history.moments.iter().enumerate() {
            let fault = match moment {
                Moment::Told | Moment::Left => {
                    excused = true;
                    None
                }
                Moment::Subscribed { at, recovered } => {
                    let fault = self.subscribed(reached.as_ref(), at, *recovered, excused);
                    excused = false;
                    reached = Some(at.clone());
                    fault
                }
                Moment::Heard { at, number } => {
                    let fault = self.heard(reached.as_ref(), at, *number);
                    reached = Some(at.clone());
                    fault
                }
            };
            if let Some(fault) = fault {
                self.report(history, index, &fault);
            }
        }
        if reached.as_ref() != Some(top) {
            let fault = format!("it ends at {reached:?}, the stream at {top:?}");
            self.report(history, history.moments.len(), &fault);
        }
    }

    /// Whether a client is where the stream is. One that knows a provisional epoch only may be in another, at the same offset.
    pub fn is_there(&self, history: &History, top: &Place) -> bool {
        let is_near = history.place().is_some_and(|place| place.may_be(top));
        is_near && history.clone().resolved(&self.epochs()).place() == Some(top)
    }

    fn epochs(&self) -> Epochs {
        let known = |(place, number): (&Place, &u64)| (place.clone(), *number);
        Epochs::new(self.acknowledged.iter().map(known), self.kept.iter().map(known))
    }

    /// The stream holds these in its present life, in which nothing that was acknowledged may be missing, unless it is older
    /// than all that is kept; and no number may be there twice. To be said before clients are looked at.
    pub fn kept(&mut self, epoch: &str, kept: &BTreeMap<u64, u64>) {
        let oldest = kept.keys().next().copied().unwrap_or(u64::MAX);
        for (at, number) in &self.acknowledged {
            let there = kept.get(&at.offset);
            if at.epoch == epoch && at.offset >= oldest && there != Some(number) {
                self.faults
                    .push(format!("{number} was acknowledged at {at:?}, where {there:?} is"));
            }
        }
        let mut places = HashMap::new();
        for (offset, number) in kept {
            if let Some(before) = places.insert(number, offset) {
                self.faults
                    .push(format!("{number} is in the stream at {before} and at {offset}"));
            }
            let place = Place {
                epoch: epoch.to_owned(),
                offset: *offset,
            };
            self.kept.insert(place, *number);
        }
    }

    /// What is wrong.
    ///
    /// # Errors
    /// Everything that is, a line each.
    pub fn verdict(self) -> Result<(), String> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults.join("\n"))
        }
    }

    fn subscribed(
        &self,
        reached: Option<&Place>,
        at: &Place,
        recovered: Option<bool>,
        excused: bool,
    ) -> Option<String> {
        match (reached, recovered) {
            // Its recovered publications begin where it was.
            (Some(reached), Some(true)) if reached != at => Some(format!(
                "it was at {reached:?} and is said to have recovered from {at:?}"
            )),
            (Some(reached), None) if !excused && reached != at => Some(format!(
                "it was at {reached:?} and is put at {at:?} without a word"
            )),
            _ => None,
        }
    }

    fn heard(&self, reached: Option<&Place>, at: &Place, number: u64) -> Option<String> {
        let Some(reached) = reached else {
            return Some(format!("{at:?} came before any subscription"));
        };
        if at.epoch != reached.epoch || at.offset <= reached.offset {
            return Some(format!("{at:?} came after {reached:?}"));
        }
        // Offsets may be left out, but nothing may be there: neither now nor when it was acknowledged.
        let between = (Excluded(reached), Excluded(at));
        let mut missed = self
            .kept
            .range(between)
            .chain(self.acknowledged.range::<Place, _>(between));
        if let Some((missed, _)) = missed.next() {
            return Some(format!("{at:?} came after {reached:?}, without {missed:?}"));
        }
        let acknowledged = self.acknowledged.get(at);
        (acknowledged.is_some_and(|there| *there != number))
            .then(|| format!("{number} came at {at:?}, where {acknowledged:?} was acknowledged"))
    }

    fn report(&mut self, history: &History, index: usize, fault: &str) {
        let from = index.saturating_sub(3);
        let before = &history.moments[from..index.min(history.moments.len())];
        self.faults
            .push(format!("{}: {fault}; before: {before:?}", history.client));
    }
}
