//! What connection tokens may say, and what it means. Times and recipients are the same for every token.

use serde_json::json;

use super::*;

#[test]
fn a_token_lives_from_nbf_until_before_exp_without_leeway() {
    let expired = |claims: Value| connection(&claims) == Err(Error::Expired);
    assert!(expired(json!({"exp": NOW})));
    assert!(expired(json!({"exp": NOW as f64 - 0.5})));
    assert!(expired(json!({"exp": 0})));
    assert!(expired(json!({"exp": -1})));
    assert!(!expired(json!({"exp": NOW + 1})));
    assert!(!expired(json!({"exp": NOW as f64 + 0.5})));
    assert!(expired(json!({"nbf": NOW + 1})));
    assert!(!expired(json!({"nbf": NOW})));
    assert!(!expired(json!({"iat": NOW + 1000})));
}

#[test]
fn a_connection_can_outlive_its_token_by_expire_at() {
    let check = |claims: Value, expected: Result<Option<u64>, Error>| {
        let ends = connection(&claims).map(|connection| connection.expires_at);
        assert_eq!(ends, expected.map(|seconds| seconds.map(at)), "{claims}");
    };
    check(json!({}), Ok(None));
    check(json!({"exp": NOW + 5}), Ok(Some(NOW + 5)));
    check(json!({"exp": NOW + 5, "expire_at": NOW + 9}), Ok(Some(NOW + 9)));
    check(json!({"exp": NOW + 9, "expire_at": NOW + 5}), Ok(Some(NOW + 5)));
    check(json!({"exp": NOW + 5, "expire_at": 0}), Ok(None));
    check(json!({"exp": NOW + 5, "expire_at": 0.0}), Ok(None));
    check(json!({"exp": NOW + 5, "expire_at": null}), Ok(Some(NOW + 5)));
    check(json!({"exp": NOW, "expire_at": 0}), Err(Error::Expired));
    check(json!({"exp": NOW, "expire_at": NOW + 9}), Err(Error::Expired));
    check(json!({"expire_at": NOW}), Err(Error::Expired));
    check(json!({"expire_at": -1}), Err(Error::Expired));
}

#[test]
fn absent_and_null_claims_are_an_anonymous_user_without_anything() {
    let nobody = Connection {
        user: String::new(),
        expires_at: None,
        info: Payload::default(),
        subs: [].into(),
    };
    assert_eq!(connection(&json!({})), Ok(nobody.clone()));
    let nulls = json!({
        "sub": null, "exp": null, "nbf": null, "iat": null, "aud": null, "iss": null, "expire_at": null,
        "info": null, "b64info": null, "channels": null, "subs": null, "channel": null, "other": 1,
    });
    assert_eq!(connection(&nulls), Ok(nobody.clone()));
    let empty = json!({"b64info": "", "channels": [], "subs": {}, "channel": "", "meta": {"tenant": 7}});
    assert_eq!(connection(&empty), Ok(nobody));
}

#[test]
fn claims_of_the_wrong_kind_make_a_token_invalid() {
    for claims in [
        json!({"sub": 42}),
        json!({"exp": "tomorrow"}),
        json!({"exp": u64::MAX}),
        json!({"exp": 1e300}),
        json!({"nbf": {}}),
        json!({"iat": "now"}),
        json!({"expire_at": "never"}),
        json!({"expire_at": 1e300}),
        json!({"aud": 1}),
        json!({"iss": []}),
        json!({"channels": "news"}),
        json!({"channels": [1]}),
        json!({"subs": ["news"]}),
        json!({"subs": {"news": 1}}),
        json!({"subs": {"news": {"b64info": "*"}}}),
        json!({"subs": {"news": {"b64data": "*"}}}),
        json!({"subs": {"news": {"override": {"presence": true}}}}),
        json!({"subs": {"news": {"override": {"presence": {"value": 1}}}}}),
        json!({"channel": "news"}),
        json!({"channel": 1}),
        json!({"b64info": "not base64"}),
        json!({"b64info": 1}),
        json!([]),
        json!("text"),
        json!(null),
    ] {
        let refused = connection(&claims);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{claims}: {refused:?}");
    }
}

#[test]
fn a_token_that_is_both_invalid_and_expired_is_invalid() {
    let refused = connection(&json!({"exp": 1, "channel": "news"}));
    assert_eq!(
        refused,
        Err(Error::invalid("claim 'channel' belongs to subscription tokens"))
    );
}

#[test]
fn what_others_see_is_json_on_one_line_or_bytes_that_say_so() {
    let info = |claims: &str| {
        let payload: Box<RawValue> = serde_json::from_str(claims).unwrap();
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &payload, &key).unwrap();
        verifier().connection(&token, now()).settle().unwrap().info
    };
    assert_eq!(info(r#"{"info": {"a":  1.0}}"#), json_data(r#"{"a":  1.0}"#));
    assert_eq!(info("{\"info\": [1,\r\n2]}"), json_data("[1,  2]"));
    assert_eq!(info(r#"{"b64info": "eyJhIjoKMX0="}"#), json_data(r#"{"a": 1}"#));
    assert_eq!(info(r#"{"b64info": "/wA="}"#), binary(&[0xff, 0]));
    assert_eq!(info(r#"{"b64info": "Cg=="}"#), binary(b"\n"));
    // Where both are given, base64 counts; where it is empty, it is not given.
    assert_eq!(info(r#"{"info": 1, "b64info": "Mg=="}"#), json_data("2"));
    assert_eq!(info(r#"{"info": 1, "b64info": ""}"#), json_data("1"));
    assert_eq!(binary(b"\n").into_json(), "");
    assert_eq!(json_data("1").into_json(), "1");
}

#[test]
fn a_token_subscribes_to_channels_each_with_its_own_options() {
    let claims = json!({"subs": {
        "news": {},
        "tasks": {"info": {"n": 1}, "b64data": "/wA=", "data": 5},
        "user:ann": {"override": {
            "presence": {"value": true},
            "join_leave": {"value": false},
            "force_push_join_leave": {},
            "force_recovery": null,
            "unknown": {"value": true},
        }},
        "void": null,
    }});
    let expected = [
        ("news".to_owned(), Options::default()),
        (
            "tasks".to_owned(),
            Options {
                info: json_data(r#"{"n":1}"#),
                data: binary(&[0xff, 0]),
                overrides: Overrides::default(),
            },
        ),
        (
            "user:ann".to_owned(),
            Options {
                overrides: Overrides {
                    presence: Some(true),
                    join_leave: Some(false),
                    force_push_join_leave: Some(false),
                    force_recovery: None,
                    force_positioning: None,
                },
                ..Options::default()
            },
        ),
        ("void".to_owned(), Options::default()),
    ];
    assert_eq!(connection(&claims).unwrap().subs, expected.into());
}

#[test]
fn channels_are_subscriptions_without_options_and_do_not_count_beside_subs() {
    let subs = |claims: Value| connection(&claims).unwrap().subs.into_keys().collect::<Vec<_>>();
    assert_eq!(subs(json!({"channels": ["b", "a", "b"]})), ["a", "b"]);
    assert_eq!(subs(json!({"channels": ["a"], "subs": {"b": {}}})), ["b"]);
    assert_eq!(subs(json!({"channels": ["a"], "subs": {}})), ["a"]);
}

#[test]
fn the_audience_counts_only_where_one_is_configured() {
    let strict = expecting(Expected {
        audience: Some("tidings".to_owned()),
        issuer: None,
    });
    for (claims, accepted) in [
        (json!({"aud": "tidings"}), true),
        (json!({"aud": ["other", "tidings"]}), true),
        (json!({"aud": "other"}), false),
        (json!({"aud": "tidings2"}), false),
        (json!({"aud": []}), false),
        (json!({}), false),
    ] {
        let token = signed(&claims);
        assert_eq!(
            strict.connection(&token, now()).settle().is_ok(),
            accepted,
            "{claims}"
        );
        assert!(verifier().connection(&token, now()).settle().is_ok(), "{claims}");
    }
}

#[test]
fn the_issuer_counts_only_where_one_is_configured() {
    let strict = expecting(Expected {
        audience: None,
        issuer: Some("https://id.example.com".to_owned()),
    });
    for (claims, accepted) in [
        (json!({"iss": "https://id.example.com"}), true),
        (json!({"iss": "https://id.example.com/"}), false),
        (json!({"iss": ""}), false),
        (json!({}), false),
    ] {
        let token = signed(&claims);
        assert_eq!(
            strict.connection(&token, now()).settle().is_ok(),
            accepted,
            "{claims}"
        );
        assert!(verifier().connection(&token, now()).settle().is_ok(), "{claims}");
    }
}

#[test]
fn a_critical_extension_is_not_ignored() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["exp".to_owned()]);
    let token = sign(&header, &json!({}), SECRET);
    let refused = verifier().connection(&token, now()).settle();
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}
