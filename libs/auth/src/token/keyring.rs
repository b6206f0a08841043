//! The keys that tokens may be signed with, and which of them a token claims to be signed with.

use std::{fmt, sync::Arc, time::SystemTime};

use jsonwebtoken::Header;
use serde_json::value::RawValue;
use tidings_core::Secret;
use url::Url;

use super::{
    Check, Error,
    fetch::{self, Endpoint},
    jwks::Jwks,
    key::{Key, Unusable},
};

/// The most keys in one file: today's, tomorrow's, and some of every kind.
pub const MAX_KEYS: usize = 16;

/// Keys that were given, or the place where they are published. Cheap to clone; clones share what was fetched.
#[derive(Clone)]
pub struct Keyring(Source);

#[derive(Clone)]
enum Source {
    Given(Arc<[Given]>),
    Published(Arc<Jwks>),
}

struct Given {
    key: Key,
    /// When it stops counting.
    until: Option<SystemTime>,
}

impl Keyring {
    /// One secret, for HS256, HS384 and HS512.
    ///
    /// # Errors
    /// When the secret is shorter than 32 bytes, or public text by its looks.
    pub fn secret(secret: &Secret) -> Result<Self, Unusable> {
        Ok(Self::given(vec![Given {
            key: Key::secret(secret)?,
            until: None,
        }]))
    }

    /// Two secrets during a rotation: the one that is signed with now, and the one before, which counts until
    /// `until`, or until it is removed.
    ///
    /// # Errors
    /// When either is empty, or public text by its looks.
    pub fn secrets(now: &Secret, before: &Secret, until: Option<SystemTime>) -> Result<Self, Unusable> {
        Ok(Self::given(vec![
            Given {
                key: Key::secret(now)?,
                until: None,
            },
            Given {
                key: Key::secret(before)?,
                until,
            },
        ]))
    }

    /// The public keys in a PEM text, for RS256, RS384 and RS512, ES256, ES384, or EdDSA, each as it is.
    /// Several keys are for a rotation: a token may be signed with any of them.
    ///
    /// # Errors
    /// When there is none, too many, or one that cannot be used.
    pub fn pem(text: &str) -> Result<Self, Unusable> {
        let keys: Vec<_> = blocks(text)
            .take(MAX_KEYS + 1)
            .map(|block| {
                let key = match block.label {
                    "PUBLIC KEY" | "RSA PUBLIC KEY" => Key::pem(block.text.as_bytes())?,
                    label if label.ends_with("PRIVATE KEY") => return Err(Unusable::Private),
                    _ => return Err(Unusable::NoKey),
                };
                Ok(Given { key, until: None })
            })
            .collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(Unusable::NoKey),
            1..=MAX_KEYS => Ok(Self::given(keys)),
            _ => Err(Unusable::TooMany),
        }
    }

    /// The keys that are published at `url` as a JSON Web Key Set (RFC 7517). Nothing is fetched yet.
    ///
    /// # Errors
    /// When the address cannot be asked, or the certificates that it would be checked by cannot be read.
    pub fn jwks(url: &Url) -> Result<Self, fetch::BadEndpoint> {
        Ok(Self::published(Jwks::new(Endpoint::new(url)?)))
    }

    pub(super) fn published(jwks: Jwks) -> Self {
        Self(Source::Published(Arc::new(jwks)))
    }

    fn given(keys: Vec<Given>) -> Self {
        Self(Source::Given(keys.into()))
    }

    /// The payload of a token that one of the keys has signed.
    pub(super) fn open(&self, token: &str, now: SystemTime) -> Check<Box<RawValue>> {
        let header = match header(token) {
            Ok(header) => header,
            Err(error) => return Check::Done(Err(error)),
        };
        match &self.0 {
            Source::Given(keys) => Check::Done(open_given(keys, token, &header, now)),
            Source::Published(jwks) => match &header.kid {
                None => Check::Done(Err(Error::invalid(
                    "header 'kid' is missing, and the keys go by it",
                ))),
                Some(kid) => jwks.find(kid, now).and_then(|key| {
                    if !key.allows(header.alg) {
                        return Err(Error::invalid(
                            "its algorithm is not that of the key that 'kid' names",
                        ));
                    }
                    key.open(token)
                }),
            },
        }
    }

    /// Fetches the published keys, unless that was tried within the last minute. At most one request is under way;
    /// who comes meanwhile waits for its outcome. Takes [`fetch::TIMEOUT`] at most for each of two attempts.
    pub(super) async fn fetch(&self, now: SystemTime) -> Result<(), fetch::Error> {
        match &self.0 {
            Source::Given(_) => Ok(()),
            Source::Published(jwks) => jwks.fetch(now).await,
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Given(keys) => f
                .debug_list()
                .entries(keys.iter().map(|given| &given.key))
                .finish(),
            Source::Published(jwks) => jwks.fmt(f),
        }
    }
}

/// What a token says about itself, with nothing critical in it that is not understood.
fn header(token: &str) -> Result<Header, Error> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| {
        Error::invalid("it has no header of a signed JSON Web Token with a supported algorithm")
    })?;
    if header.crit.is_some() {
        // RFC 7515 section 4.1.11: an extension that is critical and not understood.
        return Err(Error::invalid(
            "header 'crit' names extensions that are not supported",
        ));
    }
    Ok(header)
}

fn open_given(keys: &[Given], token: &str, header: &Header, now: SystemTime) -> Result<Box<RawValue>, Error> {
    let mut refusal = Error::invalid("its algorithm is not that of a configured key");
    for Given { key, until } in keys {
        if !key.allows(header.alg) || until.is_some_and(|until| until <= now) {
            continue;
        }
        match key.open(token) {
            Ok(payload) => return Ok(payload),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// One part of a PEM text (RFC 7468), with its frame.
struct Block<'a> {
    label: &'a str,
    text: &'a str,
}

/// The parts of a PEM text. What stands between them is commentary.
fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    const BEGIN: &str = "-----BEGIN ";
    let starts = text.match_indices(BEGIN).map(|(at, _)| at);
    starts.filter_map(|at| {
        let text = &text[at..];
        let (label, _) = text[BEGIN.len()..].split_once("-----")?;
        let end = format!("-----END {label}-----");
        let length = text.find(&end)? + end.len();
        Some(Block {
            label,
            text: &text[..length],
        })
    })
}
