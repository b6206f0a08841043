//! Who clients are: their tokens, as the session understands them.

use std::time::{Duration, SystemTime};

use tidings_auth::token::{self, Check, Verifier};
use tidings_core::{Channel, Payload};
use tidings_session::{Expiry, Grant, Identity, Refusal, RenewedBy};

/// Checks tokens.
pub(crate) struct Identities {
    /// `None`: nobody's token can be checked, which only `tidings dev` allows.
    verifier: Option<Verifier>,
}

impl Identities {
    pub(crate) fn new(verifier: Option<Verifier>) -> Self {
        Self { verifier }
    }

    /// Whose token this is, when the key to check it with is at hand; `None` when it has to be fetched first.
    pub(crate) fn of(&self, token: &str) -> Option<Result<Identity, Refusal>> {
        let Some(verifier) = self.verifier.as_ref().filter(|_| !token.is_empty()) else {
            return Some(Ok(Identity::anonymous()));
        };
        let now = SystemTime::now();
        match verifier.connection(token, now) {
            Check::Done(result) => Some(identity(result, now)),
            Check::Fetch => None,
        }
    }

    /// The same, after the key was fetched. Bounded in time; asked by many clients at once, it fetches once.
    pub(crate) async fn fetch(&self, token: &str) -> Result<Identity, Refusal> {
        let Some(verifier) = &self.verifier else {
            return Ok(Identity::anonymous());
        };
        if let Err(error) = verifier.fetch(SystemTime::now()).await {
            tracing::warn!(%error, "the keys to check tokens with could not be fetched");
        }
        let now = SystemTime::now();
        identity(verifier.connection(token, now).settle(), now)
    }
}

fn identity(result: Result<token::Connection, token::Error>, now: SystemTime) -> Result<Identity, Refusal> {
    let connection = match result {
        Ok(connection) => connection,
        Err(token::Error::Expired) => return Err(Refusal::Expired),
        Err(token::Error::Unavailable) => return Err(Refusal::Unavailable),
        Err(error @ (token::Error::Invalid(_) | token::Error::Mismatch(_))) => return Err(invalid(&error)),
    };
    let channels = connection
        .subs
        .keys()
        .map(|name| Ok((Channel::parse(name)?, Grant::default())))
        .collect::<Result<_, tidings_core::channel::Error>>();
    Ok(Identity {
        user: connection.user.into(),
        info: connection.info.into_json(),
        expiry: connection.expires_at.map(|at| Expiry {
            after: at.duration_since(now).unwrap_or(Duration::ZERO),
            renewed_by: RenewedBy::Client,
        }),
        data: Payload::default(),
        // A token that names a channel which cannot be is no better than a forged one.
        channels: channels.map_err(|why| invalid(&why))?,
    })
}

fn invalid(why: &dyn std::fmt::Display) -> Refusal {
    tracing::debug!(%why, "a client showed an invalid token");
    Refusal::Invalid
}
