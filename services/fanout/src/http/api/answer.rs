//! What the API answers: a result, or an error with a number.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tonic::{Code, Status};

/// The result of a method in JSON, or why there is none.
pub(super) type Answer = Result<Box<RawValue>, Error>;

/// Why a method did not do what it was asked for. The numbers are those of the ecosystem's protocols.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Error {
    pub(super) code: u32,
    pub(super) message: String,
}

/// What a number means, in the words that client libraries know, and as a status of HTTP.
const CODES: [(u32, &str, StatusCode); 9] = [
    (100, "internal server error", StatusCode::INTERNAL_SERVER_ERROR),
    (102, "unknown channel", StatusCode::NOT_FOUND),
    (103, "permission denied", StatusCode::FORBIDDEN),
    (104, "method not found", StatusCode::NOT_FOUND),
    (106, "limit exceeded", StatusCode::PAYLOAD_TOO_LARGE),
    (107, "bad request", StatusCode::BAD_REQUEST),
    (108, "not available", StatusCode::BAD_REQUEST),
    (111, "too many requests", StatusCode::TOO_MANY_REQUESTS),
    (112, "unrecoverable position", StatusCode::RANGE_NOT_SATISFIABLE),
];

impl Error {
    fn new(code: u32, why: impl std::fmt::Display) -> Self {
        let (_, name, _) = CODES
            .iter()
            .find(|(known, ..)| *known == code)
            .unwrap_or(&CODES[0]);
        Self {
            code,
            message: format!("{name}: {why}"),
        }
    }

    pub(super) fn internal(why: impl std::fmt::Display) -> Self {
        Self::new(100, why)
    }

    pub(super) fn unknown_channel(why: impl std::fmt::Display) -> Self {
        Self::new(102, why)
    }

    pub(super) fn denied(why: impl std::fmt::Display) -> Self {
        Self::new(103, why)
    }

    pub(super) fn method_not_found(why: impl std::fmt::Display) -> Self {
        Self::new(104, why)
    }

    pub(super) fn limit(why: impl std::fmt::Display) -> Self {
        Self::new(106, why)
    }

    pub(super) fn bad_request(why: impl std::fmt::Display) -> Self {
        Self::new(107, why)
    }

    pub(super) fn not_available(why: impl std::fmt::Display) -> Self {
        Self::new(108, why)
    }

    pub(super) fn unrecoverable(why: impl std::fmt::Display) -> Self {
        Self::new(112, why)
    }

    pub(super) fn status(&self) -> StatusCode {
        let known = CODES.iter().find(|(code, ..)| *code == self.code);
        known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(.., status)| *status)
    }
}

impl From<Status> for Error {
    fn from(refused: Status) -> Self {
        let code = match refused.code() {
            Code::InvalidArgument => 107,
            Code::NotFound => 102,
            Code::PermissionDenied => 103,
            Code::ResourceExhausted => 111,
            Code::Unimplemented => 108,
            _ => 100,
        };
        Self::new(code, refused.message())
    }
}

/// A result of ours as JSON.
pub(super) fn result(of: &impl Serialize) -> Answer {
    to_raw_value(of).map_err(|error| Error::internal(format!("the answer cannot be written: {error}")))
}

/// `{}`: done, and there is nothing to say.
pub(super) fn done() -> Answer {
    result(&serde_json::json!({}))
}

/// An answer with all around it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Envelope {
    Result(Box<RawValue>),
    Error(Error),
}

/// The answer to a request. An error is HTTP's, too, `in_transport`.
pub(super) fn envelope(answer: Answer, in_transport: bool) -> Response {
    match answer {
        Ok(result) => Json(Envelope::Result(result)).into_response(),
        Err(error) if in_transport => (error.status(), Json(error)).into_response(),
        Err(error) => Json(Envelope::Error(error)).into_response(),
    }
}

/// JSON that has been written already.
pub(super) fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
