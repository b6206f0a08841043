//! Reasons that end a connection, and what the client does about each.
//!
//! The number is the WebSocket close code. 3000 to 3499 and 4000 to 4499: the client comes back with backoff.
//! 3500 to 3999 and 4500 to 4999: it stays away, because coming back would end the same way.

use std::sync::Arc;

/// Why the server ends a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client, or the network, ended it. Nothing is sent.
    Gone,
    /// This node stops; others go on.
    Shutdown,
    /// Something behind the gateway failed.
    Internal,
    /// The token ran out and was not renewed.
    Expired,
    /// The token of a subscription that the client has without asking for it ran out and was not renewed.
    SubscriptionExpired,
    /// More waited for the client than the outbox may hold.
    Slow,
    /// The client may have missed something in a channel that it has without asking for it.
    InsufficientState,
    /// A backend asks the client to come back, most likely to another node.
    ForceReconnect,
    /// The client did not answer a ping in time.
    NoPong,
    /// The client floods.
    TooManyRequests,
    /// The token is not one of ours.
    InvalidToken,
    /// The client does not speak the protocol, or shows no credentials where some are required.
    BadRequest,
    /// A backend wants the client to stay away.
    ForceDisconnect,
    /// The client did not say who it is in time.
    Stale,
    /// The user has as many connections as one user may.
    ConnectionLimit,
    /// The client would hear more channels than it may.
    ChannelLimit,
    /// A publication cannot be written in the client's format.
    InappropriateProtocol,
    /// The client may not do this.
    PermissionDenied,
    /// The server does not offer this.
    NotAvailable,
    /// The client broke the rules of RFC 6455: 1002, 1007 or 1009.
    WebSocket(u16),
    /// A backend's own reason.
    Application {
        /// 4000 to 4999, or one of the protocol's.
        code: u16,
        /// For people, and for the application.
        text: Arc<str>,
    },
}

impl CloseReason {
    /// The close code.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Gone => 1000,
            Self::Shutdown => 3001,
            Self::Internal => 3004,
            Self::Expired => 3005,
            Self::SubscriptionExpired => 3006,
            Self::Slow => 3008,
            Self::InsufficientState => 3010,
            Self::ForceReconnect => 3011,
            Self::NoPong => 3012,
            Self::TooManyRequests => 3013,
            Self::InvalidToken => 3500,
            Self::BadRequest => 3501,
            Self::Stale => 3502,
            Self::ForceDisconnect => 3503,
            Self::ConnectionLimit => 3504,
            Self::ChannelLimit => 3505,
            Self::InappropriateProtocol => 3506,
            Self::PermissionDenied => 3507,
            Self::NotAvailable => 3508,
            Self::WebSocket(code) | Self::Application { code, .. } => *code,
        }
    }

    /// The text beside the code; never valid JSON, which an old client would take for instructions.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Gone => "connection closed",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal server error",
            Self::Expired => "connection expired",
            Self::SubscriptionExpired => "subscription expired",
            Self::Slow => "slow",
            Self::InsufficientState => "insufficient state",
            Self::ForceReconnect => "force reconnect",
            Self::NoPong => "no pong",
            Self::TooManyRequests => "too many requests",
            Self::InvalidToken => "invalid token",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force disconnect",
            Self::ConnectionLimit => "connection limit",
            Self::ChannelLimit => "channel limit",
            Self::InappropriateProtocol => "inappropriate protocol",
            Self::PermissionDenied => "permission denied",
            Self::NotAvailable => "not available",
            Self::WebSocket(1007) => "invalid UTF-8",
            Self::WebSocket(1009) => "message too big",
            Self::WebSocket(_) => "protocol error",
            Self::Application { text, .. } => text,
        }
    }

    /// Whether what waits for the client is still sent before the close. For a slow client it is what made it
    /// slow; a client that is gone hears nothing.
    #[must_use]
    pub fn flushes(&self) -> bool {
        !matches!(self, Self::Gone | Self::Slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_protocols_code_and_fits_into_a_close_frame() {
        let application = CloseReason::Application {
            code: 4001,
            text: "moved".into(),
        };
        for (reason, code) in [
            (CloseReason::Shutdown, 3001),
            (CloseReason::Internal, 3004),
            (CloseReason::Expired, 3005),
            (CloseReason::SubscriptionExpired, 3006),
            (CloseReason::Slow, 3008),
            (CloseReason::InsufficientState, 3010),
            (CloseReason::ForceReconnect, 3011),
            (CloseReason::NoPong, 3012),
            (CloseReason::TooManyRequests, 3013),
            (CloseReason::InvalidToken, 3500),
            (CloseReason::BadRequest, 3501),
            (CloseReason::Stale, 3502),
            (CloseReason::ForceDisconnect, 3503),
            (CloseReason::ConnectionLimit, 3504),
            (CloseReason::ChannelLimit, 3505),
            (CloseReason::InappropriateProtocol, 3506),
            (CloseReason::PermissionDenied, 3507),
            (CloseReason::NotAvailable, 3508),
            (CloseReason::WebSocket(1009), 1009),
            (application, 4001),
        ] {
            assert_eq!(reason.code(), code, "{reason:?}");
            // RFC 6455 section 5.5: 125 bytes, two of which are the code.
            assert!(
                !reason.text().is_empty() && reason.text().len() <= 123,
                "{reason:?}"
            );
        }
    }
}
