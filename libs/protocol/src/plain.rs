//! The plain protocol: each message is one publication's bare data, in both directions.
//!
//! What the Centrifuge protocol says in commands is in the URL here: the channel in the path, the token in the
//! query. Nothing is replied; what fails ends the connection with the code of [`close_for`]. Over a WebSocket data is all
//! there is; [`sse`] gives it a place in its stream and a type.

pub mod sse;

use bytes::Bytes;
use tidings_core::Position;

use crate::{CloseReason, Command, Error, Request, command, data};

/// What a client that asks for `/ws/{channel}?token=…` means.
#[must_use]
pub fn opening(channel: String, token: String) -> [Command; 2] {
    let subscribe = command::Subscribe {
        channel,
        ..Default::default()
    };
    commands(token, subscribe)
}

/// What a client that asks for `/sse/{channel}` means, if it can: to be told when it misses something, and to go on
/// after `since`, the id of the last event that it has (see [`sse::last_event_id`]).
#[must_use]
pub fn resuming(channel: String, token: String, since: Option<Position>) -> [Command; 2] {
    let subscribe = command::Subscribe {
        channel,
        recover: since,
        positioned: true,
        recoverable: true,
        ..Default::default()
    };
    commands(token, subscribe)
}

fn commands(token: String, subscribe: command::Subscribe) -> [Command; 2] {
    let connect = command::Connect {
        token,
        ..Default::default()
    };
    [
        Command {
            id: 1,
            request: Request::Connect(Box::new(connect)),
        },
        Command {
            id: 2,
            request: Request::Subscribe(Box::new(subscribe)),
        },
    ]
}

/// What a client means that sends a message: it publishes to its channel.
#[must_use]
pub fn publish(channel: String, text: Bytes) -> Command {
    Command {
        id: 3,
        request: Request::Publish {
            channel,
            payload: data::check(text),
        },
    }
}

/// How a connection ends where no error can be replied.
#[must_use]
pub fn close_for(error: &Error) -> CloseReason {
    match error.code {
        102 | 105 | 106 | 107 => CloseReason::BadRequest,
        103 => CloseReason::PermissionDenied,
        108 => CloseReason::NotAvailable,
        109 | 110 => CloseReason::Expired,
        111 => CloseReason::TooManyRequests,
        _ if error.temporary => CloseReason::Internal,
        // Whatever it is, the client need not come back with it.
        _ => CloseReason::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::Format;

    use super::*;

    #[test]
    fn a_message_is_json_when_it_can_be_and_anything_else_when_not() {
        let format = |text: &'static str| match publish("c".into(), text.into()).request {
            Request::Publish { payload, .. } => (payload.data, payload.format),
            other => panic!("{other:?}"),
        };
        assert_eq!(format("{\"a\":\n1}"), ("{\"a\": 1}".into(), Format::Json));
        assert_eq!(format("hello\nworld"), ("hello\nworld".into(), Format::Binary));
    }

    #[test]
    fn only_what_is_temporary_brings_a_client_back() {
        let application = |temporary| Error {
            code: 1000,
            message: "of a backend".into(),
            temporary,
        };
        assert_eq!(close_for(&application(true)), CloseReason::Internal);
        assert_eq!(close_for(&Error::INTERNAL), CloseReason::Internal);
        for error in [application(false), Error::UNAUTHORIZED, Error::METHOD_NOT_FOUND] {
            assert_eq!(close_for(&error), CloseReason::PermissionDenied);
        }
        assert_eq!(close_for(&Error::EXPIRED), CloseReason::Expired);
    }
}
