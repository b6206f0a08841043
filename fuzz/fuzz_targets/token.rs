//! Tokens: any text, and any claims with a good signature.
#![no_main]

use std::{sync::OnceLock, time::SystemTime};

use jsonwebtoken::{EncodingKey, Header};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tidings_auth::{
    Verifier,
    token::{Bearer, Expected, Keyring},
};
use tidings_core::Secret;

const SECRET: &str = "a secret that is long enough to be taken for one, 4711";

fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| {
        let keys = Keyring::secret(&Secret::from(SECRET.to_owned())).expect("a good secret");
        Verifier::new(keys, Expected::default())
    })
}

fn check(token: &str) {
    let now = SystemTime::UNIX_EPOCH;
    let _ = verifier().connection(token, now);
    let bearer = Bearer {
        user: "42",
        client: "6a1c1f6e-59c3-4b69-8f2a-1d3a5e7f9b10",
        channel: "a",
    };
    let _ = verifier().subscription(token, &bearer, now);
}

fuzz_target!(|text: &str| {
    check(text);
    if let Ok(claims) = serde_json::from_str::<&RawValue>(text) {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        if let Ok(token) = jsonwebtoken::encode(&Header::default(), &claims, &key) {
            check(&token);
        }
    }
});
