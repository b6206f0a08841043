//! What is minted is what is verified, and nothing shows the secret.

use std::time::Duration;

use super::*;

fn expected() -> Expected {
    Expected {
        audience: Some("tidings".to_owned()),
        issuer: Some("the tests".to_owned()),
    }
}

#[test]
fn a_minted_connection_token_is_what_is_verified() {
    let minter = Minter::hs256(&secret(SECRET), expected()).unwrap();
    let info = RawValue::from_string("{\"name\": \"Ann\",\n \"n\": 1.0}".to_owned()).unwrap();
    let channels = ["news".to_owned(), "user:ann".to_owned()];
    let token = minter.connection("ann", &channels, Some(&info), Duration::from_secs(60), now());

    let verifier = expecting(expected());
    let connection = verifier.connection(&token, now()).settle().unwrap();
    assert_eq!(
        connection,
        Connection {
            user: "ann".to_owned(),
            expires_at: Some(at(NOW + 60)),
            info: json_data("{\"name\": \"Ann\",  \"n\": 1.0}"),
            subs: channels.map(|channel| (channel, Options::default())).into(),
        }
    );
    let later = verifier.connection(&token, at(NOW + 60)).settle();
    assert_eq!(later, Err(Error::Expired));
}

#[test]
fn a_minted_subscription_token_is_what_is_verified() {
    let minter = Minter::hs256(&secret(SECRET), expected()).unwrap();
    let info = RawValue::from_string("1".to_owned()).unwrap();
    let token = minter.subscription("ann", "$tasks:1", Some(&info), Duration::from_secs(60), now());

    let bearer = Bearer {
        user: "ann",
        client: "any",
        channel: "$tasks:1",
    };
    let subscription = expecting(expected())
        .subscription(&token, &bearer, now())
        .settle();
    assert_eq!(
        subscription,
        Ok(Subscription {
            expires_at: Some(at(NOW + 60)),
            options: Options {
                info: json_data("1"),
                ..Options::default()
            },
        })
    );
}

#[test]
fn a_time_to_live_beyond_all_time_never_panics() {
    let minter = Minter::hs256(&secret(SECRET), Expected::default()).unwrap();
    let token = minter.connection("ann", &[], None, Duration::MAX, now());
    let refused = verifier().connection(&token, now()).settle();
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[test]
fn no_output_shows_the_secret() {
    let minter = Minter::hs256(&secret(&"hunter2".repeat(5)), Expected::default()).unwrap();
    let keys = Keyring::secrets(&secret(&"hunter2".repeat(5)), &secret(&"hunter2".repeat(5)), None).unwrap();
    let verifier = Verifier::new(keys, Expected::default());
    let shown = format!("{minter:?} {verifier:?}");
    assert!(!shown.contains("hunter2") && shown.contains("HS256"), "{shown}");
}
