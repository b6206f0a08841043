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
    code(error).is_some_and(|code| BUSY.contains(&code))
}

/// Redis' word for what is wrong. Before 7.0 that of a command in a script stands in the text: "ERR Error running script (call to
/// …): @user_script:1: @user_script: 1: -OOM command not allowed …".
fn code(error: &RedisError) -> Option<&str> {
    let detail = error
        .detail()
        .filter(|detail| detail.starts_with("Error running script"));
    let inner = detail.and_then(|detail| detail.split_once(": -"));
    inner.map_or_else(|| error.code(), |(_, said)| said.split(' ').next())
}

/// Whether the same command can succeed later, because its refusal is not about it: Redis was not reached, or said that it is
/// loading, failing over, a replica now, or [busy](is_busy).
pub(crate) fn is_temporary(error: &RedisError) -> bool {
    match error.kind() {
        _ if is_busy(error) || code(error) == Some("READONLY") => true,
        ErrorKind::Io => true,
        ErrorKind::AuthenticationFailed => false,
        _ => !matches!(error.retry_method(), RetryMethod::NoRetry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(said: &str) -> RedisError {
        let value = ::redis::parse_redis_value(format!("-{said}\r\n").as_bytes()).expect("an error in RESP");
        value.extract_error().expect_err("it is one")
    }

    #[test]
    fn what_is_refused_to_all_for_a_while_is_temporary_also_in_a_script_of_redis_6() {
        let script = "ERR Error running script (call to f_e0): @user_script:1: @user_script: 1: -";
        for said in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOREPLICAS Not enough good replicas to write.",
        ] {
            assert!(is_busy(&error(said)), "{said}");
            assert!(is_temporary(&error(&format!("{script}{said}"))), "{said}");
        }
        let readonly = format!("{script}READONLY You can't write against a read only replica.");
        assert!(is_temporary(&error(&readonly)) && !is_busy(&error(&readonly)));
        for said in ["NOPERM no permission", "WRONGTYPE of key", "ERR unknown command"] {
            assert!(!is_temporary(&error(said)), "{said}");
            assert!(!is_temporary(&error(&format!("{script}{said}"))), "{said}");
        }
    }
}
