//! Saying who one is.

use std::time::Duration;

use bytes::Bytes;
use tidings_core::Payload;
use tidings_protocol::{CloseReason, Error, Reply, Request};

use super::fixture::*;
use crate::{Action, Identity, Refusal, RenewedBy, Rules, Transport};

#[test]
fn a_client_is_known_after_its_token_was_found_good() {
    let mut client = open(rules());
    let Request::Connect(connect_) = connect("t") else {
        unreachable!()
    };
    assert_eq!(
        client.send(connect("t")),
        [Action::Authenticate {
            id: 1,
            connect: connect_
        }]
    );
    let replies = client.authenticate(Ok(identity("ada")));
    assert!(
        matches!(&replies[..], [Action::Reply(Reply::Connect { id: 1, .. })]),
        "{replies:?}"
    );
    assert_eq!(client.session.user().map(|user| &**user), Some("ada"));
}

#[test]
fn a_client_learns_of_its_connection_what_its_transport_and_its_backend_have_to_say() {
    let transport = Transport {
        mute: true,
        session: Some("secret".into()),
        node: Some("here".into()),
        only: None,
    };
    let mut client = reached_by(transport, rules());
    client.send(connect("t"));
    let data = Payload::json(Bytes::from_static(b"{}"));
    let replies = client.authenticate(Ok(Identity {
        data: data.clone(),
        ..identity("ada")
    }));
    let [Action::Reply(Reply::Connect { result, .. })] = &replies[..] else {
        panic!("{replies:?}")
    };
    assert!(!result.pong, "it cannot answer pings");
    assert_eq!(result.session.as_deref(), Some("secret"));
    assert_eq!(result.node.as_deref(), Some("here"));
    assert_eq!((result.client, &result.data), (client.session.client(), &data));
}

#[test]
fn a_client_without_a_token_is_closed_where_nobody_says_who_it_is() {
    assert_eq!(close_code(&open(rules()).send(connect(""))), 3501);
    let anonymous = Rules {
        allow_anonymous: true,
        ..rules()
    };
    for rules in [anonymous, with_backend()] {
        assert!(matches!(
            open(rules).send(connect(""))[..],
            [Action::Authenticate { .. }]
        ));
    }
}

#[test]
fn every_refusal_of_a_connect_has_its_answer() {
    let refused = |refusal| {
        let mut client = open(rules());
        client.send(connect("t"));
        client.authenticate(Err(refusal))
    };
    assert_eq!(error_code(&refused(Refusal::Expired)), 109);
    assert_eq!(error_code(&refused(Refusal::Unavailable)), 100);
    assert_eq!(
        error_code(&refused(Refusal::Error(Error::TOO_MANY_REQUESTS))),
        111
    );
    assert_eq!(close_code(&refused(Refusal::Invalid)), 3500);
    assert_eq!(close_code(&refused(Refusal::Mismatch)), 3500);
    assert_eq!(
        close_code(&refused(Refusal::Close(CloseReason::ConnectionLimit))),
        3504
    );
}

#[test]
fn an_identity_that_is_past_is_refused() {
    let mut client = open(rules());
    client.send(connect("t"));
    let past = Identity {
        expiry: expiry(0, RenewedBy::Client),
        ..identity("ada")
    };
    assert_eq!(error_code(&client.authenticate(Ok(past))), 110);
}

#[test]
fn a_client_that_renews_is_told_when_and_one_that_the_backend_renews_is_not() {
    let told = |renewed_by| {
        let mut client = open(rules());
        client.send(connect("t"));
        let replies = client.authenticate(Ok(Identity {
            expiry: expiry(60, renewed_by),
            ..identity("ada")
        }));
        match &replies[..] {
            [Action::Reply(Reply::Connect { result, .. })] => result.expires_in,
            _ => panic!("{replies:?}"),
        }
    };
    assert_eq!(told(RenewedBy::Client), Some(Duration::from_secs(60)));
    assert_eq!(told(RenewedBy::Backend), None);
}

#[test]
fn what_was_sent_together_with_a_refused_connect_is_ignored_and_the_client_has_to_go() {
    let mut client = open(rules());
    client.send(connect("t"));
    assert_eq!(client.send(subscribe("tasks:1")), [], "it waits for the connect");
    assert_eq!(error_code(&client.authenticate(Err(Refusal::Expired))), 109);
    assert_eq!(client.send(subscribe("tasks:2")), []);
    assert_eq!(close_code(&client.wait(10)), 3502);
}

#[test]
fn nothing_but_a_connect_may_come_first_and_no_second_one() {
    assert_eq!(close_code(&open(rules()).send(subscribe("tasks:1"))), 3501);
    assert_eq!(close_code(&open(rules()).send(Request::Pong)), 3501);
    assert_eq!(close_code(&connected(rules(), "ada").send(connect("t"))), 3501);
    assert_eq!(
        close_code(&connected(rules(), "ada").send(Request::Unknown)),
        3501
    );
    assert_eq!(close_code(&connected(rules(), "ada").send(Request::Send)), 3508);
}

#[test]
fn a_client_that_does_not_say_who_it_is_is_closed_as_stale() {
    let mut client = open(rules());
    assert_eq!(client.wait(9), []);
    assert_eq!(close_code(&client.wait(1)), 3502);
    assert_eq!(client.session.deadline(), None);
}
