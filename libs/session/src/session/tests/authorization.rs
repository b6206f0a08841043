//! Who may subscribe, and who decides it.

use std::time::Duration;

use bytes::Bytes;
use tidings_core::{Overrides, Payload};
use tidings_protocol::{CloseReason, Error, Reply, Request, command};

use super::fixture::*;
use crate::{Action, Evidence, Grant, Refusal, RenewedBy, Rules};

/// What decides about this subscribe.
fn decided_by(actions: &[Action]) -> &Evidence {
    match actions {
        [Action::Authorize { by, .. }] => by,
        other => panic!("expected to be asked, got {other:?}"),
    }
}

#[test]
fn a_private_channel_needs_a_token_of_its_own() {
    let mut client = connected(rules(), "ada");
    assert_eq!(error_code(&client.send(subscribe("$tasks:1"))), 103);
    let actions = client.send(subscribe_with("$tasks:1", "t"));
    assert_eq!(*decided_by(&actions), Evidence::Token("t".into()));
    assert!(matches!(
        client.authorize(3, "$tasks:1", Ok(Box::default()))[..],
        [Action::Subscribe { id: 3, .. }]
    ));
    client.confirm(3, "$tasks:1");
    assert!(client.is_in("$tasks:1"));
}

#[test]
fn a_token_decides_alone_even_against_the_options() {
    let mut client = connected(with_backend(), "ada");
    for name in ["tasks:1", "sealed:1", "asked:1"] {
        let actions = client.send(subscribe_with(name, "t"));
        assert_eq!(*decided_by(&actions), Evidence::Token("t".into()));
    }
    assert_eq!(
        error_code(&client.authorize(2, "tasks:1", Err(Refusal::Invalid))),
        103
    );
}

#[test]
fn a_user_limited_channel_is_open_to_its_users_and_to_nobody_else() {
    let may = |rules: Rules, user: &str, name: &str| {
        matches!(
            connected(rules, user).send(subscribe(name))[..],
            [Action::Subscribe { .. }]
        )
    };
    assert!(may(rules(), "ada", "tasks:#ada"));
    assert!(may(rules(), "ada", "tasks:a#b#eve,ada"), "the last # counts");
    assert!(
        may(with_backend(), "ada", "asked:#ada"),
        "the backend is not asked"
    );
    assert!(!may(rules(), "ada", "tasks:#eve"));
    assert!(!may(rules(), "ada", "tasks:#adam"));
    assert!(!may(rules(), "ada", "sealed:#ada"), "the namespace allows none");
    assert!(!may(rules(), "", "quiet:#"), "nobody is no user");
    assert!(!may(rules(), "ada", "$tasks:#ada"), "it is private, too");
}

#[test]
fn where_the_namespace_says_so_the_backend_decides() {
    let mut client = connected(with_backend(), "ada");
    let data = Payload::json(Bytes::from_static(b"{}"));
    let actions = client.send(Request::Subscribe(Box::new(command::Subscribe {
        data: data.clone(),
        ..wanting("asked:1")
    })));
    assert_eq!(*decided_by(&actions), Evidence::Backend(data));
    let no = Refusal::Error(Error::PERMISSION_DENIED);
    assert_eq!(error_code(&client.authorize(2, "asked:1", Err(no))), 103);
    assert_eq!(
        error_code(&connected(rules(), "ada").send(subscribe("asked:1"))),
        103,
        "there is no backend"
    );
}

#[test]
fn anonymous_clients_have_only_what_is_granted_to_anonymous_clients() {
    let anonymous = || Rules {
        allow_anonymous: true,
        ..rules()
    };
    assert_eq!(
        error_code(&connected(anonymous(), "").send(subscribe("tasks:1"))),
        103
    );
    assert!(matches!(
        connected(anonymous(), "").send(subscribe("quiet:1"))[..],
        [Action::Subscribe { .. }]
    ));
}

#[test]
fn every_refusal_of_a_subscribe_has_its_answer() {
    let refused = |refusal| {
        let mut client = connected(rules(), "ada");
        client.send(subscribe_with("tasks:1", "t"));
        let actions = client.authorize(2, "tasks:1", Err(refusal));
        assert!(!client.is_in("tasks:1"));
        actions
    };
    assert_eq!(error_code(&refused(Refusal::Expired)), 109);
    assert_eq!(error_code(&refused(Refusal::Invalid)), 103);
    assert_eq!(error_code(&refused(Refusal::Unavailable)), 100);
    assert_eq!(error_code(&refused(Refusal::Error(Error::LIMIT_EXCEEDED))), 106);
    assert_eq!(close_code(&refused(Refusal::Mismatch)), 3500);
    assert_eq!(
        close_code(&refused(Refusal::Close(CloseReason::PermissionDenied))),
        3507
    );
}

#[test]
fn a_grant_that_is_past_is_refused() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe_with("tasks:1", "t"));
    let actions = client.authorize(2, "tasks:1", Ok(grant(0, RenewedBy::Client)));
    assert_eq!(error_code(&actions), 110);
}

#[test]
fn what_was_granted_reaches_the_client_and_those_who_see_it() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe_with("tasks:1", "t"));
    let info = Bytes::from_static(b"{\"role\":\"owner\"}");
    let granted = Grant {
        info: info.clone(),
        data: payload(),
        overrides: Overrides {
            join_leave: Some(false),
            ..Overrides::default()
        },
        ..*grant(60, RenewedBy::Client)
    };
    client.authorize(2, "tasks:1", Ok(Box::new(granted)));
    client.now += Duration::from_secs(10);
    let actions = client.confirm(2, "tasks:1");
    let [
        Action::Reply(Reply::Subscribe { result, .. }),
        Action::Enter {
            presence: Some(seen), ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(result.data, payload());
    assert_eq!(
        result.expires_in,
        Some(Duration::from_secs(50)),
        "counted from when it was granted"
    );
    assert_eq!((&seen.info.chan_info, seen.announced), (&info, false));
    let Action::Publish { info: publisher, .. } = &client.send(publish("tasks:1"))[0] else {
        panic!("a subscriber may publish")
    };
    assert_eq!(publisher.chan_info, info);
}

#[test]
fn while_it_is_being_decided_the_channel_counts() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe_with("tasks:1", "t"));
    assert_eq!(error_code(&client.send(subscribe("tasks:1"))), 105);
    client.send(subscribe_with("tasks:2", "t"));
    client.send(subscribe_with("tasks:3", "t"));
    assert_eq!(error_code(&client.send(subscribe("tasks:4"))), 106);
}

#[test]
fn an_unsubscribe_takes_back_what_is_being_decided_and_the_answer_comes_too_late() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe_with("tasks:1", "t"));
    let actions = client.send(unsubscribe("tasks:1"));
    let [
        Action::Reply(Reply::Error { id: 2, error }),
        Action::Reply(Reply::Unsubscribe { id: 3 }),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert!(error.temporary, "the client may want it again by now");
    assert_eq!(client.send(publish("quiet:1")), [], "an answer is still to come");
    let actions = client.authorize(2, "tasks:1", Ok(Box::default()));
    assert!(
        matches!(actions[..], [Action::Publish { id: 4, .. }]),
        "{actions:?}"
    );
    assert!(!client.is_in("tasks:1"));
}

#[test]
fn a_second_wish_is_not_mistaken_for_the_first() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe_with("tasks:1", "old"));
    client.send(unsubscribe("tasks:1"));
    client.send(subscribe_with("tasks:1", "new"));
    assert_eq!(client.authorize(2, "tasks:1", Err(Refusal::Expired)), []);
    assert!(matches!(
        client.authorize(4, "tasks:1", Ok(Box::default()))[..],
        [Action::Subscribe { id: 4, .. }]
    ));
}
