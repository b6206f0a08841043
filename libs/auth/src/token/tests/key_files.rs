//! Which keys can be used, and what is said of those that cannot.

use aws_lc_rs::{
    encoding::AsDer,
    rsa,
    signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};

use super::{
    pairs::{P256, RSA, kinds, pem},
    *,
};

fn unusable(text: &str) -> Unusable {
    Keyring::pem(text).unwrap_err()
}

#[test]
fn a_secret_is_something_that_others_cannot_know() {
    assert_eq!(Keyring::secret(&secret("")).unwrap_err(), Unusable::Empty);
    assert_eq!(
        Minter::hs256(&secret(""), Expected::default()).unwrap_err(),
        Unusable::Empty
    );
    for pair in kinds() {
        assert_eq!(
            Keyring::secret(&secret(&pair.public_pem)).unwrap_err(),
            Unusable::PemSecret
        );
    }
    let indented = format!("\n  {}", RSA.public_pem);
    let error = Keyring::secret(&secret(&indented)).unwrap_err();
    assert_eq!(error, Unusable::PemSecret);
    assert!(!error.to_string().contains("MII"));
    let short = Keyring::secret(&secret(&"x".repeat(31))).unwrap_err();
    assert_eq!(
        short.to_string(),
        "the token secret is 31 bytes long; at least 32 are needed, and they should be random"
    );
    assert!(Keyring::secret(&secret(&"x".repeat(32))).is_ok());
    for (now, before) in [(SECRET, ""), ("", SECRET)] {
        let error = Keyring::secrets(&secret(now), &secret(before), None).unwrap_err();
        assert_eq!(error, Unusable::Empty);
    }
}

#[test]
fn a_private_key_is_not_asked_for() {
    for pair in kinds() {
        assert_eq!(unusable(&pair.private_pem), Unusable::Private);
    }
    assert_eq!(unusable(&pem("RSA PRIVATE KEY", b"secret")), Unusable::Private);
    assert_eq!(unusable(&pem("EC PRIVATE KEY", b"secret")), Unusable::Private);
}

#[test]
fn text_without_a_key_is_said_to_have_none() {
    let cut = &RSA.public_pem[..100];
    for text in [
        "",
        "a key",
        "-----BEGIN ",
        "-----BEGIN PUBLIC KEY-----",
        cut,
        &pem("CERTIFICATE", b"x"),
    ] {
        assert_eq!(unusable(text), Unusable::NoKey, "{text}");
    }
}

#[test]
fn a_key_that_is_not_what_it_says_is_refused() {
    for der in [&b""[..], b"\x30\x00", b"garbage"] {
        assert_eq!(unusable(&pem("PUBLIC KEY", der)), Unusable::Kind, "{der:?}");
        assert_eq!(unusable(&pem("RSA PUBLIC KEY", der)), Unusable::Kind, "{der:?}");
    }
    // A point of the right length that lies on no curve, in the frame of one that does.
    let mut der = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING)
        .unwrap()
        .public_key()
        .as_der()
        .unwrap()
        .as_ref()
        .to_vec();
    *der.last_mut().unwrap() ^= 1;
    assert_eq!(unusable(&pem("PUBLIC KEY", &der)), Unusable::Kind);
}

#[test]
fn a_curve_that_is_not_supported_is_named() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
    let text = pem("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
    assert_eq!(unusable(&text), Unusable::P521);
}

#[test]
fn a_small_rsa_key_is_refused_with_its_size() {
    // 1024 bits, from a private key that was thrown away.
    let small = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCmLpi+pIQqcNwrWblFaB9+SqF3
Ix3By3nzFAQccfZfeUjKn1NfFwQqyLzjF7/7RqwlFtg7YJIefKbhn9QHNas0YLxJ
cV7T29qZeAFd+jq4Tv+ZqoAE93OFf++pJ/KRxAIYqhhfOnXS1vJ61D3W0jPk3YOd
2+NvuwhbnymuwMf/swIDAQAB
-----END PUBLIC KEY-----
";
    assert_eq!(unusable(small), Unusable::RsaSize { bits: 1024 });
}

#[test]
fn rsa_keys_come_in_either_frame() {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    // What the key shows of itself without a frame is RFC 8017's structure.
    assert!(Keyring::pem(&pem("RSA PUBLIC KEY", pair.public_key().as_ref())).is_ok());
    assert!(Keyring::pem(&RSA.public_pem).is_ok());
}

#[test]
fn line_ends_and_commentary_do_not_matter() {
    let text = format!(
        "# the key of 2026\r\n{}trailing",
        P256.public_pem.replace('\n', "\r\n")
    );
    assert!(Keyring::pem(&text).is_ok());
}

#[test]
fn a_file_has_as_many_keys_as_a_rotation_needs_and_all_must_be_good() {
    assert!(Keyring::pem(&P256.public_pem.repeat(MAX_KEYS)).is_ok());
    assert_eq!(unusable(&P256.public_pem.repeat(MAX_KEYS + 1)), Unusable::TooMany);
    let mixed = format!("{}{}", P256.public_pem, RSA.private_pem);
    assert_eq!(unusable(&mixed), Unusable::Private);
}
