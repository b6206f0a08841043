//! What a channel carries from a publisher to its subscribers.

use std::{collections::BTreeMap, time::SystemTime};

use bytes::Bytes;

use crate::ClientInfo;

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The publication's number, from 1; 0 is the place before the first.
    pub offset: u64,
    /// Changes when the stream is lost. While nothing was ever published it is a provisional one: see
    /// [`is_provisional`](Self::is_provisional).
    pub epoch: String,
}

impl Position {
    /// What every provisional epoch begins with, and no other.
    pub const PROVISIONAL: char = '~';

    /// Whether this is the position of a stream to which nothing was ever published: nothing is kept for it, so its
    /// epoch says only when, and by which Redis, the position was given. The first publication gives the stream its epoch.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.offset == 0 && self.epoch.starts_with(Self::PROVISIONAL)
    }

    /// Whether a client at this position has missed nothing but what a stream of this epoch has after it. `provisional`: the
    /// epochs that were given shortly before the stream's first publication, separated by commas. A client that was subscribed by
    /// then goes on naming one of them, with higher offsets.
    ///
    /// A provisional epoch is `~WHEN.WHERE`, `WHEN` being a number in hexadecimal, of half days, and what else has to be the same
    /// after a hyphen. `WHERE`, the Redis that gave it, counts once the client has received something: another may have lost
    /// that stream, and begun one of its own.
    #[must_use]
    pub fn is_in(&self, epoch: &str, provisional: &str) -> bool {
        let when = |epoch: &str| epoch.split('.').next().map(str::to_owned);
        match self.epoch.strip_prefix(Self::PROVISIONAL) {
            _ if self.epoch == epoch => true,
            None => false,
            // Nothing was ever published, as far as is known; that is not remembered for ever.
            Some(given) if epoch.starts_with(Self::PROVISIONAL) => {
                self.offset == 0
                    && half_days_between(given, &epoch[1..]).is_some_and(|half_days| half_days <= 1)
            }
            Some(_) => provisional
                .split(',')
                .any(|it| it == self.epoch || (self.offset == 0 && when(it) == when(&self.epoch))),
        }
    }
}

/// How much later one provisional epoch was given than another, where they can be compared.
fn half_days_between(earlier: &str, later: &str) -> Option<u64> {
    let parts = |epoch: &str| {
        let when = epoch.split('.').next()?;
        let (half_day, rest) = when.split_once('-').unwrap_or((when, ""));
        Some((u64::from_str_radix(half_day, 16).ok()?, rest.to_owned()))
    };
    let ((earlier, one), (later, other)) = (parts(earlier)?, parts(later)?);
    if one == other {
        later.checked_sub(earlier)
    } else {
        None
    }
}

/// W3C trace context, carried as text from the publisher to every gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: String,
    /// The `tracestate` header; may be empty.
    pub tracestate: String,
}

/// What the data of a publication is, as checked where it entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Valid JSON on one line (no raw `\n` or `\r`), so that text protocols embed it as it is.
    #[default]
    Json,
    /// Anything else. A client whose protocol speaks only JSON cannot have it.
    Binary,
}

/// Bytes and what they are. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// JSON text, or whatever else it is.
    pub data: Bytes,
    /// What `data` is.
    pub format: Format,
}

impl Payload {
    /// JSON on one line, as [`json::one_line`](crate::json::one_line) leaves it.
    #[must_use]
    pub fn json(data: Bytes) -> Self {
        Self {
            data,
            format: Format::Json,
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The bytes when they are JSON, else none: for where only JSON can stand.
    #[must_use]
    pub fn into_json(self) -> Bytes {
        match self.format {
            Format::Json => self.data,
            Format::Binary => Bytes::new(),
        }
    }
}

/// One message in a channel. The data is opaque from here on: nobody downstream of fanout parses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The event's id; empty for what a client published.
    pub id: String,
    /// The event's type; empty for what a client published.
    pub kind: String,
    /// What clients get.
    pub data: Bytes,
    /// What `data` is.
    pub format: Format,
    /// Labels that subscribers can see and filter by.
    pub tags: BTreeMap<String, String>,
    /// The publisher, when it is a client.
    pub info: Option<ClientInfo>,
    /// Its place in the channel's stream, once the broker has given it one; `None` where there is no stream.
    pub position: Option<Position>,
    /// The offset that it comes after, where that is not the one before its own: at a seam, where the stream leaves out
    /// the offsets that may have been given before.
    pub seam: Option<u64>,
    /// When it was accepted, to the millisecond.
    pub time: SystemTime,
    /// The publish's trace, when it is traced.
    pub trace: Option<TraceContext>,
}

impl Publication {
    /// A publication of `data` with everything else empty, accepted at `time`.
    #[must_use]
    pub fn new(data: Bytes, format: Format, time: SystemTime) -> Self {
        Self {
            id: String::new(),
            kind: String::new(),
            data,
            format,
            tags: BTreeMap::new(),
            info: None,
            position: None,
            seam: None,
            time,
            trace: None,
        }
    }

    /// The offset of the publication that this one comes after in its stream; `None` where there is no stream.
    #[must_use]
    pub fn follows(&self) -> Option<u64> {
        let before = self.position.as_ref()?.offset.saturating_sub(1);
        Some(self.seam.unwrap_or(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(offset: u64, given: &str, epoch: &str, provisional: &str) -> bool {
        let epoch_of_it = given.to_owned();
        let position = Position {
            offset,
            epoch: epoch_of_it,
        };
        position.is_in(epoch, provisional)
    }

    #[test]
    fn a_position_is_in_the_stream_of_its_epoch() {
        assert!(is_in(7, "e", "e", ""));
        assert!(!is_in(7, "e", "f", "") && !is_in(0, "e", "~41.a", ""));
    }

    #[test]
    fn a_provisional_position_is_in_a_stream_without_a_publication_for_a_day() {
        assert!(is_in(0, "~41.a", "~41.b", "") && is_in(0, "~41.a", "~42.b", ""));
        assert!(!is_in(0, "~41.a", "~43.a", "") && !is_in(0, "~42.a", "~41.a", ""));
        assert!(!is_in(3, "~41.a", "~41.b", ""), "what it received is lost");
        assert!(is_in(0, "~1-one", "~2-one", "") && !is_in(0, "~1-one", "~1-other", ""));
    }

    #[test]
    fn a_provisional_position_is_in_the_stream_that_was_published_to_after_it_was_given() {
        let born = "~42.a,~41.a";
        for given in ["~42.a", "~41.a"] {
            assert!(is_in(0, given, "e", born) && is_in(9, given, "e", born));
        }
        assert!(
            is_in(0, "~41.b", "e", born),
            "nothing was received by another Redis"
        );
        assert!(
            !is_in(9, "~41.b", "e", born),
            "what another Redis gave may be lost"
        );
        assert!(!is_in(0, "~40.a", "e", born) && !is_in(0, "~41.a", "e", ""));
    }
}
