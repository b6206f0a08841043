//! What people write, and what they are told when it cannot be meant.

use std::io::Write;

use serde_json::json;

use super::{pairs::RSA, *};

fn parse(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

fn refused(text: &str) -> String {
    parse(text).verifier().unwrap_err().to_string()
}

#[test]
fn without_a_key_nothing_is_checked_or_minted() {
    let config = parse("audience = 'tidings'");
    assert!(config.verifier().unwrap().is_none());
    assert!(config.minter().unwrap().is_none());
}

#[test]
fn what_a_configuration_mints_it_accepts() {
    let config = parse(&format!(
        "hmac_secret = '{SECRET}'\naudience = 'tidings'\nissuer = 'us'"
    ));
    let token = config
        .minter()
        .unwrap()
        .unwrap()
        .connection("ann", &[], None, Duration::from_secs(9), now());
    let verifier = config.verifier().unwrap().unwrap();
    assert_eq!(verifier.connection(&token, now()).settle().unwrap().user, "ann");
    for stricter in ["audience = 'x'", "issuer = 'x'"] {
        let verifier = parse(&format!("hmac_secret = '{SECRET}'\n{stricter}"))
            .verifier()
            .unwrap()
            .unwrap();
        assert!(verifier.connection(&token, now()).settle().is_err(), "{stricter}");
    }
}

#[test]
fn the_previous_secret_counts_until_a_date() {
    let old = "old".repeat(32);
    let config = parse(&format!(
        "hmac_secret = '{SECRET}'\nprevious_hmac_secret = '{old}'\n\
         previous_hmac_secret_until = '2023-11-14T22:13:20Z'",
    ));
    let verifier = config.verifier().unwrap().unwrap();
    let token = sign(&Header::new(Algorithm::HS256), &json!({}), &old);
    // That date is NOW.
    assert!(verifier.connection(&token, at(NOW - 1)).settle().is_ok());
    assert!(verifier.connection(&token, now()).settle().is_err());
}

#[test]
fn a_public_key_is_read_from_its_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(RSA.public_pem.as_bytes()).unwrap();
    let config = parse(&format!("public_key_file = {:?}", file.path()));
    let verifier = config.verifier().unwrap().unwrap();
    let token = RSA.sign(Algorithm::RS256, &json!({}));
    assert!(verifier.connection(&token, now()).settle().is_ok());
    assert!(config.minter().unwrap().is_none());
}

#[test]
fn a_key_that_cannot_be_used_is_named_with_what_to_do() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(RSA.private_pem.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    for (text, expected) in [
        (
            "hmac_secret = ''".to_owned(),
            "hmac_secret: the token secret is empty; set it to at least 32 random bytes".to_owned(),
        ),
        (
            "hmac_secret = ''\nprevious_hmac_secret = 'b'".to_owned(),
            "hmac_secret: the token secret is empty; set it to at least 32 random bytes".to_owned(),
        ),
        (
            format!("hmac_secret = '{SECRET}'\nprevious_hmac_secret = 'short'"),
            "previous_hmac_secret: the token secret is 5 bytes long; at least 32 are needed, and they should \
             be random"
                .to_owned(),
        ),
        (
            format!("hmac_secret = '{SECRET}'\nprevious_hmac_secret = ''"),
            "previous_hmac_secret: the token secret is empty; set it to at least 32 random bytes".to_owned(),
        ),
        (
            "public_key_file = '/no/such/file'".to_owned(),
            "public_key_file: cannot read /no/such/file: No such file or directory (os error 2)".to_owned(),
        ),
        (
            format!("public_key_file = '{path}'"),
            format!(
                "public_key_file: {path}: it holds a private key; give the public key that belongs to it"
            ),
        ),
        (
            "jwks_url = 'https://ann:hunter2@example.com/keys'".to_owned(),
            "jwks_url: expected an address such as https://example.com/.well-known/jwks.json, without user and \
             password"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(&text), expected);
    }
    assert!(refused("jwks_url = 'ftp://example.com/keys'").starts_with("jwks_url: expected an address"));
    assert!(refused("jwks_url = 'file:///etc/passwd'").starts_with("jwks_url: expected an address"));
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    for (text, key) in [
        ("hmac_secret = 'a'\npublic_key_file = 'b'", "public_key_file"),
        ("hmac_secret = 'a'\njwks_url = 'https://a/'", "jwks_url"),
        ("public_key_file = 'a'\njwks_url = 'https://a/'", "jwks_url"),
        ("previous_hmac_secret = 'a'", "previous_hmac_secret"),
        (
            "hmac_secret = 'a'\nprevious_hmac_secret_until = '2026-01-01T00:00:00Z'",
            "previous_hmac_secret_until",
        ),
        ("hmac_secret = 'a'\naudience = ''", "audience"),
        ("hmac_secret = 'a'\nissuer = ''", "issuer"),
    ] {
        let error = parse(text).verifier().unwrap_err();
        assert_eq!(error.key, key, "{text}: {error}");
    }
}

#[test]
fn what_is_printed_can_be_read_again_and_shows_no_secret() {
    let config = parse(
        "hmac_secret = 'hunter2'\nprevious_hmac_secret = 'hunter2'\n\
         previous_hmac_secret_until = '2026-12-01T00:00:00Z'\naudience = 'tidings'",
    );
    let shown = toml::to_string(&config).unwrap();
    assert!(
        !shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"),
        "{shown}"
    );
    assert_eq!(
        parse(&shown).previous_hmac_secret_until,
        config.previous_hmac_secret_until
    );
    assert_eq!(toml::to_string(&Config::default()).unwrap(), "");
}
