//! Errors that fail one command and leave the connection open.
//!
//! Codes 0 to 399 are the protocol's; 400 to 1999 belong to applications. A client retries by itself what is
//! `temporary`.

use std::borrow::Cow;

/// What a client is told when a command fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The protocol's number.
    pub code: u32,
    /// For the person who reads the client's log.
    pub message: Cow<'static, str>,
    /// Trying again may help.
    pub temporary: bool,
}

impl Error {
    /// Something behind the gateway is away.
    pub const INTERNAL: Self = Self::temporary(100, "internal server error");
    /// The client is not known.
    pub const UNAUTHORIZED: Self = Self::permanent(101, "unauthorized");
    /// The channel's namespace is not configured.
    pub const UNKNOWN_CHANNEL: Self = Self::permanent(102, "unknown channel");
    /// The client may not do this here.
    pub const PERMISSION_DENIED: Self = Self::permanent(103, "permission denied");
    /// Nobody answers this method.
    pub const METHOD_NOT_FOUND: Self = Self::permanent(104, "method not found");
    /// The client has this subscription.
    pub const ALREADY_SUBSCRIBED: Self = Self::permanent(105, "already subscribed");
    /// Too many channels.
    pub const LIMIT_EXCEEDED: Self = Self::permanent(106, "limit exceeded");
    /// The command makes no sense.
    pub const BAD_REQUEST: Self = Self::permanent(107, "bad request");
    /// The channel or the server does not offer this.
    pub const NOT_AVAILABLE: Self = Self::permanent(108, "not available");
    /// The token was good until it ran out: get a new one.
    pub const TOKEN_EXPIRED: Self = Self::permanent(109, "token expired");
    /// What was to be renewed is past.
    pub const EXPIRED: Self = Self::permanent(110, "expired");
    /// Too many commands.
    pub const TOO_MANY_REQUESTS: Self = Self::temporary(111, "too many requests");

    /// The stream that the position is of was lost.
    pub const UNRECOVERABLE_POSITION: Self = Self::permanent(112, "unrecoverable position");

    const fn permanent(code: u32, message: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(message),
            temporary: false,
        }
    }

    const fn temporary(code: u32, message: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(message),
            temporary: true,
        }
    }

    /// The same error, saying what exactly was wrong.
    #[must_use]
    pub fn because(&self, why: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{}: {why}", self.message).into(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_protocols_code_and_says_whether_to_try_again() {
        for (error, code, temporary) in [
            (Error::INTERNAL, 100, true),
            (Error::UNAUTHORIZED, 101, false),
            (Error::UNKNOWN_CHANNEL, 102, false),
            (Error::PERMISSION_DENIED, 103, false),
            (Error::METHOD_NOT_FOUND, 104, false),
            (Error::ALREADY_SUBSCRIBED, 105, false),
            (Error::LIMIT_EXCEEDED, 106, false),
            (Error::BAD_REQUEST, 107, false),
            (Error::NOT_AVAILABLE, 108, false),
            (Error::TOKEN_EXPIRED, 109, false),
            (Error::EXPIRED, 110, false),
            (Error::TOO_MANY_REQUESTS, 111, true),
            (Error::UNRECOVERABLE_POSITION, 112, false),
        ] {
            assert_eq!((error.code, error.temporary), (code, temporary), "{error:?}");
            let precise = error.because("a reason");
            assert_eq!((precise.code, precise.temporary), (code, temporary));
            assert!(precise.message.ends_with(": a reason"), "{precise:?}");
        }
    }
}
