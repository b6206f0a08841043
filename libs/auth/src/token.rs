//! Tokens of clients: a JSON Web Token (RFC 7519) in, what it says out.
//!
//! The rules are those of the Centrifuge ecosystem, so tokens that backends make today keep working: no leeway, a
//! missing `sub` is an anonymous user, `channel` belongs to subscription tokens only. Claims without a meaning here
//! are ignored, as RFC 7519 section 4 asks.
//!
//! Checking never waits. Where keys are published elsewhere (JWKS) and the one in question is not in hand, the
//! answer is [`Check::Fetch`]; whoever may wait then [fetches](Verifier::fetch) and checks again.
//!
//! In reading order: `claims` are the rules of every token, `connection`, `subscription` and `options` what the two
//! kinds say; `key` pins algorithms, `keyring` finds the key, `jwk` reads published ones, `jwks` keeps them and
//! `fetch` gets them; `mint` goes the other way; [`config`] is what people write.

use std::time::SystemTime;

use serde_json::value::RawValue;

mod claims;
pub mod config;
mod connection;
mod fetch;
mod jwk;
mod jwks;
mod key;
mod keyring;
mod mint;
mod options;
mod subscription;

pub use claims::Expected;
pub use config::Config;
pub use connection::Connection;
pub use fetch::{BadEndpoint, Error as FetchError, TIMEOUT as FETCH_TIMEOUT};
pub use key::Unusable;
pub use keyring::{Keyring, MAX_KEYS};
pub use mint::Minter;
pub use options::Options;
pub use subscription::{Bearer, Subscription};

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was valid once or will be: its `exp` or `expire_at` has passed, or its `nbf` has not. The client should get
    /// a new one (error 109).
    #[error("token is outside its time (exp, expire_at, nbf)")]
    Expired,
    /// It will never be valid here (a connection token: disconnect 3500; a subscription token: error 103). The text
    /// says why and holds no part of the signature.
    #[error("token is invalid: {0}")]
    Invalid(String),
    /// A subscription token for someone else or somewhere else (disconnect 3500). Holds the claim that differs.
    #[error("token is for another: claim '{0}' differs")]
    Mismatch(&'static str),
    /// The key that it names is not known now and may be soon: it is nobody's fault, and worth another try.
    #[error("token cannot be checked now: its key is not at hand")]
    Unavailable,
}

/// The outcome of looking at a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Check<T> {
    /// What it says, or why it is refused.
    Done(Result<T, Error>),
    /// It is signed with a key that is not in hand, or was not looked after for long: [`Verifier::fetch`], then
    /// check again.
    Fetch,
}

impl<T> Check<T> {
    /// The outcome where there is no more fetching to be done.
    ///
    /// # Errors
    /// The token's, or [`Error::Unavailable`].
    pub fn settle(self) -> Result<T, Error> {
        match self {
            Self::Done(outcome) => outcome,
            Self::Fetch => Err(Error::Unavailable),
        }
    }

    fn and_then<U>(self, next: impl FnOnce(T) -> Result<U, Error>) -> Check<U> {
        match self {
            Self::Done(outcome) => Check::Done(outcome.and_then(next)),
            Self::Fetch => Check::Fetch,
        }
    }
}

/// Checks tokens. Cheap to clone; clones share their keys.
#[derive(Debug, Clone)]
pub struct Verifier {
    keys: Keyring,
    expected: Expected,
}

impl Verifier {
    /// Accepts tokens that are signed with one of `keys` and are as `expected`.
    #[must_use]
    pub fn new(keys: Keyring, expected: Expected) -> Self {
        Self { keys, expected }
    }

    /// What a connection token says, when it is valid at `now`. One that is both invalid and expired is invalid.
    pub fn connection(&self, token: &str, now: SystemTime) -> Check<Connection> {
        self.keys.open(token, now).and_then(|payload| {
            let registered = self.registered(&payload)?;
            let (info, subs) = connection::read(payload.get())?;
            Ok(Connection {
                expires_at: registered.ends(now)?,
                user: registered.sub.unwrap_or_default(),
                info,
                subs,
            })
        })
    }

    /// What a subscription token allows `bearer`, when it is valid at `now`. Of several reasons to refuse it, the
    /// first counts: invalid, expired, meant for another.
    pub fn subscription(&self, token: &str, bearer: &Bearer<'_>, now: SystemTime) -> Check<Subscription> {
        self.keys.open(token, now).and_then(|payload| {
            let registered = self.registered(&payload)?;
            let (wire, options) = subscription::read(payload.get())?;
            let expires_at = registered.ends(now)?;
            wire.agree_with(registered.sub.as_deref(), bearer)?;
            Ok(Subscription { expires_at, options })
        })
    }

    /// Gets the keys that are published elsewhere; does nothing where there are none. Call it on [`Check::Fetch`],
    /// and once at the start, so that the first client need not wait.
    ///
    /// Bounded whoever calls how often: once a minute, one at a time (others wait for its outcome), two attempts of
    /// [`FETCH_TIMEOUT`], a mebibyte. Cancelling is safe.
    ///
    /// # Errors
    /// When they cannot be had. Those in hand go on counting. Only the call that asked has the error; it is the one
    /// to log it.
    pub async fn fetch(&self, now: SystemTime) -> Result<(), FetchError> {
        self.keys.fetch(now).await
    }

    fn registered(&self, payload: &RawValue) -> Result<claims::Registered, Error> {
        let registered: claims::Registered =
            serde_json::from_str(payload.get()).map_err(|error| Error::claims(&error))?;
        registered.agree_with(&self.expected)?;
        Ok(registered)
    }
}

impl Error {
    fn invalid(why: &str) -> Self {
        Self::Invalid(why.to_owned())
    }

    fn claims(error: &serde_json::Error) -> Self {
        Self::Invalid(format!("its claims are not of the kind they should be: {error}"))
    }
}

#[cfg(test)]
mod tests;
