//! The claims that every token has (RFC 7519 section 4.1), and `expire_at`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::Error;

/// Whom a token must be meant for and come from. What is absent is not looked at.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// What `aud` must name.
    pub audience: Option<String>,
    /// What `iss` must be.
    pub issuer: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Registered {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iat: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aud: Option<Audience>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expire_at: Option<Number>,
}

/// RFC 7519 section 4.1.3: one name or a list of them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Registered {
    /// Checks whom the token is meant for and who it comes from.
    pub(super) fn agree_with(&self, expected: &Expected) -> Result<(), Error> {
        if let Some(audience) = &expected.audience
            && !self.aud.as_ref().is_some_and(|aud| aud.has(audience))
        {
            return Err(Error::Invalid(format!("claim 'aud' does not name {audience:?}")));
        }
        if let Some(issuer) = &expected.issuer
            && self.iss.as_ref() != Some(issuer)
        {
            return Err(Error::Invalid(format!("claim 'iss' is not {issuer:?}")));
        }
        Ok(())
    }

    /// Until when what the token allows is allowed: `expire_at`, or else `exp`. `None`: for ever.
    ///
    /// There is no leeway. `exp` counts even where `expire_at` says how long the outcome lasts, and `expire_at = 0`
    /// says for ever. `iat` is not looked at: RFC 7519 section 4.1.6 gives it no consequence.
    pub(super) fn ends(&self, now: SystemTime) -> Result<Option<SystemTime>, Error> {
        let read = |name, date: &Option<Number>| date.as_ref().map(|date| time(name, date)).transpose();
        let expiry = read("exp", &self.exp)?;
        let begin = read("nbf", &self.nbf)?;
        let ends = match &self.expire_at {
            None => expiry,
            Some(never) if never.as_f64() == Some(0.0) => None,
            some => read("expire_at", some)?,
        };
        let over = |end: Option<SystemTime>| end.is_some_and(|end| end <= now);
        if over(expiry) || over(ends) || begin.is_some_and(|begin| now < begin) {
            return Err(Error::Expired);
        }
        Ok(ends)
    }
}

impl Audience {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
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
        .ok_or_else(|| Error::Invalid(format!("claim '{claim}' is no time: {date}")))
}
