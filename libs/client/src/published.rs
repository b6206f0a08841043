//! What became of an event.

use tidings_proto::fanout as proto;
use tonic::Code;

use crate::Error;

/// An event that was published, at least to some of its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// All channels had it already.
    pub duplicate: bool,
    /// Each channel, in order. None: no route matches the event.
    pub channels: Vec<Channel>,
}

/// What one channel did with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Its place in the channel's stream, from 1, and the stream's epoch; `None` where nothing is kept.
    pub position: Option<(u64, String)>,
    /// It had the event already.
    pub duplicate: bool,
    /// Why it did not get the event; publishing again with the same id publishes to those that failed.
    pub error: Option<(Code, String)>,
}

impl Published {
    pub(crate) fn of(response: proto::PublishResponse) -> Result<Self, Error> {
        match response.error {
            Some(error) => Err(Error::Refused {
                code: code(error.code),
                message: error.message,
            }),
            None => Ok(Self {
                id: response.event_id,
                duplicate: response.duplicate,
                channels: response.results.into_iter().map(Channel::of).collect(),
            }),
        }
    }
}

impl Channel {
    fn of(result: proto::ChannelResult) -> Self {
        Self {
            name: result.channel,
            position: (result.offset > 0).then_some((result.offset, result.epoch)),
            duplicate: result.duplicate,
            error: result.error.map(|error| (code(error.code), error.message)),
        }
    }
}

pub(crate) fn code(code: u32) -> Code {
    Code::from(i32::try_from(code).unwrap_or(i32::MAX))
}
