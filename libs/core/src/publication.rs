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
    /// epoch says only when the position was given. The first publication gives the stream its epoch.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.offset == 0 && self.epoch.starts_with(Self::PROVISIONAL)
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
