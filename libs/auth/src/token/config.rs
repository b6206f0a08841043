//! Which keys there are: `[clients.token]`, and `[clients.subscription_token]` where those differ.

use std::{fs, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};
use tidings_core::Secret;
use url::Url;

use super::{Expected, Keyring, Minter, Verifier};

/// The keys of one kind of token. At most one of `hmac_secret`, `public_key_file` and `jwks_url`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The secret of HS256, HS384 and HS512 tokens: at least 32 random bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_secret: Option<Secret>,
    /// The secret before this one, during a rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_hmac_secret: Option<Secret>,
    /// When the previous secret stops counting, such as "2026-12-01T00:00:00Z". Absent: when it is removed.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub previous_hmac_secret_until: Option<SystemTime>,
    /// A PEM file with the public key of RS256, RS384 and RS512, ES256, ES384 or EdDSA tokens; several during a
    /// rotation. Read at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key_file: Option<PathBuf>,
    /// Where public keys are published as a JSON Web Key Set. HTTPS, unless the way there can be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<Url>,
    /// What a token's `aud` must name; absent: it is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What a token's `iss` must be; absent: it is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A key that cannot be meant or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Error {
    /// Its name in the table.
    pub key: &'static str,
    /// What is wrong, and what to do.
    pub why: String,
}

impl Config {
    /// What checks tokens; `None` when no key is configured.
    ///
    /// # Errors
    /// When keys contradict each other, or one cannot be used.
    pub fn verifier(&self) -> Result<Option<Verifier>, Error> {
        self.check()?;
        let keys = match (&self.hmac_secret, &self.public_key_file, &self.jwks_url) {
            (Some(now), ..) => match &self.previous_hmac_secret {
                None => Keyring::secret(now).map_err(wrong("hmac_secret"))?,
                Some(before) => {
                    // Each alone first, to say which one it is.
                    Keyring::secret(now).map_err(wrong("hmac_secret"))?;
                    Keyring::secrets(now, before, self.previous_hmac_secret_until)
                        .map_err(wrong("previous_hmac_secret"))?
                }
            },
            (_, Some(path), _) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))
                    .map_err(wrong("public_key_file"))?;
                Keyring::pem(&text)
                    .map_err(|error| format!("{}: {error}", path.display()))
                    .map_err(wrong("public_key_file"))?
            }
            (.., Some(url)) => Keyring::jwks(url).map_err(wrong("jwks_url"))?,
            (None, None, None) => return Ok(None),
        };
        Ok(Some(Verifier::new(keys, self.expected())))
    }

    /// What signs tokens that [`Config::verifier`] accepts; `None` when there is no secret to sign with.
    ///
    /// # Errors
    /// When the secret cannot be used.
    pub fn minter(&self) -> Result<Option<Minter>, Error> {
        let minter = |secret| Minter::hs256(secret, self.expected()).map_err(wrong("hmac_secret"));
        self.hmac_secret.as_ref().map(minter).transpose()
    }

    fn expected(&self) -> Expected {
        Expected {
            audience: self.audience.clone(),
            issuer: self.issuer.clone(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let error = |key, why: &str| Err(wrong(key)(why));
        let secret = self.hmac_secret.is_some();
        let file = self.public_key_file.is_some();
        if self.jwks_url.is_some() && (secret || file) {
            return error("jwks_url", "is set beside another key; keep one of them");
        }
        if secret && file {
            return error("public_key_file", "is set beside hmac_secret; keep one of them");
        }
        if self.previous_hmac_secret.is_some() && !secret {
            return error(
                "previous_hmac_secret",
                "is set without hmac_secret, the one that is used now",
            );
        }
        if self.previous_hmac_secret_until.is_some() && self.previous_hmac_secret.is_none() {
            return error(
                "previous_hmac_secret_until",
                "is set without previous_hmac_secret",
            );
        }
        for (key, value) in [("audience", &self.audience), ("issuer", &self.issuer)] {
            if value.as_deref() == Some("") {
                return error(key, "is empty; name it, or leave the key out to accept any");
            }
        }
        Ok(())
    }
}

fn wrong<E: ToString>(key: &'static str) -> impl Fn(E) -> Error {
    move |why| Error {
        key,
        why: why.to_string(),
    }
}
