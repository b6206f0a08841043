//! What subscription tokens may say, and to whom.

use serde_json::json;

use super::*;

const ANN: Bearer<'_> = Bearer {
    user: "ann",
    client: "client-1",
    channel: "$tasks:1",
};

fn subscription(claims: &Value) -> Result<Subscription, Error> {
    verifier().subscription(&signed(claims), &ANN, now()).settle()
}

#[test]
fn a_token_is_for_one_user_in_one_channel_and_where_it_says_so_for_one_client() {
    let check = |claims: Value, expected: Result<(), Error>| {
        assert_eq!(subscription(&claims).map(drop), expected, "{claims}");
    };
    let differs = |claim| Err(Error::Mismatch(claim));
    check(json!({"sub": "ann", "channel": "$tasks:1"}), Ok(()));
    check(
        json!({"sub": "ann", "channel": "$tasks:1", "client": "client-1"}),
        Ok(()),
    );
    check(json!({"sub": "ann", "channel": "$tasks:1", "client": ""}), Ok(()));
    check(json!({"sub": "ann", "channel": "$tasks:2"}), differs("channel"));
    check(json!({"sub": "ann", "channel": ""}), differs("channel"));
    check(json!({"sub": "ann"}), differs("channel"));
    check(json!({"sub": "eve", "channel": "$tasks:1"}), differs("sub"));
    check(json!({"sub": "", "channel": "$tasks:1"}), differs("sub"));
    check(json!({"channel": "$tasks:1"}), differs("sub"));
    check(
        json!({"sub": "ann", "channel": "$tasks:1", "client": "client-2"}),
        differs("client"),
    );
}

#[test]
fn an_anonymous_client_needs_a_token_for_nobody() {
    let anonymous = Bearer { user: "", ..ANN };
    for (claims, expected) in [
        (json!({"channel": "$tasks:1"}), Ok(())),
        (json!({"sub": "", "channel": "$tasks:1"}), Ok(())),
        (
            json!({"sub": "ann", "channel": "$tasks:1"}),
            Err(Error::Mismatch("sub")),
        ),
    ] {
        let outcome = verifier()
            .subscription(&signed(&claims), &anonymous, now())
            .settle();
        assert_eq!(outcome.map(drop), expected, "{claims}");
    }
}

#[test]
fn a_token_says_how_the_channel_treats_the_client() {
    let claims = json!({
        "sub": "ann", "channel": "$tasks:1", "exp": NOW + 5, "expire_at": NOW + 9,
        "info": {"role": "owner"}, "data": [1],
        "override": {
            "presence": {"value": false},
            "join_leave": {"value": true},
            "force_push_join_leave": {"value": true},
            "force_recovery": {"value": true},
            "force_positioning": {"value": false},
        },
    });
    let expected = Subscription {
        expires_at: Some(at(NOW + 9)),
        options: Options {
            info: json_data(r#"{"role":"owner"}"#),
            data: json_data("[1]"),
            overrides: Overrides {
                presence: Some(false),
                join_leave: Some(true),
                force_push_join_leave: Some(true),
                force_recovery: Some(true),
                force_positioning: Some(false),
            },
        },
    };
    assert_eq!(subscription(&claims), Ok(expected));

    let claims = json!({"sub": "ann", "channel": "$tasks:1", "b64info": "/wA=", "b64data": "MQ=="});
    let options = subscription(&claims).unwrap().options;
    assert_eq!((options.info, options.data), (binary(&[0xff, 0]), json_data("1")));
}

#[test]
fn claims_of_the_wrong_kind_make_a_token_invalid() {
    for wrong in [
        json!({"channel": 1}),
        json!({"client": 1}),
        json!({"sub": 1}),
        json!({"b64info": "*"}),
        json!({"b64data": "*"}),
        json!({"override": []}),
        json!({"override": {"force_recovery": "yes"}}),
        json!({"exp": "soon"}),
    ] {
        let mut claims = json!({"sub": "ann", "channel": "$tasks:1"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(wrong.as_object().unwrap().clone());
        let refused = subscription(&claims);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{claims}: {refused:?}");
    }
}

#[test]
fn of_several_reasons_the_first_counts_invalid_expired_another_s() {
    let expired_for_another = json!({"sub": "eve", "channel": "x", "exp": NOW});
    assert_eq!(subscription(&expired_for_another), Err(Error::Expired));
    let all = json!({"sub": "eve", "channel": "x", "exp": NOW, "b64info": "*"});
    assert!(matches!(subscription(&all), Err(Error::Invalid(_))));
}

#[test]
fn a_connection_token_opens_no_channel_and_a_subscription_token_no_connection() {
    let connection_token = signed(&json!({"sub": "ann", "channels": ["$tasks:1"]}));
    let subscription_token = signed(&json!({"sub": "ann", "channel": "$tasks:1"}));
    let verifier = verifier();
    assert_eq!(
        verifier.subscription(&connection_token, &ANN, now()).settle(),
        Err(Error::Mismatch("channel"))
    );
    let refused = verifier.connection(&subscription_token, now()).settle();
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}
