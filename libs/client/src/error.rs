//! What can go wrong with a publish, by what a caller does about it.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why an event was not published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("{url:?} is no address of a backends' door: expected http://HOST:9000 or https://HOST")]
    Url {
        /// What was given.
        url: String,
    },
    /// Certificates are of no use without TLS.
    #[error("{url} is reached without TLS, so certificates are of no use: expected https://")]
    Clear {
        /// The address.
        url: String,
    },
    /// TLS cannot be used as asked for.
    #[error("TLS cannot be used: {0}")]
    Tls(#[source] tonic::transport::Error),
    /// The API key cannot be sent.
    #[error("an API key has visible ASCII characters only")]
    Key,
    /// The data has no form in JSON.
    #[error("the data cannot be written as JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// The call failed as a whole, for the last time.
    #[error("{}: {}", .0.code(), .0.message())]
    Call(#[source] Box<Status>),
    /// The event was refused among others.
    #[error("{code}: {message}")]
    Refused {
        /// A `google.rpc.Code`.
        code: Code,
        /// What is wrong, and what to do.
        message: String,
    },
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

/// Whether a call with this outcome can succeed later, with nothing changed.
pub(crate) fn passes(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::Aborted)
}

/// After which time to come back, where the server says so.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Whether to try again: what is too large stays so, though it has the code of what passes.
pub(crate) fn is_temporary(status: &Status) -> bool {
    passes(status.code()) && (status.code() != Code::ResourceExhausted || retry_after(status).is_some())
}
