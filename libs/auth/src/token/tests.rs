//! The rules of tokens as tables, every algorithm, keys that come and go, and what nobody may get past them.

mod algorithms;
mod config;
mod connection;
mod jwks;
mod key_files;
mod minting;
mod pairs;
mod properties;
mod server;
mod subscription;

use std::time::{Duration, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;
use tidings_core::{Overrides, Payload, Secret};

use super::*;

const NOW: u64 = 1_700_000_000;

fn now() -> SystemTime {
    at(NOW)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

/// What tokens are signed with, unless a test says otherwise.
const SECRET: &str = "the key, and all of its 32 bytes!";

/// Accepts what is signed with [`SECRET`], whoever it is from and for.
fn verifier() -> Verifier {
    expecting(Expected::default())
}

fn expecting(expected: Expected) -> Verifier {
    Verifier::new(Keyring::secret(&secret(SECRET)).unwrap(), expected)
}

fn sign(header: &Header, claims: &Value, key: &str) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
}

/// A token that [`verifier`] finds properly signed.
fn signed(claims: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), claims, SECRET)
}

fn connection(claims: &Value) -> Result<Connection, Error> {
    verifier().connection(&signed(claims), now()).settle()
}

fn json_data(text: &'static str) -> Payload {
    Payload {
        data: text.into(),
        format: tidings_core::Format::Json,
    }
}

fn binary(bytes: &'static [u8]) -> Payload {
    Payload {
        data: bytes.into(),
        format: tidings_core::Format::Binary,
    }
}
