//! Who clients are and where they may be: their tokens, as the session understands them.

use std::time::{Duration, SystemTime};

use tidings_auth::token::{self, Bearer, Check, Verifier};
use tidings_core::{Channel, ClientInfo};
use tidings_session::{Expiry, Grant, Identity, Refusal, RenewedBy};

/// Checks tokens. Where there is no verifier nobody's token can be checked: then no token is good, except where
/// everybody is let in, which only `tidings dev` does.
pub(crate) struct Identities {
    connection: Option<Verifier>,
    subscription: Option<Verifier>,
    insecure: bool,
}

impl Identities {
    pub(crate) fn new(connection: Option<Verifier>, subscription: Option<Verifier>, insecure: bool) -> Self {
        Self {
            connection,
            subscription,
            insecure,
        }
    }

    /// Whose token this is, when the key to check it with is at hand; `None` when it has to be fetched first. Who shows
    /// no token is nobody.
    pub(crate) fn of(&self, token: &str) -> Option<Result<Identity, Refusal>> {
        if token.is_empty() {
            return Some(Ok(Identity::anonymous()));
        }
        let Some(verifier) = &self.connection else {
            return Some(self.unchecked(Identity::anonymous));
        };
        at_hand(|now| identity(verifier, token, now))
    }

    /// The same, after the key was fetched. Bounded in time; asked by many clients at once, it fetches once.
    pub(crate) async fn fetch(&self, token: &str) -> Result<Identity, Refusal> {
        let Some(verifier) = &self.connection else {
            return self.unchecked(Identity::anonymous);
        };
        fetched(verifier, |now| identity(verifier, token, now)).await
    }

    /// What a token for a channel allows the client, when the key to check it with is at hand; `None` when it has to be
    /// fetched first.
    pub(crate) fn grant(
        &self,
        token: &str,
        channel: &Channel,
        bearer: &ClientInfo,
    ) -> Option<Result<Grant, Refusal>> {
        let Some(verifier) = &self.subscription else {
            return Some(self.unchecked(Grant::default));
        };
        at_hand(|now| grant(verifier, token, channel, bearer, now))
    }

    /// The same, after the key was fetched.
    pub(crate) async fn fetch_grant(
        &self,
        token: &str,
        channel: &Channel,
        bearer: &ClientInfo,
    ) -> Result<Grant, Refusal> {
        let Some(verifier) = &self.subscription else {
            return self.unchecked(Grant::default);
        };
        fetched(verifier, |now| grant(verifier, token, channel, bearer, now)).await
    }

    /// What a token says that nobody can check.
    fn unchecked<T>(&self, open: impl FnOnce() -> T) -> Result<T, Refusal> {
        if self.insecure {
            Ok(open())
        } else {
            Err(Refusal::Invalid)
        }
    }
}

fn at_hand<T>(check: impl Fn(SystemTime) -> Check<T>) -> Option<Result<T, Refusal>> {
    match check(SystemTime::now()) {
        Check::Done(result) => Some(result.map_err(|error| refusal(&error))),
        Check::Fetch => None,
    }
}

async fn fetched<T>(verifier: &Verifier, check: impl Fn(SystemTime) -> Check<T>) -> Result<T, Refusal> {
    if let Err(error) = verifier.fetch(SystemTime::now()).await {
        tracing::warn!(%error, "the keys to check tokens with could not be fetched");
    }
    check(SystemTime::now()).settle().map_err(|error| refusal(&error))
}

fn identity(verifier: &Verifier, token: &str, now: SystemTime) -> Check<Identity> {
    match verifier.connection(token, now) {
        Check::Done(result) => Check::Done(result.and_then(|connection| said(connection, now))),
        Check::Fetch => Check::Fetch,
    }
}

fn said(connection: token::Connection, now: SystemTime) -> Result<Identity, token::Error> {
    let channels = connection.subs.into_iter().map(|(name, options)| {
        // A token that names a channel which cannot be is no better than a forged one.
        let channel = Channel::parse(&name).map_err(|why| token::Error::Invalid(why.to_string()))?;
        Ok((channel, granted(options, None)))
    });
    Ok(Identity {
        user: connection.user.into(),
        info: connection.info.into_json(),
        expiry: expiry(connection.expires_at, now),
        channels: channels.collect::<Result<_, token::Error>>()?,
        ..Identity::anonymous()
    })
}

fn grant(
    verifier: &Verifier,
    token: &str,
    channel: &Channel,
    bearer: &ClientInfo,
    now: SystemTime,
) -> Check<Grant> {
    let client = bearer.client.to_string();
    let bearer = Bearer {
        user: &bearer.user,
        client: &client,
        channel: channel.as_str(),
    };
    match verifier.subscription(token, &bearer, now) {
        Check::Done(result) => {
            Check::Done(result.map(|said| granted(said.options, expiry(said.expires_at, now))))
        }
        Check::Fetch => Check::Fetch,
    }
}

fn granted(options: token::Options, expiry: Option<Expiry>) -> Grant {
    Grant {
        expiry,
        info: options.info.into_json(),
        data: options.data,
        overrides: options.overrides,
    }
}

/// What a token allows goes on with a newer one.
fn expiry(expires_at: Option<SystemTime>, now: SystemTime) -> Option<Expiry> {
    expires_at.map(|at| Expiry {
        after: at.duration_since(now).unwrap_or(Duration::ZERO),
        renewed_by: RenewedBy::Client,
    })
}

fn refusal(error: &token::Error) -> Refusal {
    let refusal = match error {
        token::Error::Expired => return Refusal::Expired,
        token::Error::Unavailable => return Refusal::Unavailable,
        token::Error::Invalid(_) => Refusal::Invalid,
        token::Error::Mismatch(_) => Refusal::Mismatch,
    };
    tracing::debug!(%error, "a client showed a token that is not good");
    refusal
}
