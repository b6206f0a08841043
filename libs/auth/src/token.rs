//! Connection tokens: a JSON Web Token (RFC 7519) in, [`Claims`] out, and the other way for `tidings token`.
//!
//! The rules are those of the Centrifuge ecosystem, so tokens that backends make today keep working: no leeway,
//! a missing `sub` is an anonymous user, `channel` belongs to subscription tokens only. Claims without a meaning
//! here are ignored, as RFC 7519 section 4 asks.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, value::RawValue};
use tidings_core::{Secret, json};

/// What a valid token says about its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The person (`sub`); empty for an anonymous client.
    pub user: String,
    /// When the connection ends unless it is refreshed: `expire_at`, or else `exp`. `None`: never.
    pub expires_at: Option<SystemTime>,
    /// What others may see of the client (`info`): JSON on one line; empty when there is none.
    pub info: Bytes,
    /// Channels to subscribe the client to (`channels`); their names are not checked here.
    pub channels: Vec<String>,
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was valid once or will be: its `exp` has passed or its `nbf` has not. The client should get a new one
    /// (error 109).
    #[error("token is outside its time (exp, nbf)")]
    Expired,
    /// It will never be valid here (disconnect 3500). The text says why and holds no part of the signature.
    #[error("token is invalid: {0}")]
    Invalid(String),
}

/// An empty key would let everyone sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token secret is empty; set it to at least 32 random bytes")]
pub struct EmptySecret;

/// Checks tokens against one key. The key pins the algorithm; what the token says of itself must agree.
#[derive(Clone)]
pub struct Verifier {
    key: DecodingKey,
    signature: Validation,
    audience: Option<String>,
}

impl Verifier {
    /// Accepts tokens that were signed by HMAC-SHA256 with `secret` and, when an `audience` is given, name it in
    /// `aud`.
    ///
    /// # Errors
    /// When the secret is empty.
    pub fn hs256(secret: &Secret, audience: Option<String>) -> Result<Self, EmptySecret> {
        // The crate's own claim checks read the system clock; it is left the signature, and `verify` has the rest.
        let mut signature = Validation::new(Algorithm::HS256);
        signature.required_spec_claims.clear();
        signature.validate_exp = false;
        signature.validate_nbf = false;
        signature.validate_aud = false;
        Ok(Self {
            key: DecodingKey::from_secret(not_empty(secret)?),
            signature,
            audience,
        })
    }

    /// The claims of `token`, when it is valid at `now`.
    ///
    /// # Errors
    /// See [`Error`]. A token that is both invalid and expired is invalid.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, Error> {
        let token = jsonwebtoken::decode::<Wire>(token, &self.key, &self.signature)
            .map_err(|error| Error::Invalid(describe(&error)))?;
        if token.header.crit.is_some() {
            // RFC 7515 section 4.1.11: an extension that is critical and not understood.
            return Err(invalid("header 'crit' names extensions that are not supported"));
        }
        let wire = token.claims;
        if wire.channel.is_some_and(|channel| channel != "") {
            return Err(invalid("claim 'channel' belongs to subscription tokens"));
        }
        if let Some(audience) = &self.audience
            && !wire.aud.as_ref().is_some_and(|aud| aud.has(audience))
        {
            return Err(Error::Invalid(format!("claim 'aud' does not name {audience:?}")));
        }

        let expiry = wire.exp.map(|date| time("exp", &date)).transpose()?;
        let not_before = wire.nbf.map(|date| time("nbf", &date)).transpose()?;
        if expiry.is_some_and(|expiry| expiry <= now) || not_before.is_some_and(|begin| now < begin) {
            return Err(Error::Expired);
        }
        let expires_at = match wire.expire_at {
            None => expiry,
            Some(date) if date.as_u64() == Some(0) => None,
            Some(date) => match time("expire_at", &date)? {
                end if end <= now => return Err(Error::Expired),
                end => Some(end),
            },
        };

        Ok(Claims {
            user: wire.sub.unwrap_or_default(),
            expires_at,
            info: wire.info.map_or_else(Bytes::new, |info| {
                json::one_line(Bytes::from(info.get().to_owned()))
            }),
            channels: wire.channels.unwrap_or_default(),
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { audience, .. } = self;
        f.debug_struct("Verifier")
            .field("audience", audience)
            .finish_non_exhaustive()
    }
}

/// Signs tokens that a [`Verifier`] with the same secret and audience accepts.
#[derive(Clone)]
pub struct Minter {
    key: EncodingKey,
    audience: Option<String>,
}

impl Minter {
    /// Signs by HMAC-SHA256 with `secret`.
    ///
    /// # Errors
    /// When the secret is empty.
    pub fn hs256(secret: &Secret, audience: Option<String>) -> Result<Self, EmptySecret> {
        Ok(Self {
            key: EncodingKey::from_secret(not_empty(secret)?),
            audience,
        })
    }

    /// A token for `user` (empty: anonymous) that is valid from `now` for `ttl`, to the second.
    #[must_use]
    pub fn mint(
        &self,
        user: &str,
        channels: &[String],
        info: Option<&RawValue>,
        ttl: Duration,
        now: SystemTime,
    ) -> String {
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let wire = Wire {
            sub: Some(user.to_owned()),
            exp: Some(issued.saturating_add(ttl).as_secs().into()),
            iat: Some(issued.as_secs().into()),
            aud: self.audience.clone().map(Audience::One),
            info: info.map(ToOwned::to_owned),
            channels: Some(channels.to_vec()).filter(|list| !list.is_empty()),
            ..Wire::default()
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &wire, &self.key)
            .expect("texts and numbers serialize, and HMAC takes a key of any length")
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { audience, .. } = self;
        f.debug_struct("Minter")
            .field("audience", audience)
            .finish_non_exhaustive()
    }
}

/// The token's payload as it is on the wire.
#[derive(Default, Deserialize, Serialize)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_at: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Audience>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<Value>,
}

/// RFC 7519 section 4.1.3: one name or a list of them.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

fn not_empty(secret: &Secret) -> Result<&[u8], EmptySecret> {
    match secret.expose().as_bytes() {
        [] => Err(EmptySecret),
        bytes => Ok(bytes),
    }
}

/// RFC 7519 section 2, NumericDate: seconds since 1970, with or without a fraction.
fn time(claim: &str, date: &Number) -> Result<SystemTime, Error> {
    let since_epoch = match (date.as_u64(), date.as_f64()) {
        (Some(seconds), _) => Some(Duration::from_secs(seconds)),
        // Before 1970 is as good as then: long ago.
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds.max(0.0)).ok(),
        (None, None) => None,
    };
    since_epoch
        .and_then(|seconds| UNIX_EPOCH.checked_add(seconds))
        .ok_or_else(|| Error::Invalid(format!("claim {claim:?} is no time: {date}")))
}

fn invalid(why: &str) -> Error {
    Error::Invalid(why.to_owned())
}

fn describe(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidToken => "it does not have the three parts of a JSON Web Token".to_owned(),
        ErrorKind::InvalidSignature => "it is not signed with the configured key".to_owned(),
        ErrorKind::InvalidAlgorithm => "its algorithm is not the configured key's, HS256".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
