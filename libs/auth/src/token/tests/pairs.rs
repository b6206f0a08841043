//! Key pairs of every kind, made once per test run.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jsonwebtoken::jwk::Jwk;
use serde_json::json;

use super::*;

/// Someone who signs, and what they tell the world.
pub(super) struct Pair {
    pub(super) private: EncodingKey,
    pub(super) private_pem: String,
    pub(super) public_pem: String,
    /// The first is the one that is tried when any will do.
    pub(super) algorithms: &'static [Algorithm],
}

pub(super) static RSA: LazyLock<Pair> = LazyLock::new(new_rsa);
pub(super) static OTHER_RSA: LazyLock<Pair> = LazyLock::new(new_rsa);
pub(super) static P256: LazyLock<Pair> =
    LazyLock::new(|| new_ec(&ECDSA_P256_SHA256_FIXED_SIGNING, &[Algorithm::ES256]));
pub(super) static OTHER_P256: LazyLock<Pair> =
    LazyLock::new(|| new_ec(&ECDSA_P256_SHA256_FIXED_SIGNING, &[Algorithm::ES256]));
pub(super) static P384: LazyLock<Pair> =
    LazyLock::new(|| new_ec(&ECDSA_P384_SHA384_FIXED_SIGNING, &[Algorithm::ES384]));
pub(super) static ED25519: LazyLock<Pair> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::generate().unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    Pair {
        private: EncodingKey::from_ed_der(private.as_ref()),
        private_pem: pem("PRIVATE KEY", private.as_ref()),
        public_pem: public_pem(pair.public_key()),
        algorithms: &[Algorithm::EdDSA],
    }
});

/// One of each kind.
pub(super) fn kinds() -> [&'static Pair; 4] {
    [&RSA, &P256, &P384, &ED25519]
}

impl Pair {
    pub(super) fn sign(&self, algorithm: Algorithm, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &self.private).unwrap()
    }

    /// A token whose header names a key.
    pub(super) fn sign_as(&self, kid: &str, claims: &Value) -> String {
        let header = Header {
            kid: Some(kid.to_owned()),
            ..Header::new(self.algorithms[0])
        };
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }

    /// The public key as it stands in a set.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.private, self.algorithms[0]).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(kid);
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    }
}

fn new_rsa() -> Pair {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let private_pem = pem("PRIVATE KEY", private.as_ref());
    Pair {
        private: EncodingKey::from_rsa_pem(private_pem.as_bytes()).unwrap(),
        private_pem,
        public_pem: public_pem(pair.public_key()),
        algorithms: &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
    }
}

fn new_ec(curve: &'static EcdsaSigningAlgorithm, algorithms: &'static [Algorithm]) -> Pair {
    let pair = EcdsaKeyPair::generate(curve).unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    Pair {
        private: EncodingKey::from_ec_der(private.as_ref()),
        private_pem: pem("PRIVATE KEY", private.as_ref()),
        public_pem: public_pem(pair.public_key()),
        algorithms,
    }
}

fn public_pem(key: &impl AsDer<PublicKeyX509Der<'static>>) -> String {
    pem("PUBLIC KEY", key.as_der().unwrap().as_ref())
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
