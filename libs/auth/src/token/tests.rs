//! The rules of connection tokens as a table, and what nobody may get past them.

use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: u64 = 1_700_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn verifier() -> Verifier {
    Verifier::hs256(&secret("the key"), None).unwrap()
}

fn sign(header: &Header, claims: &Value, key: &str) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
}

fn verify(claims: &Value) -> Result<Claims, Error> {
    let token = sign(&Header::new(Algorithm::HS256), claims, "the key");
    verifier().verify(&token, now())
}

#[test]
fn what_is_minted_is_what_is_verified() {
    let minter = Minter::hs256(&secret("the key"), Some("tidings".to_owned())).unwrap();
    let info = RawValue::from_string("{\"name\": \"Ann\",\n \"n\": 1.0}".to_owned()).unwrap();
    let channels = ["news".to_owned(), "user:ann".to_owned()];
    let token = minter.mint("ann", &channels, Some(&info), Duration::from_secs(60), now());

    let verifier = Verifier::hs256(&secret("the key"), Some("tidings".to_owned())).unwrap();
    let claims = verifier.verify(&token, now()).unwrap();
    assert_eq!(
        claims,
        Claims {
            user: "ann".to_owned(),
            expires_at: Some(now() + Duration::from_secs(60)),
            info: Bytes::from("{\"name\": \"Ann\",  \"n\": 1.0}"),
            channels: channels.to_vec(),
        }
    );
    let later = now() + Duration::from_secs(60);
    assert_eq!(verifier.verify(&token, later), Err(Error::Expired));
}

#[test]
fn a_token_lives_from_nbf_until_before_exp_without_leeway() {
    let expired = |claims: Value| verify(&claims) == Err(Error::Expired);
    assert!(expired(json!({"exp": NOW})));
    assert!(expired(json!({"exp": NOW as f64 - 0.5})));
    assert!(expired(json!({"exp": 0})));
    assert!(expired(json!({"exp": -1})));
    assert!(!expired(json!({"exp": NOW + 1})));
    assert!(!expired(json!({"exp": NOW as f64 + 0.5})));
    assert!(expired(json!({"nbf": NOW + 1})));
    assert!(!expired(json!({"nbf": NOW})));
}

#[test]
fn a_connection_can_outlive_its_token_by_expire_at() {
    let expires_at = |claims: Value| verify(&claims).map(|claims| claims.expires_at);
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(expires_at(json!({})), Ok(None));
    assert_eq!(expires_at(json!({"exp": NOW + 5})), Ok(at(NOW + 5)));
    assert_eq!(
        expires_at(json!({"exp": NOW + 5, "expire_at": NOW + 9})),
        Ok(at(NOW + 9))
    );
    assert_eq!(expires_at(json!({"exp": NOW + 5, "expire_at": 0})), Ok(None));
    assert_eq!(
        expires_at(json!({"exp": NOW, "expire_at": 0})),
        Err(Error::Expired)
    );
    assert_eq!(expires_at(json!({"expire_at": NOW})), Err(Error::Expired));
}

#[test]
fn absent_and_null_claims_are_an_anonymous_user_without_anything() {
    let nobody = Claims {
        user: String::new(),
        expires_at: None,
        info: Bytes::new(),
        channels: vec![],
    };
    assert_eq!(verify(&json!({})), Ok(nobody.clone()));
    let nulls =
        json!({"sub": null, "exp": null, "info": null, "channels": null, "channel": null, "other": 1});
    assert_eq!(verify(&nulls), Ok(nobody));
}

#[test]
fn claims_of_the_wrong_kind_make_a_token_invalid() {
    for claims in [
        json!({"sub": 42}),
        json!({"exp": "tomorrow"}),
        json!({"exp": u64::MAX}),
        json!({"exp": 1e300}),
        json!({"channels": "news"}),
        json!({"channels": [1]}),
        json!({"channel": "news"}),
        json!({"channel": 1}),
        json!({"aud": 1}),
        json!([]),
        json!("text"),
    ] {
        let refused = verify(&claims);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{claims}: {refused:?}");
    }
}

#[test]
fn the_audience_counts_only_where_one_is_configured() {
    let strict = Verifier::hs256(&secret("the key"), Some("tidings".to_owned())).unwrap();
    for (claims, accepted) in [
        (json!({"aud": "tidings"}), true),
        (json!({"aud": ["other", "tidings"]}), true),
        (json!({"aud": "other"}), false),
        (json!({"aud": []}), false),
        (json!({}), false),
    ] {
        let token = sign(&Header::new(Algorithm::HS256), &claims, "the key");
        assert_eq!(strict.verify(&token, now()).is_ok(), accepted, "{claims}");
        assert!(verifier().verify(&token, now()).is_ok(), "{claims}");
    }
}

#[test]
fn the_key_chooses_the_algorithm_and_not_the_token() {
    let claims = json!({"sub": "eve"});
    let part = |json: &str| {
        // A part of a token is its JSON in base64url; the crate is asked for it by signing.
        let token = sign(
            &Header::new(Algorithm::HS256),
            &serde_json::from_str(json).unwrap(),
            "x",
        );
        token.split('.').nth(1).unwrap().to_owned()
    };
    let signed = sign(&Header::new(Algorithm::HS256), &claims, "the key");
    let [_, payload, signature] = signed.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let mut refused = vec![
        sign(&Header::new(Algorithm::HS256), &claims, "another key"),
        sign(&Header::new(Algorithm::HS384), &claims, "the key"),
        sign(&Header::new(Algorithm::HS512), &claims, "the key"),
    ];
    for algorithm in ["none", "None", "RS256", "ES256", "EdDSA", "hs256", ""] {
        let header = part(&json!({"alg": algorithm, "typ": "JWT"}).to_string());
        refused.push(format!("{header}.{payload}."));
        refused.push(format!("{header}.{payload}.{signature}"));
    }
    for token in refused {
        let answer = verifier().verify(&token, now());
        assert!(matches!(answer, Err(Error::Invalid(_))), "{token}: {answer:?}");
    }
    assert!(verifier().verify(&signed, now()).is_ok());
}

#[test]
fn a_critical_extension_is_not_ignored() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["exp".to_owned()]);
    let token = sign(&header, &json!({}), "the key");
    assert!(matches!(verifier().verify(&token, now()), Err(Error::Invalid(_))));
}

#[test]
fn an_empty_secret_neither_signs_nor_verifies() {
    assert_eq!(Verifier::hs256(&secret(""), None).unwrap_err(), EmptySecret);
    assert_eq!(Minter::hs256(&secret(""), None).unwrap_err(), EmptySecret);
}

#[test]
fn no_output_shows_the_secret() {
    let minter = Minter::hs256(&secret("hunter2"), None).unwrap();
    let verifier = Verifier::hs256(&secret("hunter2"), None).unwrap();
    assert!(!format!("{minter:?} {verifier:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn what_nobody_signed_is_never_accepted(text in "\\PC*") {
        prop_assert!(verifier().verify(&text, now()).is_err());
    }

    #[test]
    fn three_parts_that_nobody_signed_are_never_accepted(text in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){2}") {
        prop_assert!(verifier().verify(&text, now()).is_err());
    }

    #[test]
    fn a_changed_byte_makes_a_token_invalid(at in any::<proptest::sample::Index>(), byte in b'!'..b'~') {
        let mut token = sign(&Header::new(Algorithm::HS256), &json!({"sub": "ann"}), "the key").into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        let token = String::from_utf8(token).unwrap();
        prop_assert!(matches!(verifier().verify(&token, now()), Err(Error::Invalid(_))));
    }
}
