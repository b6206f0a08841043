//! The Centrifuge client protocol in JSON, as far as a listener speaks it: commands out, replies and pushes in.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What answers a ping: an empty command.
pub(super) const PONG: &str = "{}";

/// One command of the client.
#[derive(Debug, Default, Serialize)]
pub(super) struct Command<'a> {
    pub(super) id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect: Option<Connect<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subscribe: Option<Subscribe<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Connect<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Subscribe<'a> {
    pub(super) channel: &'a str,
    /// Granted where the channel is a stream, and not held against who asks where it is none.
    pub(super) recoverable: bool,
    #[serde(flatten)]
    pub(super) recover: Option<Recover<'a>>,
}

/// Where it was.
#[derive(Debug, Serialize)]
pub(super) struct Recover<'a> {
    pub(super) recover: bool,
    pub(super) offset: u64,
    pub(super) epoch: &'a str,
}

impl Command<'_> {
    /// One line; several joined by `\n` are one frame.
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON")
    }
}

/// One line from the server. All empty: a ping.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reply<'a> {
    pub(super) id: u32,
    pub(super) error: Option<Error>,
    #[serde(borrow)]
    pub(super) push: Option<&'a RawValue>,
    pub(super) connect: Option<Connected>,
    #[serde(borrow)]
    pub(super) subscribe: Option<Subscribed<'a>>,
}

impl Reply<'_> {
    pub(super) fn is_ping(&self) -> bool {
        self.id == 0 && self.push.is_none()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Error {
    pub(super) code: u32,
    pub(super) message: String,
    pub(super) temporary: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connected {
    pub(super) client: String,
    /// Seconds between pings; 0: there are none.
    pub(super) ping: u32,
    /// Pings are to be answered.
    pub(super) pong: bool,
}

/// What a listener is told of a subscription.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscribed<'a> {
    pub(super) recoverable: bool,
    pub(super) epoch: String,
    pub(super) offset: u64,
    pub(super) was_recovering: bool,
    pub(super) recovered: bool,
    #[serde(borrow)]
    pub(super) publications: Vec<&'a RawValue>,
}

/// What the server says unasked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Push<'a> {
    pub(super) channel: String,
    #[serde(borrow, rename = "pub")]
    pub(super) publication: Option<Publication<'a>>,
    pub(super) unsubscribe: Option<Ended>,
    pub(super) disconnect: Option<Ended>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Publication<'a> {
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
    /// 0: the channel keeps none.
    #[serde(default)]
    pub(super) offset: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ended {
    pub(super) code: u32,
    pub(super) reason: String,
}
