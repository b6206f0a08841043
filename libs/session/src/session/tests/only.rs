//! Clients that hear one channel and cannot be told of another.

use tidings_protocol::reply::UnsubscribeReason;

use super::fixture::*;
use crate::{Action, Grant, Rules, Transport};

/// A client of `name` alone, whose identity is about to be told.
fn only(name: &str, rules: Rules) -> Fixture {
    let transport = Transport {
        only: Some(channel(name)),
        ..Transport::default()
    };
    let mut client = reached_by(transport, rules);
    client.send(connect("t"));
    client
}

#[test]
fn it_hears_nothing_that_its_identity_would_have_it_hear_beside() {
    let rules = Rules {
        personal_namespace: Some("tasks".into()),
        ..rules()
    };
    let mut client = only("quiet:1", rules);
    let actions = client.authenticate(Ok(hearing("ada", &["tasks:2"])));
    assert!(
        matches!(actions[..], [Action::Reply(_)]),
        "connected to nothing: {actions:?}"
    );
    let now = client.now;
    let by_backend = client.outside(|session, out| {
        let grant = Grant::default();
        session.subscribe_from_server(channel("tasks:3"), grant, None, now, out);
    });
    assert_eq!(by_backend, []);
}

#[test]
fn its_identity_lets_it_into_its_channel() {
    let mut client = only("sealed:1", rules());
    client.authenticate(Ok(hearing("ada", &["sealed:1"])));
    client.enter("sealed:1");
    assert!(client.is_in("sealed:1"));
    let mut stranger = only("sealed:1", rules());
    stranger.authenticate(Ok(identity("ada")));
    assert_eq!(error_code(&stranger.send(subscribe("sealed:1"))), 103);
}

#[test]
fn its_connection_ends_with_its_subscription() {
    let ends = |reason: UnsubscribeReason| {
        let mut client = only("quiet:1", rules());
        client.authenticate(Ok(identity("ada")));
        client.enter("quiet:1");
        let actions =
            client.outside(|session, out| session.unsubscribe_from_server(&channel("quiet:1"), reason, out));
        close_code(&actions)
    };
    assert_eq!(ends(UnsubscribeReason::SERVER), 3503);
    assert_eq!(ends(UnsubscribeReason::EXPIRED), 3006);
    assert_eq!(ends(UnsubscribeReason::INSUFFICIENT_STATE), 3010);
    let mut client = only("tasks:1", rules());
    client.authenticate(Ok(identity("ada")));
    client.enter("tasks:1");
    let actions = client.outside(|session, out| session.insufficient(&channel("tasks:1"), out));
    assert_eq!(close_code(&actions), 3010);
}
