//! Keys that are published: which are used, how long they are kept, and what becomes of clients meanwhile.

use serde_json::json;
use tokio::task::JoinSet;
use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use url::Url;

use super::{
    pairs::{ED25519, OTHER_P256, P256, P384, Pair, RSA, kinds},
    server::{AUTHORITY, Mood, Server},
    *,
};
use crate::token::{fetch::Endpoint, jwk, jwks::Jwks};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

fn set(keys: &[Value]) -> Mood {
    Mood::Document(json!({"keys": keys}).to_string())
}

fn asking(server: &Server) -> Verifier {
    Verifier::new(Keyring::jwks(&server.url).unwrap(), Expected::default())
}

fn ann(pair: &Pair, kid: &str) -> String {
    pair.sign_as(kid, &json!({"sub": "ann"}))
}

/// What a client experiences: a check, and where it is told to, a fetch and another check.
async fn enter(verifier: &Verifier, token: &str, now: SystemTime) -> Result<String, Error> {
    let check = verifier.connection(token, now);
    if check == Check::Fetch {
        let _ = verifier.fetch(now).await;
        return verifier
            .connection(token, now)
            .settle()
            .map(|connection| connection.user);
    }
    check.settle().map(|connection| connection.user)
}

fn accepted(outcome: &Result<String, Error>) -> bool {
    outcome.as_deref() == Ok("ann")
}

fn invalid<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Invalid(_)))
}

#[tokio::test]
async fn keys_of_every_kind_are_fetched_once_and_kept() {
    let keys: Vec<_> = kinds()
        .iter()
        .enumerate()
        .map(|(n, pair)| pair.jwk(&n.to_string()))
        .collect();
    let server = Server::start(set(&keys)).await;
    let verifier = asking(&server);
    for (n, pair) in kinds().iter().enumerate() {
        let outcome = enter(&verifier, &ann(pair, &n.to_string()), now()).await;
        assert!(accepted(&outcome), "{outcome:?}");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_verifier_that_was_warmed_never_says_fetch() {
    let server = Server::start(set(&[P256.jwk("a")])).await;
    let verifier = asking(&server);
    assert_eq!(verifier.connection(&ann(&P256, "a"), now()), Check::Fetch);
    verifier.fetch(now()).await.unwrap();
    for age in [0, HOUR - 1] {
        assert!(matches!(
            verifier.clone().connection(&ann(&P256, "a"), at(NOW + age)),
            Check::Done(Ok(_))
        ));
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_token_must_say_which_key_and_the_key_how_it_signs() {
    let mut es384_only = RSA.jwk("rs384");
    es384_only["alg"] = json!("RS384");
    let server = Server::start(set(&[
        P256.jwk("p256"),
        P384.jwk("p384"),
        RSA.jwk("rsa"),
        es384_only,
    ]))
    .await;
    let verifier = asking(&server);
    verifier.fetch(now()).await.unwrap();
    let check = |token: &str| verifier.connection(token, now()).settle();

    assert!(
        invalid(&check(&P256.sign(Algorithm::ES256, &json!({})))),
        "no kid"
    );
    assert!(invalid(&check(&ann(&P256, "p384"))), "another's kid");
    assert!(invalid(&check(&ann(&P256, "rsa"))), "another's kid");
    assert!(invalid(&check(&ann(&OTHER_P256, "p256"))), "another's signature");
    assert!(invalid(&check(&ann(&RSA, "rs384"))), "RS256 with a key for RS384");
    assert!(check(&ann(&RSA, "rsa")).is_ok());
    let header = |kid: &str, algorithm| Header {
        kid: Some(kid.to_owned()),
        ..Header::new(algorithm)
    };
    let rs384 = jsonwebtoken::encode(&header("rs384", Algorithm::RS384), &json!({}), &RSA.private).unwrap();
    assert!(check(&rs384).is_ok());
    let hmac = sign(&header("rsa", Algorithm::HS256), &json!({}), &RSA.public_pem);
    assert!(invalid(&check(&hmac)), "a public key as a secret");
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_ends() {
    let server = Server::start(set(&[P256.jwk("old")])).await;
    let verifier = asking(&server);
    assert!(accepted(&enter(&verifier, &ann(&P256, "old"), now()).await));

    server.is_now(set(&[RSA.jwk("new")]));
    let later = at(NOW + MINUTE);
    assert!(accepted(&enter(&verifier, &ann(&P256, "old"), later).await));
    assert!(accepted(&enter(&verifier, &ann(&RSA, "new"), later).await));
    assert!(invalid(&enter(&verifier, &ann(&P256, "old"), later).await));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_ends_after_an_hour_unasked() {
    let server = Server::start(set(&[P256.jwk("old"), RSA.jwk("new")])).await;
    let verifier = asking(&server);
    assert!(accepted(&enter(&verifier, &ann(&P256, "old"), now()).await));
    server.is_now(set(&[RSA.jwk("new")]));
    assert!(accepted(
        &enter(&verifier, &ann(&P256, "old"), at(NOW + HOUR - 1)).await
    ));
    assert!(invalid(
        &enter(&verifier, &ann(&P256, "old"), at(NOW + HOUR)).await
    ));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn unknown_keys_are_asked_for_at_most_once_a_minute() {
    let server = Server::start(set(&[P256.jwk("a")])).await;
    let verifier = asking(&server);
    for n in 0..100 {
        let outcome = enter(&verifier, &ann(&P256, &n.to_string()), now()).await;
        assert!(invalid(&outcome), "{outcome:?}");
    }
    assert_eq!(server.requests(), 1);
    // By now the key may have been added: the client may come again.
    let soon = at(NOW + MINUTE - 1);
    assert_eq!(
        enter(&verifier, &ann(&RSA, "b"), soon).await,
        Err(Error::Unavailable)
    );
    assert_eq!(server.requests(), 1);
    assert!(invalid(
        &enter(&verifier, &ann(&RSA, "b"), at(NOW + MINUTE)).await
    ));
    assert_eq!(server.requests(), 2);
    assert!(accepted(
        &enter(&verifier, &ann(&P256, "a"), at(NOW + MINUTE)).await
    ));
}

#[tokio::test]
async fn many_who_need_the_same_key_ask_once() {
    let server = Server::start(set(&[P256.jwk("a")])).await;
    let verifier = asking(&server);
    let token = ann(&P256, "a");
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let (verifier, token) = (verifier.clone(), token.clone());
        clients.spawn(async move { enter(&verifier, &token, now()).await });
    }
    for outcome in clients.join_all().await {
        assert!(accepted(&outcome), "{outcome:?}");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn while_the_endpoint_is_away_old_keys_count_and_new_ones_wait() {
    let server = Server::start(set(&[P256.jwk("a")])).await;
    let verifier = asking(&server);
    assert!(accepted(&enter(&verifier, &ann(&P256, "a"), now()).await));
    drop(server);
    for hours in [1, 2, 24 * 365] {
        let later = at(NOW + hours * HOUR);
        assert!(accepted(&enter(&verifier, &ann(&P256, "a"), later).await));
        assert_eq!(
            enter(&verifier, &ann(&RSA, "b"), later).await,
            Err(Error::Unavailable)
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_comes_back_is_asked_again_after_a_minute() {
    let server = Server::start(Mood::Status("503 Service Unavailable")).await;
    let verifier = asking(&server);
    let token = ann(&P256, "a");
    assert_eq!(enter(&verifier, &token, now()).await, Err(Error::Unavailable));
    server.is_now(set(&[P256.jwk("a")]));
    assert_eq!(
        enter(&verifier, &token, at(NOW + 59)).await,
        Err(Error::Unavailable)
    );
    assert!(accepted(&enter(&verifier, &token, at(NOW + 60)).await));
}

#[tokio::test]
async fn a_clock_that_is_set_back_costs_one_more_request() {
    let server = Server::start(set(&[P256.jwk("a")])).await;
    let verifier = asking(&server);
    for _ in 0..3 {
        assert!(accepted(&enter(&verifier, &ann(&P256, "a"), now()).await));
    }
    for _ in 0..3 {
        assert!(accepted(
            &enter(&verifier, &ann(&P256, "a"), at(NOW - HOUR)).await
        ));
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn who_gives_up_waiting_neither_blocks_the_others_nor_makes_them_ask_again() {
    let server = Server::start(Mood::Silent).await;
    let verifier = asking(&server);
    let mut impatient = JoinSet::new();
    impatient.spawn({
        let verifier = verifier.clone();
        async move { verifier.fetch(now()).await }
    });
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    // Someone is asking, so another client is told to wait for them.
    assert_eq!(verifier.connection(&ann(&P256, "a"), now()), Check::Fetch);
    impatient.shutdown().await;

    server.is_now(set(&[P256.jwk("a")]));
    assert_eq!(
        enter(&verifier, &ann(&P256, "a"), now()).await,
        Err(Error::Unavailable)
    );
    assert!(accepted(&enter(&verifier, &ann(&P256, "a"), at(NOW + 60)).await));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_bad_answer_is_described_tried_twice_and_changes_nothing() {
    let server = Server::start(set(&[P256.jwk("a")])).await;
    let verifier = asking(&server);
    verifier.fetch(now()).await.unwrap();
    let many = vec![P256.jwk("a"); jwk::MAX_KEYS + 1];
    for (n, (mood, why)) in [
        (
            Mood::Status("404 Not Found"),
            "the answer is 404 Not Found, expected 200 OK",
        ),
        (
            Mood::Status("302 Found"),
            "the answer is 302 Found, expected 200 OK",
        ),
        (Mood::Endless, "the answer has more than 1048576 bytes"),
        (Mood::EndlessHeader, "message head is too large"),
        (Mood::Broken, "end of file before message length reached"),
        (Mood::Garbage, "invalid HTTP version parsed"),
        (
            Mood::Document("<html>".to_owned()),
            "the answer is no JSON Web Key Set: expected value",
        ),
        (
            Mood::Document("{}".to_owned()),
            "the answer is no JSON Web Key Set: missing field `keys`",
        ),
        (set(&[]), "the set has no usable key"),
        (set(&many), "the set has 257 keys, at most 256 are read"),
    ]
    .into_iter()
    .enumerate()
    {
        let later = at(NOW + (n as u64 + 1) * HOUR);
        server.is_now(mood);
        let before = server.requests();
        let error = verifier.fetch(later).await.unwrap_err().to_string();
        let start = format!("cannot fetch keys from {}: ", server.url);
        assert!(error.starts_with(&start) && error.contains(why), "{error}");
        assert_eq!(server.requests(), before + 2, "{why}");
        assert!(
            accepted(&enter(&verifier, &ann(&P256, "a"), later).await),
            "{why}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_is_waited_for_as_long_as_was_said() {
    let server = Server::start(Mood::Silent).await;
    let verifier = asking(&server);
    let begin = tokio::time::Instant::now();
    let error = verifier.fetch(now()).await.unwrap_err().to_string();
    assert!(error.ends_with("no answer within 1 s"), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 2 * FETCH_TIMEOUT.as_secs());
}

#[tokio::test]
async fn an_absent_endpoint_is_named_with_the_reason() {
    let server = Server::start(set(&[])).await;
    let verifier = asking(&server);
    let url = server.url.clone();
    drop(server);
    let error = verifier.fetch(now()).await.unwrap_err().to_string();
    assert!(
        error.contains(url.as_str()) && error.contains("Connection refused"),
        "{error}"
    );
}

#[tokio::test]
async fn over_tls_only_a_server_with_a_trusted_certificate_for_its_name_is_believed() {
    let server = Server::start_tls(set(&[ED25519.jwk("a")])).await;
    let trusting = |roots, url: &Url| {
        let jwks = Jwks::new(Endpoint::trusting(url, roots).unwrap());
        Verifier::new(Keyring::published(jwks), Expected::default())
    };
    let authority = || {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(AUTHORITY).unwrap())
            .unwrap();
        roots
    };
    let outcome = enter(&trusting(authority(), &server.url), &ann(&ED25519, "a"), now()).await;
    assert!(accepted(&outcome), "{outcome:?}");

    let stranger = trusting(RootCertStore::empty(), &server.url).fetch(now()).await;
    assert!(stranger.unwrap_err().to_string().contains("UnknownIssuer"));
    // What this machine trusts does not include the tests.
    let error = asking(&server).fetch(now()).await.unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    let mut by_address = server.url.clone();
    by_address.set_host(Some("127.0.0.1")).unwrap();
    let error = trusting(authority(), &by_address)
        .fetch(now())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[test]
fn only_keys_for_signatures_that_are_understood_are_used() {
    let used = |change: &dyn Fn(&mut Value)| {
        let mut key = P256.jwk("a");
        change(&mut key);
        let text = json!({"keys": [key, RSA.jwk("other")]}).to_string();
        let keys = jwk::read(text.as_bytes()).unwrap();
        assert!(keys.contains_key("other"));
        keys.len() == 2
    };
    assert!(used(&|_| ()));
    assert!(used(&|key| key["alg"] = json!("ES256")));
    assert!(used(&|key| key["use"] = json!("sig")));
    assert!(used(&|key| key["key_ops"] = json!(["verify"])));
    assert!(used(&|key| key["x5t"] = json!("unknown")));
    for (member, value) in [
        ("alg", json!("ES384")),
        ("alg", json!("RS256")),
        ("alg", json!("none")),
        ("alg", json!(1)),
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("kty", json!("oct")),
        ("kty", json!("RSA")),
        ("kty", json!(null)),
        ("kid", json!(null)),
        ("kid", json!(7)),
        ("crv", json!("P-384")),
        ("crv", json!("P-521")),
        ("crv", json!("secp256k1")),
        ("x", json!("AAAA")),
        ("x", json!("*")),
        ("y", json!(null)),
    ] {
        assert!(!used(&|key| key[member] = value.clone()), "{member}: {value}");
    }
}

#[test]
fn a_secret_in_a_set_is_no_key() {
    let secret = json!({"kty": "oct", "kid": "a", "k": "dGhlIGtleQ", "alg": "HS256"});
    let text = json!({"keys": [secret]}).to_string();
    assert!(jwk::read(text.as_bytes()).is_err());
}

#[test]
fn a_small_key_in_a_set_is_passed_over_and_zeros_in_front_do_not_make_it_larger() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    for (zeros, bytes) in [(0, 128), (200, 128), (0, 255), (0, 1025)] {
        let modulus = [vec![0; zeros], vec![0xff; bytes]].concat();
        let key = json!({"kty": "RSA", "kid": "a", "e": "AQAB", "n": BASE64_URL_SAFE_NO_PAD.encode(modulus)});
        let text = json!({"keys": [key]}).to_string();
        assert!(jwk::read(text.as_bytes()).is_err(), "{zeros} {bytes}");
    }
}

#[test]
fn of_two_keys_with_one_name_the_first_counts() {
    let text = json!({"keys": [P256.jwk("a"), OTHER_P256.jwk("a")]}).to_string();
    let keys = jwk::read(text.as_bytes()).unwrap();
    assert_eq!(keys.len(), 1);
    assert!(keys["a"].open(&ann(&P256, "a")).is_ok());
}
