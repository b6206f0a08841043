//! What can go wrong between a question and its answer. It is logged, and the client hears only that it may try again.

use std::{error, fmt, time::Duration};

use http::StatusCode;

/// Why there is no answer. It holds nothing that the client or the backend said: that may be secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// More wait for the backend than should.
    #[error("{0} questions are under way or wait for their turn, which is all that may")]
    Busy(usize),
    /// It takes too long.
    #[error("no answer within {0:?}")]
    TooSlow(Duration),
    /// Nobody is there, or they stopped.
    #[error("{0}")]
    Away(String),
    /// It is there, and has something else to say.
    #[error("the answer is {0}, expected 200 OK")]
    Status(StatusCode),
    /// The same in gRPC.
    #[error("the call ended with {0}")]
    Call(&'static str),
    /// The answer is too long.
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
    /// The answer is something else.
    #[error("the answer is not the JSON that is expected: line {line}, column {column}")]
    NoJson {
        /// Where it goes wrong.
        line: usize,
        /// Likewise.
        column: usize,
    },
    /// The answer says neither yes nor no.
    #[error("the answer has no `result`, no `error` and no `disconnect`")]
    Empty,
    /// Something in it cannot be meant.
    #[error("the answer's `{field}` {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The question cannot be written.
    #[error("the question cannot be written as JSON: {0}")]
    Question(#[source] serde_json::Error),
}

impl Failure {
    /// What a network library says, which is little in the first line.
    pub(super) fn away(error: &(dyn error::Error + 'static)) -> Self {
        Self::Away(Causes(error).to_string())
    }
}

struct Causes<'a>(&'a (dyn error::Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
