//! Every algorithm that is supported, and every way to pass one off as another.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::{
    pairs::{ED25519, OTHER_P256, OTHER_RSA, P256, P384, Pair, RSA, kinds},
    *,
};

fn by_file(pair: &Pair) -> Verifier {
    Verifier::new(Keyring::pem(&pair.public_pem).unwrap(), Expected::default())
}

fn refused(verifier: &Verifier, token: &str) {
    let outcome = verifier.connection(token, now()).settle();
    assert!(matches!(outcome, Err(Error::Invalid(_))), "{token}: {outcome:?}");
}

fn part(json: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
}

#[test]
fn a_secret_is_for_every_hmac() {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = sign(&Header::new(algorithm), &json!({"sub": "ann"}), SECRET);
        let connection = verifier().connection(&token, now()).settle().unwrap();
        assert_eq!(connection.user, "ann", "{algorithm:?}");
        refused(
            &verifier(),
            &sign(&Header::new(algorithm), &json!({}), "another key"),
        );
    }
}

#[test]
fn a_public_key_is_for_the_algorithms_of_its_kind() {
    for pair in kinds() {
        for &algorithm in pair.algorithms {
            let token = pair.sign(algorithm, &json!({"sub": "ann"}));
            let connection = by_file(pair).connection(&token, now()).settle().unwrap();
            assert_eq!(connection.user, "ann", "{algorithm:?}");
        }
    }
}

#[test]
fn a_token_of_one_kind_is_refused_by_keys_of_every_other() {
    for signer in kinds() {
        let token = signer.sign(signer.algorithms[0], &json!({}));
        refused(&verifier(), &token);
        for other in kinds() {
            if other.algorithms != signer.algorithms {
                refused(&by_file(other), &token);
            }
        }
        refused(
            &by_file(signer),
            &sign(&Header::new(Algorithm::HS256), &json!({}), SECRET),
        );
    }
    refused(&by_file(&OTHER_RSA), &RSA.sign(Algorithm::RS256, &json!({})));
    refused(&by_file(&OTHER_P256), &P256.sign(Algorithm::ES256, &json!({})));
}

#[test]
fn probabilistic_rsa_signatures_are_not_for_these_tokens() {
    for algorithm in [Algorithm::PS256, Algorithm::PS384, Algorithm::PS512] {
        refused(&by_file(&RSA), &RSA.sign(algorithm, &json!({})));
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for pair in kinds() {
        let inside = pem_contents(&pair.public_pem);
        for secret in [
            pair.public_pem.as_bytes(),
            pair.public_pem.trim().as_bytes(),
            &inside,
        ] {
            let key = EncodingKey::from_secret(secret);
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let token = jsonwebtoken::encode(&Header::new(algorithm), &json!({}), &key).unwrap();
                refused(&by_file(pair), &token);
            }
        }
    }
}

fn pem_contents(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::prelude::BASE64_STANDARD.decode(lines).unwrap()
}

#[test]
fn what_a_token_says_of_its_algorithm_opens_nothing() {
    let hmac = signed(&json!({"sub": "eve"}));
    let rsa = RSA.sign(Algorithm::RS256, &json!({"sub": "eve"}));
    for (token, verifier) in [(&hmac, verifier()), (&rsa, by_file(&RSA))] {
        assert!(verifier.connection(token, now()).settle().is_ok());
        let [_, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!("three parts")
        };
        for algorithm in [
            "none", "None", "NONE", "HS256", "HS384", "RS256", "RS384", "PS256", "ES256", "ES512", "EdDSA",
            "hs256", "",
        ] {
            let header = part(&json!({"alg": algorithm, "typ": "JWT"}));
            for forged in [
                format!("{header}.{payload}."),
                format!("{header}.{payload}"),
                format!("{header}.{payload}.{signature}"),
            ] {
                if forged != *token {
                    refused(&verifier, &forged);
                }
            }
        }
    }
}

#[test]
fn a_key_inside_the_token_signs_nothing() {
    let header = Header {
        jwk: Some(serde_json::from_value(OTHER_RSA.jwk("inside")).unwrap()),
        jku: Some("https://eve.example.com/keys".to_owned()),
        ..Header::new(Algorithm::RS256)
    };
    let token = jsonwebtoken::encode(&header, &json!({}), &OTHER_RSA.private).unwrap();
    refused(&by_file(&RSA), &token);
}

#[test]
fn an_empty_or_zero_signature_is_no_signature() {
    for pair in kinds() {
        let token = pair.sign(pair.algorithms[0], &json!({}));
        let (message, signature) = token.rsplit_once('.').unwrap();
        let length = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap().len();
        let zeros = BASE64_URL_SAFE_NO_PAD.encode(vec![0; length]);
        refused(&by_file(pair), &format!("{message}."));
        refused(&by_file(pair), &format!("{message}.{zeros}"));
        refused(&by_file(pair), &format!("{message}.{signature}AA"));
    }
}

#[test]
fn keys_of_several_kinds_in_one_file_all_count() {
    let text = [&*P256, &*RSA, &*ED25519, &*P384, &*OTHER_RSA]
        .map(|pair| format!("a comment\n{}", pair.public_pem))
        .concat();
    let verifier = Verifier::new(Keyring::pem(&text).unwrap(), Expected::default());
    for pair in [&*P256, &*RSA, &*ED25519, &*P384, &*OTHER_RSA] {
        let token = pair.sign(pair.algorithms[0], &json!({}));
        assert!(verifier.connection(&token, now()).settle().is_ok());
    }
    refused(&verifier, &OTHER_P256.sign(Algorithm::ES256, &json!({})));
    refused(&verifier, &signed(&json!({})));
}

#[test]
fn during_a_rotation_the_previous_secret_counts_until_its_time() {
    let long = |key: &str| key.repeat(32);
    let keys = |until| Keyring::secrets(&secret(&long("new")), &secret(&long("old")), until).unwrap();
    let open = |keys, key| {
        let token = sign(&Header::new(Algorithm::HS256), &json!({}), &long(key));
        Verifier::new(keys, Expected::default())
            .connection(&token, now())
            .settle()
            .is_ok()
    };
    assert!(open(keys(None), "new") && open(keys(None), "old"));
    assert!(open(keys(Some(at(NOW + 1))), "old"));
    assert!(!open(keys(Some(at(NOW))), "old"));
    assert!(open(keys(Some(at(NOW))), "new"));
    assert!(!open(keys(None), "older"));
}
