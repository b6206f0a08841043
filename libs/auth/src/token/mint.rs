//! The other way: tokens for `tidings token`, for tests, and for trying things out.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_core::Secret;

use super::{
    claims::{Audience, Expected, Registered},
    key::{self, Unusable},
};

/// Signs tokens that a [`Verifier`](super::Verifier) with the same secret and expectations accepts.
#[derive(Clone)]
pub struct Minter {
    key: EncodingKey,
    expected: Expected,
}

impl Minter {
    /// Signs by HMAC-SHA256 with `secret`, as the one and for those that are `expected`.
    ///
    /// # Errors
    /// When the secret is shorter than 32 bytes, or public text by its looks.
    pub fn hs256(secret: &Secret, expected: Expected) -> Result<Self, Unusable> {
        Ok(Self {
            key: EncodingKey::from_secret(key::usable(secret)?),
            expected,
        })
    }

    /// A connection token for `user` (empty: anonymous) that is valid from `now` for `ttl`, to the second, and
    /// subscribes the client to `channels`.
    #[must_use]
    pub fn connection(
        &self,
        user: &str,
        channels: &[String],
        info: Option<&RawValue>,
        ttl: Duration,
        now: SystemTime,
    ) -> String {
        self.sign(&Wire {
            registered: self.registered(user, ttl, now),
            channels: Some(channels).filter(|list| !list.is_empty()),
            channel: None,
            info,
        })
    }

    /// A subscription token that lets `user` into `channel`, valid from `now` for `ttl`, to the second.
    #[must_use]
    pub fn subscription(
        &self,
        user: &str,
        channel: &str,
        info: Option<&RawValue>,
        ttl: Duration,
        now: SystemTime,
    ) -> String {
        self.sign(&Wire {
            registered: self.registered(user, ttl, now),
            channels: None,
            channel: Some(channel),
            info,
        })
    }

    fn registered(&self, user: &str, ttl: Duration, now: SystemTime) -> Registered {
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Registered {
            sub: Some(user.to_owned()),
            exp: Some(issued.saturating_add(ttl).as_secs().into()),
            iat: Some(issued.as_secs().into()),
            aud: self.expected.audience.clone().map(Audience::One),
            iss: self.expected.issuer.clone(),
            ..Registered::default()
        }
    }

    fn sign(&self, wire: &Wire<'_>) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), wire, &self.key)
            .expect("texts and numbers serialize, and HMAC takes a key of any length")
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, .. } = self;
        f.debug_struct("Minter")
            .field("expected", expected)
            .finish_non_exhaustive()
    }
}

/// A token's payload. What is read has more kinds of claims; these are those that are written.
#[derive(Serialize)]
struct Wire<'a> {
    #[serde(flatten)]
    registered: Registered,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
}
