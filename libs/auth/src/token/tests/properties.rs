//! What holds for every text, whoever made it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::{
    pairs::{P256, RSA},
    *,
};
use crate::token::jwk;

/// Any JSON that is not too deep.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("\\PC{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Claims with names that mean something and values that may not.
fn claims() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "sub",
        "exp",
        "nbf",
        "iat",
        "aud",
        "iss",
        "expire_at",
        "info",
        "b64info",
        "channels",
        "subs",
        "channel",
        "client",
        "data",
        "b64data",
        "override",
        "meta",
    ]);
    prop::collection::hash_map(name.prop_map(str::to_owned), value(), 0..6)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

const BEARER: Bearer<'_> = Bearer {
    user: "ann",
    client: "c",
    channel: "news",
};

proptest! {
    #[test]
    fn what_nobody_signed_is_never_accepted(text in "\\PC*") {
        prop_assert!(verifier().connection(&text, now()).settle().is_err());
        prop_assert!(verifier().subscription(&text, &BEARER, now()).settle().is_err());
    }

    #[test]
    fn three_parts_that_nobody_signed_are_never_accepted(text in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){2}") {
        prop_assert!(verifier().connection(&text, now()).settle().is_err());
    }

    #[test]
    fn any_header_before_what_nobody_signed_is_refused(header in value(), claims in claims(), signature in prop::collection::vec(any::<u8>(), 0..80)) {
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let token = format!(
            "{}.{}.{}",
            part(header.to_string().as_bytes()),
            part(claims.to_string().as_bytes()),
            part(&signature),
        );
        let outcome = verifier().connection(&token, now()).settle();
        prop_assert!(matches!(outcome, Err(Error::Invalid(_))));
    }

    #[test]
    fn a_changed_byte_makes_a_token_invalid(at in any::<prop::sample::Index>(), byte in b'!'..b'~', asymmetric in any::<bool>()) {
        let claims = json!({"sub": "ann"});
        let (verifier, token) = if asymmetric {
            let keys = Keyring::pem(&P256.public_pem).unwrap();
            (Verifier::new(keys, Expected::default()), P256.sign(Algorithm::ES256, &claims))
        } else {
            (verifier(), signed(&claims))
        };
        let mut token = token.into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        let token = String::from_utf8(token).unwrap();
        prop_assert!(matches!(verifier.connection(&token, now()).settle(), Err(Error::Invalid(_))));
    }

    #[test]
    fn any_signed_claims_are_answered_and_what_is_accepted_fits_on_a_line(claims in claims()) {
        let one_line = |payload: &Payload| {
            payload.format == tidings_core::Format::Binary || !payload.data.iter().any(|byte| b"\r\n".contains(byte))
        };
        let token = signed(&claims);
        if let Ok(connection) = verifier().connection(&token, now()).settle() {
            prop_assert!(connection.expires_at.is_none_or(|end| end > now()));
            prop_assert!(one_line(&connection.info));
            prop_assert!(connection.subs.values().all(|options| one_line(&options.info) && one_line(&options.data)));
        }
        if let Ok(subscription) = verifier().subscription(&token, &BEARER, now()).settle() {
            prop_assert_eq!(&claims["channel"], "news");
            prop_assert_eq!(&claims["sub"], "ann");
            prop_assert!(subscription.expires_at.is_none_or(|end| end > now()));
        }
    }

    #[test]
    fn times_are_compared_as_the_rules_say(
        exp in prop::option::of(-5_i64..5),
        nbf in prop::option::of(-5_i64..5),
        expire_at in prop::option::of(prop_oneof![Just(None), (-5_i64..5).prop_map(Some)]),
    ) {
        let date = |offset: i64| NOW.strict_add_signed(offset);
        let claims = json!({
            "exp": exp.map(date),
            "nbf": nbf.map(date),
            "expire_at": expire_at.map(|offset| offset.map_or(0, date)),
        });
        let past = |offset: Option<i64>| offset.is_some_and(|offset| offset <= 0);
        let ends = expire_at.unwrap_or(exp);
        let expected = if past(exp) || past(ends) || nbf.is_some_and(|nbf| nbf > 0) {
            Err(Error::Expired)
        } else {
            Ok(ends.map(date).map(at))
        };
        prop_assert_eq!(connection(&claims).map(|connection| connection.expires_at), expected);
    }

    #[test]
    fn no_text_breaks_the_reader_of_key_files(text in "(-----(BEGIN|END) ([A-Z ]{0,12}|PUBLIC KEY)-----|[A-Za-z0-9+/=\\n]{0,40}|\\PC{0,8}){0,8}") {
        prop_assert!(Keyring::pem(&text).is_err());
    }

    #[test]
    fn no_text_breaks_the_reader_of_key_sets(text in prop::collection::vec(any::<u8>(), 0..200), keys in prop::collection::vec(value(), 0..4)) {
        prop_assert!(jwk::read(&text).is_err());
        let set = json!({"keys": keys}).to_string();
        prop_assert!(jwk::read(set.as_bytes()).is_err());
    }

    #[test]
    fn a_key_with_one_member_of_any_kind_breaks_nothing(member in prop::sample::select(vec!["kty", "kid", "alg", "use", "key_ops", "crv", "n", "e", "x", "y"]), wrong in value()) {
        for pair in [&*P256, &*RSA] {
            let mut key = pair.jwk("a");
            key[member] = wrong.clone();
            let set = json!({"keys": [key, P256.jwk("other")]}).to_string();
            prop_assert!(jwk::read(set.as_bytes()).unwrap().contains_key("other"));
        }
    }
}
