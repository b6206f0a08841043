//! What a publish asks of a channel beyond reaching its listeners, and what a channel's stream answers.
//!
//! A stream is what a channel keeps of its publications: numbered from 1, under an epoch that changes when the stream is
//! lost, or has lost its newest publications. There are no holes but at offset jumps, where the bus may have lost something
//! that nobody knows of. A channel has one from the first publication to a [`Target`] with a [`Retention`] on.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use rand::{Rng, distr::Alphanumeric};
use tidings_core::{Channel, Position, Publication, Retention};
use tokio::time::Instant;

/// How long the answer of an idempotent publish is remembered where nobody says otherwise.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);

/// How long a stream's position is remembered, at the least, after its last entry was dropped or it was last asked for.
/// After that the stream begins anew, with another epoch.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest time that is meant as such; more is as much.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// One channel of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where to.
    pub channel: Channel,
    /// Keep the publication in the channel's stream; `None`: only who listens now hears of it.
    pub retention: Option<Retention>,
    /// Do it once, however often it is asked for.
    pub once: Option<Once>,
    /// Do it only if nothing as new as this is there. Of no account where nothing is kept.
    pub version: Option<Version>,
}

/// How new what a publication tells is, for publishers that may overtake each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Grows with each change. The stream remembers the highest.
    pub number: u64,
    /// In which row of numbers; another one begins anew. It is kept as it is; who takes it from outside bounds its length.
    pub epoch: Arc<str>,
}

/// The name of one publish to one channel. Another publish to that channel with the same key within the window does
/// nothing and gets the first one's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Unique within the channel for the window. It is kept as it is; who takes it from outside bounds its length.
    pub key: Arc<str>,
    /// How long the first answer is remembered.
    pub window: Duration,
}

/// What became of a publish to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The publication's place in the stream; `None` where it is not kept.
    pub position: Option<Position>,
    /// It had been published before, and this is the answer from then; or something as new was, and this is where the stream
    /// is. Nothing was sent now.
    pub duplicate: bool,
}

/// Which of a stream's publications to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Query {
    /// Start next to this offset, which itself is left out: after it, or before it in reverse. `None`: at the oldest,
    /// or in reverse the newest.
    pub since: Option<u64>,
    /// The most publications; 0: only the position is asked for.
    pub limit: u32,
    /// The most bytes of publications, as they are kept: as many are read as fit, one at the least. `None`: no bound but
    /// `limit`.
    pub bytes: Option<NonZeroU32>,
    /// Newest first.
    pub reverse: bool,
}

/// A part of a stream. It has no holes: each publication says what it [follows](Publication::follows).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// In the order asked for, each with its position.
    pub publications: Vec<Publication>,
    /// The position of the newest publication, at the same moment; offset 0 when there never was one.
    pub top: Position,
    /// The provisional epochs that were given for this stream shortly before its first publication, separated by commas:
    /// positions with one of them are positions in this stream.
    pub provisional: String,
}

/// A position that this process received or was acknowledged: evidence, should Redis lose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Where the stream was.
    pub position: Position,
    /// Since when this process knows it.
    pub at: Instant,
}

impl From<Position> for Watermark {
    /// Known since now.
    fn from(position: Position) -> Self {
        Self {
            position,
            at: Instant::now(),
        }
    }
}

impl History {
    /// Whether a position was given in the stream that was read: it has its epoch, or the one that was given before the first
    /// publication, which clients keep while they receive.
    #[must_use]
    pub fn is_of(&self, position: &Position) -> bool {
        position.is_in(&self.top.epoch, &self.provisional)
    }
}

impl From<Channel> for Target {
    /// Nothing is kept.
    fn from(channel: Channel) -> Self {
        Self {
            channel,
            retention: None,
            once: None,
            version: None,
        }
    }
}

impl Once {
    /// A key for the usual [`WINDOW`].
    #[must_use]
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self {
            key: key.into(),
            window: WINDOW,
        }
    }
}

/// The name of a stream's new life: 8 letters and digits that it never had before.
pub(crate) fn new_epoch() -> String {
    let letters = rand::rng().sample_iter(Alphanumeric).take(8);
    letters.map(char::from).collect()
}

/// A time that can be added to any clock.
pub(crate) fn bounded(time: Duration) -> Duration {
    time.min(LONGEST)
}
