//! What a watcher hears of crowds: counts, now and then.
//!
//! Other events go on meanwhile. So a token has two places in the log: up to where the caller has heard everything else, and
//! up to where what happened in crowds has been told. Whoever comes back with it begins at the latter.

use std::{collections::BTreeMap, fmt, time::Duration};

use tidings_core::Channel;
use tokio::time::Instant;

use super::Heard;
use crate::store::{Event, Position};

/// How many channels are counted before they are told of, whatever the time.
const CHANNELS: usize = 1_000;

/// Where a watcher can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// Up to here everything was heard, but for what was in crowds.
    at: Position,
    /// Up to here that too.
    pub(super) counted: Position,
}

/// How many came and went in a crowd, and how many were there after the last of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) joined: u32,
    pub(crate) left: u32,
    pub(crate) clients: u32,
}

/// What was counted and not told yet.
#[derive(Debug)]
pub(super) struct Crowds {
    token: Token,
    /// What comes up to here was heard before the watcher came back.
    heard: Position,
    /// The last that was taken.
    read: Position,
    interval: Duration,
    counts: BTreeMap<Channel, Count>,
    /// When the counts are to be told. Means nothing while there are none.
    due: Instant,
}

impl Crowds {
    /// Nothing yet, of a watcher that goes on at `token`.
    pub(super) fn after(token: Token, interval: Duration) -> Self {
        Self {
            token,
            heard: token.at,
            read: token.counted,
            interval,
            counts: BTreeMap::new(),
            due: Instant::now(),
        }
    }

    /// Takes the next event of the log. What is to be heard at once: what is in no crowd, and in one if `one_by_one`.
    pub(super) fn take(
        &mut self,
        at: Position,
        event: Event,
        wanted: bool,
        one_by_one: bool,
    ) -> Option<Heard> {
        self.read = at;
        self.token.at = self.token.at.max(at);
        match event.crowd {
            Some(clients) if wanted && !one_by_one => {
                self.count(event, clients);
                None
            }
            _ => {
                if self.counts.is_empty() {
                    self.token.counted = at;
                }
                (wanted && at > self.heard).then_some(Heard::Event(self.token, event))
            }
        }
    }

    fn count(&mut self, event: Event, clients: u32) {
        if self.counts.is_empty() {
            self.due = Instant::now() + self.interval;
        }
        let count = self.counts.entry(event.channel).or_default();
        count.clients = clients;
        let of = if event.joined {
            &mut count.joined
        } else {
            &mut count.left
        };
        *of = of.saturating_add(1);
    }

    /// The counts, when it is time, or they are many.
    pub(super) fn take_due(&mut self) -> Option<Heard> {
        if self.counts.is_empty() || (Instant::now() < self.due && self.counts.len() < CHANNELS) {
            return None;
        }
        let counts = std::mem::take(&mut self.counts);
        self.token.counted = self.read;
        Some(Heard::Counted(self.token, counts.into_iter().collect()))
    }
}

impl Token {
    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (at, counted) = text.split_once('/').unwrap_or((text, text));
        let (at, counted) = (Position::parse(at)?, Position::parse(counted)?);
        (counted <= at).then_some(Self { at, counted })
    }
}

impl From<Position> for Token {
    fn from(at: Position) -> Self {
        Self { at, counted: at }
    }
}

/// `AT`, or `AT/COUNTED` where that differs.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, counted } = self;
        if at == counted {
            write!(f, "{at}")
        } else {
            write!(f, "{at}/{counted}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        for text in ["0-0", "5-7", "5-7/5-6", "12-0/3-9"] {
            assert_eq!(Token::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "5",
            "5-",
            "/5-7",
            "5-7/",
            "5-7/5-8",
            "5-7/5-6/5-5",
            "5-7/x",
            "-1-2",
        ] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }
}
