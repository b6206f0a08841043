//! A newer token for a connection.

use std::time::Duration;

use tidings_protocol::{CloseReason, Error, Reply, Request};

use super::fixture::*;
use crate::{Action, Identity, Refusal, RenewedBy, Rules};

fn refresh(token: &str) -> Request {
    Request::Refresh { token: token.into() }
}

fn for_a_minute() -> Identity {
    Identity {
        expiry: expiry(60, RenewedBy::Client),
        ..identity("ada")
    }
}

/// What becomes of a refresh that was answered so.
fn refreshed(result: Result<Identity, Refusal>) -> Vec<Action> {
    let mut client = connected_as(for_a_minute(), rules());
    assert!(matches!(
        client.send(refresh("newer"))[..],
        [Action::Refresh { id: 2, .. }]
    ));
    client.identify(2, result)
}

#[test]
fn an_expired_connection_is_closed_after_its_grace_unless_it_was_refreshed() {
    let rules = Rules {
        ping_interval: Duration::from_secs(1000),
        ..rules()
    };
    let mut client = connected_as(for_a_minute(), rules);
    assert_eq!(client.wait(80), []);
    client.send(refresh("newer"));
    let actions = client.identify(2, Ok(for_a_minute()));
    let expires_in = Some(Duration::from_secs(60));
    assert_eq!(actions, [Action::Reply(Reply::Refresh { id: 2, expires_in })]);
    assert_eq!(client.wait(84), []);
    assert_eq!(close_code(&client.wait(1)), 3005);
}

#[test]
fn a_refresh_may_make_a_connection_good_for_ever() {
    let actions = refreshed(Ok(identity("ada")));
    let expires_in = None;
    assert_eq!(actions, [Action::Reply(Reply::Refresh { id: 2, expires_in })]);
}

#[test]
fn every_refusal_of_a_refresh_has_its_answer() {
    assert_eq!(close_code(&refreshed(Err(Refusal::Expired))), 3005);
    assert_eq!(close_code(&refreshed(Err(Refusal::Invalid))), 3500);
    assert_eq!(close_code(&refreshed(Err(Refusal::Mismatch))), 3500);
    assert_eq!(
        close_code(&refreshed(Err(Refusal::Close(CloseReason::ForceReconnect)))),
        3011
    );
    assert_eq!(error_code(&refreshed(Err(Refusal::Unavailable))), 100);
    let busy = Refusal::Error(Error::TOO_MANY_REQUESTS);
    assert_eq!(error_code(&refreshed(Err(busy))), 111);
    assert_eq!(close_code(&refreshed(Ok(identity("eve")))), 3500, "another's");
    let past = Identity {
        expiry: expiry(0, RenewedBy::Client),
        ..identity("ada")
    };
    assert_eq!(close_code(&refreshed(Ok(past))), 3005);
}

#[test]
fn a_token_that_names_other_channels_makes_the_client_come_back() {
    assert_eq!(close_code(&refreshed(Ok(hearing("ada", &["tasks:1"])))), 3010);
    let mut client = open(rules());
    client.send(connect("t"));
    client.authenticate(Ok(hearing("ada", &["tasks:1", "tasks:2"])));
    client.confirm(1, "tasks:1");
    client.confirm(1, "tasks:2");
    client.send(unsubscribe("tasks:2"));
    client.send(refresh("newer"));
    let same = hearing("ada", &["tasks:2", "tasks:1"]);
    assert!(matches!(
        client.identify(3, Ok(same))[..],
        [Action::Reply(Reply::Refresh { .. })]
    ));
}

#[test]
fn a_client_refreshes_only_what_is_its_to_refresh() {
    let mut client = connected_as(for_a_minute(), rules());
    assert_eq!(close_code(&client.send(refresh(""))), 3501);
    let renewed = Identity {
        expiry: expiry(60, RenewedBy::Backend),
        ..identity("ada")
    };
    let mut client = connected_as(renewed, rules());
    assert_eq!(close_code(&client.send(refresh("newer"))), 3501);
}
