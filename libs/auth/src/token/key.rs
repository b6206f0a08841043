//! One key that tokens may be signed with. The key, not the token, says which algorithms there are.
//!
//! RFC 8725 section 3.1: what a token says of its algorithm is only ever compared with what the key allows, so a
//! public key can never be taken for a secret, nor a missing signature for a good one.

use std::{collections::HashSet, fmt};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation, errors::ErrorKind};
use serde_json::value::RawValue;
use tidings_core::Secret;

use super::Error;

/// RSA keys in bytes of their modulus: 2048 bits are the least that RFC 7518 section 3.3 allows; 8192 are the most
/// that can be checked at little cost.
const RSA: std::ops::RangeInclusive<usize> = 256..=1024;

/// The least length of a secret in bytes: that of the shortest digest, SHA-256's (RFC 7518 section 3.2).
const MIN_SECRET: usize = 32;

/// The length of an uncompressed point: a mark and two coordinates.
const P256_POINT: usize = 1 + 2 * 32;
const P384_POINT: usize = 1 + 2 * 48;
const P521_POINT: usize = 1 + 2 * 66;

/// A key and the algorithms that it pins.
#[derive(Clone)]
pub(super) struct Key {
    decoding: DecodingKey,
    signature: Validation,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// An empty secret would let everyone sign.
    #[error("the token secret is empty; set it to at least 32 random bytes")]
    Empty,
    /// Whoever sees one token could find a short secret by trying. RFC 7518 section 3.2.
    #[error("the token secret is {bytes} bytes long; at least 32 are needed, and they should be random")]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// Public text as a secret would let everyone sign.
    #[error(
        "the token secret is a PEM file, which others may know; a public key belongs into `public_key_file`"
    )]
    PemSecret,
    /// Signing is not done here, and the key of another does not belong here.
    #[error("it holds a private key; give the public key that belongs to it")]
    Private,
    /// No key is in the text.
    #[error("it holds no key; expected PEM text with -----BEGIN PUBLIC KEY-----")]
    NoKey,
    /// The text has more keys than a rotation needs.
    #[error("it holds more than {} keys", super::keyring::MAX_KEYS)]
    TooMany,
    /// The key is of no kind that is supported, or not the key it says it is.
    #[error("it is no usable key; supported are RSA, EC on P-256 and P-384, and Ed25519")]
    Kind,
    /// A key on a curve that is not supported.
    #[error("it is a key on P-521 (ES512), which is not supported; use P-256, P-384, Ed25519 or RSA")]
    P521,
    /// A key that could be broken, or that costs too much to use.
    #[error("it is an RSA key of {bits} bits; supported are 2048 to 8192")]
    RsaSize {
        /// Its size.
        bits: usize,
    },
}

impl Key {
    /// HMAC with SHA-256, SHA-384 or SHA-512.
    pub(super) fn secret(secret: &Secret) -> Result<Self, Unusable> {
        let secret = usable(secret)?;
        Ok(Self::new(DecodingKey::from_secret(secret), &HMAC))
    }

    /// One public key in PEM: `PUBLIC KEY` (RFC 5280) or `RSA PUBLIC KEY` (RFC 8017).
    pub(super) fn pem(block: &[u8]) -> Result<Self, Unusable> {
        let decoding = DecodingKey::from_rsa_pem(block)
            .or_else(|_| DecodingKey::from_ec_pem(block))
            .or_else(|_| DecodingKey::from_ed_pem(block))
            .map_err(|_| Unusable::Kind)?;
        Self::public(decoding)
    }

    /// A public key whose algorithms follow from what it is.
    pub(super) fn public(decoding: DecodingKey) -> Result<Self, Unusable> {
        let algorithms: &[Algorithm] = match decoding.family() {
            AlgorithmFamily::Hmac => return Err(Unusable::Kind),
            AlgorithmFamily::Rsa => {
                let bytes = modulus_len(&decoding)?;
                if !RSA.contains(&bytes) {
                    return Err(Unusable::RsaSize { bits: bytes * 8 });
                }
                &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512]
            }
            AlgorithmFamily::Ec => match bytes(&decoding).len() {
                P256_POINT => {
                    valid(&ECDSA_P256_SHA256_FIXED, &decoding)?;
                    &[Algorithm::ES256]
                }
                P384_POINT => {
                    valid(&ECDSA_P384_SHA384_FIXED, &decoding)?;
                    &[Algorithm::ES384]
                }
                P521_POINT => return Err(Unusable::P521),
                _ => return Err(Unusable::Kind),
            },
            AlgorithmFamily::Ed => {
                valid(&ED25519, &decoding)?;
                &[Algorithm::EdDSA]
            }
        };
        Ok(Self::new(decoding, algorithms))
    }

    fn new(decoding: DecodingKey, algorithms: &[Algorithm]) -> Self {
        // The crate's own claim checks read the system clock; it is left the signature, and `claims` has the rest.
        let signature = Validation {
            algorithms: algorithms.to_vec(),
            required_spec_claims: HashSet::new(),
            validate_exp: false,
            validate_nbf: false,
            validate_aud: false,
            ..Validation::default()
        };
        Self { decoding, signature }
    }

    /// The same key for fewer algorithms; `None` when `algorithm` is not among its own.
    pub(super) fn only(mut self, algorithm: Algorithm) -> Option<Self> {
        self.allows(algorithm).then(|| {
            self.signature.algorithms = vec![algorithm];
            self
        })
    }

    /// Whether tokens may be signed with it by `algorithm`.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.signature.algorithms.contains(&algorithm)
    }

    /// The payload of a token that this key has signed.
    pub(super) fn open(&self, token: &str) -> Result<Box<RawValue>, Error> {
        jsonwebtoken::decode::<Box<RawValue>>(token, &self.decoding, &self.signature)
            .map(|token| token.claims)
            .map_err(|error| Error::Invalid(describe(&error)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.signature.algorithms).finish()
    }
}

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// The bytes of a secret that may be one.
pub(super) fn usable(secret: &Secret) -> Result<&[u8], Unusable> {
    match secret.expose() {
        "" => Err(Unusable::Empty),
        text if text.trim_start().starts_with("-----BEGIN ") => Err(Unusable::PemSecret),
        text if text.len() < MIN_SECRET => Err(Unusable::Short { bytes: text.len() }),
        text => Ok(text.as_bytes()),
    }
}

/// Whether the bytes are a key of the kind they should be: a point on the curve, for one.
fn valid(kind: &'static dyn VerificationAlgorithm, decoding: &DecodingKey) -> Result<(), Unusable> {
    ParsedPublicKey::new(kind, bytes(decoding))
        .map(drop)
        .map_err(|_| Unusable::Kind)
}

fn bytes(decoding: &DecodingKey) -> &[u8] {
    decoding.try_get_as_bytes().unwrap_or_default()
}

/// How long an RSA key is.
fn modulus_len(decoding: &DecodingKey) -> Result<usize, Unusable> {
    match decoding.kind() {
        DecodingKeyKind::SecretOrDer(der) => aws_lc_rs::rsa::PublicKey::from_der(der)
            .map(|key| key.modulus_len())
            .map_err(|_| Unusable::Kind),
        // RFC 7518 section 6.3.1.1 forbids zeros in front; they would be no part of the size.
        DecodingKeyKind::RsaModulusExponent { n, .. } => Ok(n.iter().skip_while(|&&byte| byte == 0).count()),
    }
}

/// What is wrong with a token, without any of its own text.
fn describe(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidToken => "it does not have the three parts of a JSON Web Token",
        ErrorKind::InvalidSignature => "it is not signed with the configured key",
        ErrorKind::InvalidAlgorithm => "its algorithm is not one of the key's",
        ErrorKind::Base64(_) => "a part of it is not base64url",
        _ => "its claims are not a JSON object",
    }
    .to_owned()
}
