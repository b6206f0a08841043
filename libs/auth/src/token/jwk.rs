//! A JSON Web Key Set (RFC 7517) in, the keys that can be used out.

use std::{collections::HashMap, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{fetch::Why, key::Key};

/// The most keys of a set. Providers publish two or three.
pub(super) const MAX_KEYS: usize = 256;

/// The usable keys of a set by their `kid`. Of two with one name the first counts.
///
/// A key of another kind, for another purpose or without a name is passed over, as RFC 7517 section 5 asks. `oct`,
/// a secret in public, is always.
///
/// # Errors
/// When the text is no set, has too many keys, or none that can be used: then the keys of before stand.
pub(super) fn read(text: &[u8]) -> Result<HashMap<String, Arc<Key>>, Why> {
    let set: Set<'_> = serde_json::from_slice(text).map_err(Why::NoSet)?;
    if set.keys.len() > MAX_KEYS {
        return Err(Why::TooMany { keys: set.keys.len() });
    }
    let mut keys = HashMap::new();
    for json in set.keys {
        let Ok(jwk) = serde_json::from_str::<Jwk>(json.get()) else {
            continue;
        };
        if let Some((kid, key)) = jwk.usable() {
            keys.entry(kid).or_insert_with(|| Arc::new(key));
        }
    }
    if keys.is_empty() {
        return Err(Why::NoKey);
    }
    Ok(keys)
}

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn usable(self) -> Option<(String, Key)> {
        let verifies = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !verifies {
            return None;
        }
        let curve = self.crv.as_deref().unwrap_or_default();
        let key = match (self.kty.as_str(), curve) {
            ("RSA", _) => DecodingKey::from_rsa_components(self.n.as_deref()?, self.e.as_deref()?),
            ("EC", "P-256" | "P-384") => {
                DecodingKey::from_ec_components(self.x.as_deref()?, self.y.as_deref()?)
            }
            ("OKP", "Ed25519") => DecodingKey::from_ed_components(self.x.as_deref()?),
            _ => return None,
        };
        let key = Key::public(key.ok()?).ok()?;
        // The curve that the key names must be the one that its point lies on.
        let key = match curve {
            "P-256" => key.only(Algorithm::ES256)?,
            "P-384" => key.only(Algorithm::ES384)?,
            _ => key,
        };
        let key = match self.alg {
            None => key,
            Some(alg) => key.only(alg.parse().ok()?)?,
        };
        Some((self.kid?, key))
    }
}
