//! The Centrifuge protocol in one direction: a client that says who it is once, and from then on only listens. JSON.
//!
//! The first thing it hears is `{"connect":{…}}`, then pushes without a wrapper, and `{}` for a ping.

use std::io::Write;

use tidings_core::json;

use super::json::{body, object::Object, wire};
use crate::{CloseReason, Error, Push, Reply, command::Connect, data::TooDeep};

/// Something that is no connect request. The client is closed with 3501, or its request answered with 400.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not in JSON.
    #[error("this is not a connect request: {0}")]
    Json(#[from] serde_json::Error),
    /// Data that others might not be able to parse.
    #[error(
        "this connect request carries data that is nested more than {} arrays and objects deep",
        json::MAX_DEPTH
    )]
    Deep,
}

/// Reads a connect request without a command around it; nothing at all is one that says nothing.
///
/// # Errors
/// When it is anything else.
pub fn connect(request: &[u8]) -> Result<Connect, Malformed> {
    if request.iter().all(u8::is_ascii_whitespace) {
        return Ok(Connect::default());
    }
    let wire: wire::Connect<'_> = serde_json::from_slice(request)?;
    wire.try_into().map_err(|TooDeep| Malformed::Deep)
}

/// Writes a reply as its push; false when clients that only listen have no use for it, and nothing was written. `out` is
/// memory: writing to it must not fail.
///
/// # Errors
/// Why the connection ends: an error can be told in no other way, and data that is not JSON in none at all.
pub fn reply(reply: &Reply, out: &mut impl Write) -> Result<bool, CloseReason> {
    match reply {
        Reply::Error { error, .. } => return Err(close_for(error)),
        Reply::Subscribe { .. }
        | Reply::Unsubscribe { .. }
        | Reply::Publish { .. }
        | Reply::Presence { .. }
        | Reply::PresenceStats { .. }
        | Reply::History { .. }
        | Reply::Rpc { .. }
        | Reply::Refresh { .. }
        | Reply::SubRefresh { .. } => return Ok(false),
        _ => body::check(reply)?,
    }
    let mut line = Object::open(out);
    match reply {
        Reply::Connect { result, .. } => line.object("connect", |c| body::connected(c, result)),
        // A ping says nothing.
        _ => body::unasked(&mut line, reply),
    }
    line.close();
    Ok(true)
}

/// Writes a push. `out` is memory: writing to it must not fail.
///
/// # Errors
/// As those of [`json::push`](super::json::push).
pub fn push(push: Push<'_>, out: &mut impl Write) -> Result<(), CloseReason> {
    body::check_push(&push)?;
    let mut line = Object::open(out);
    body::push(&mut line, &push);
    line.close();
    Ok(())
}

/// How a connection ends whose connect failed.
#[must_use]
pub fn close_for(error: &Error) -> CloseReason {
    match error.code {
        109 | 110 => CloseReason::Expired,
        111 => CloseReason::TooManyRequests,
        _ if error.temporary => CloseReason::Internal,
        // Whatever it is, the client need not come back with it.
        _ => CloseReason::PermissionDenied,
    }
}

#[cfg(test)]
mod tests;
