//! What a channel carries from a publisher to its subscribers.

use std::{collections::BTreeMap, time::SystemTime};

use bytes::Bytes;

use crate::ClientInfo;

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The publication's number, from 1; 0 is the place before the first.
    pub offset: u64,
    /// Changes when the stream is lost.
    pub epoch: String,
}

/// W3C trace context, carried as text from the publisher to every gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: String,
    /// The `tracestate` header; may be empty.
    pub tracestate: String,
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
    /// Labels that subscribers can see and filter by.
    pub tags: BTreeMap<String, String>,
    /// The publisher, when it is a client.
    pub info: Option<ClientInfo>,
    /// Its place in the channel's stream, once the broker has given it one; `None` where there is no stream.
    pub position: Option<Position>,
    /// When it was accepted, to the millisecond.
    pub time: SystemTime,
    /// The publish's trace, when it is traced.
    pub trace: Option<TraceContext>,
}

impl Publication {
    /// A publication of `data` with everything else empty, accepted at `time`.
    #[must_use]
    pub fn new(data: Bytes, time: SystemTime) -> Self {
        Self {
            id: String::new(),
            kind: String::new(),
            data,
            tags: BTreeMap::new(),
            info: None,
            position: None,
            time,
            trace: None,
        }
    }
}
