//! The newest joins and leaves.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use super::super::{Event, Position};

#[derive(Debug)]
pub(super) struct Log {
    /// When it began, so that a position in another process' log is none in this.
    began_ms: u64,
    len: usize,
    events: VecDeque<Event>,
    /// The number of the last event.
    last: u64,
}

impl Log {
    pub(super) fn new(len: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            began_ms: now.as_millis().try_into().unwrap_or(u64::MAX),
            len,
            events: VecDeque::new(),
            last: 0,
        }
    }

    pub(super) const fn is_kept(&self) -> bool {
        self.len > 0
    }

    pub(super) fn push(&mut self, event: Event) {
        self.last += 1;
        self.events.push_back(event);
        if self.events.len() > self.len {
            self.events.pop_front();
        }
    }

    pub(super) const fn end(&self) -> Position {
        self.at(self.last)
    }

    const fn at(&self, seq: u64) -> Position {
        Position {
            ms: self.began_ms,
            seq,
        }
    }

    pub(super) fn after(&self, after: Position, limit: usize) -> Option<Vec<(Position, Event)>> {
        let before_all = self.last - self.events.len() as u64;
        if after.ms != self.began_ms || !(before_all..=self.last).contains(&after.seq) {
            return None;
        }
        let skip = usize::try_from(after.seq - before_all).ok()?;
        let events = (after.seq + 1..).zip(self.events.iter().skip(skip).take(limit));
        Some(events.map(|(seq, event)| (self.at(seq), event.clone())).collect())
    }
}
