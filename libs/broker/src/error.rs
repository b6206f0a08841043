//! What can go wrong with the bus, by what a caller does about it.

use std::{path::PathBuf, sync::Arc};

use ::redis::{ErrorKind, ParsingError, RedisError, RetryMethod};
use tidings_core::Channel;

use crate::redis::url;

/// Why the bus did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The bus cannot be reached, did not answer in time, or asks to come back later. What was asked may or may not
    /// have happened. Try again later: the broker reconnects by itself.
    #[error("{reason}")]
    Away {
        /// Which peer, its password masked, and what is wrong with it.
        reason: String,
    },
    /// The bus answered, and said no: a permission, a password. The same call fails again until somebody changes something.
    #[error("{peer} refused: {answer}")]
    Refused {
        /// Which peer, its password masked.
        peer: Arc<str>,
        /// Its answer, without what it repeats of our words.
        answer: String,
    },
    /// The bus answered something else than was asked: what is kept there is not of our making.
    #[error(
        "{peer} answered what cannot be understood: {why}; does another program, or another version of this one, \
        use the same prefix?"
    )]
    Answer {
        /// Which peer, its password masked.
        peer: Arc<str>,
        /// What is wrong with it.
        why: ParsingError,
    },
    /// An earlier publication of the same caller to the channel failed, so this one was not sent: it would have overtaken
    /// that one. Publish them again in order, beginning with the one that failed.
    #[error(
        "not published to {channel}: an earlier publication of the same caller to it failed; publish that one again first"
    )]
    Aborted {
        /// The channel.
        channel: Channel,
    },
    /// Too much to tell nodes at once.
    #[error("a message to nodes is {size} bytes long, at most {max} are allowed", max = crate::CONTROL)]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// The address is none.
    #[error(transparent)]
    Url(#[from] url::Error),
    /// A setting cannot be meant.
    #[error("{key} {why}")]
    Setting {
        /// The setting's key.
        key: &'static str,
        /// What is wrong with its value.
        why: &'static str,
    },
    /// A file that is needed cannot be read.
    #[error("{key}: cannot read {}: {why}", path.display())]
    File {
        /// The setting's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Arc<std::io::Error>,
    },
    /// The system has no thread for the bus.
    #[error("cannot start the thread that reads the bus: {0}")]
    Thread(#[source] Arc<std::io::Error>),
}

impl Error {
    pub(crate) fn away(peer: &str, why: impl std::fmt::Display) -> Self {
        Self::Away {
            reason: format!("cannot use {peer}: {why}"),
        }
    }
}

/// By which Redis refuses writes to anybody for a while, and is the right one to ask: too few replicas (as after a failover
/// where `min-replicas-to-write` is set), a snapshot that cannot be written, a script that runs for long, no memory left.
const BUSY: [&str; 4] = ["NOREPLICAS", "MISCONF", "BUSY", "OOM"];

/// Whether Redis refuses writes to anybody for a while.
pub(crate) fn is_busy(error: &RedisError) -> bool {
    error.code().is_some_and(|code| BUSY.contains(&code))
}

/// Whether the same command can succeed later, because its refusal is not about it: Redis was not reached, or said that it is
/// loading, failing over, a replica now, or [busy](is_busy).
pub(crate) fn is_temporary(error: &RedisError) -> bool {
    match error.kind() {
        _ if is_busy(error) => true,
        ErrorKind::Io => true,
        ErrorKind::AuthenticationFailed => false,
        _ => !matches!(error.retry_method(), RetryMethod::NoRetry),
    }
}
