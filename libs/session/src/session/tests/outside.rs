//! What the user's backend and the core do to a connection.

use std::time::Duration;

use bytes::Bytes;
use tidings_protocol::{Error, Reply, reply::UnsubscribeReason};

use super::fixture::*;
use crate::{Action, Grant, Identity, Read, Refusal, Renewal, RenewedBy};

fn subscribed(client: &mut Fixture, name: &str) -> Vec<Action> {
    let now = client.now;
    client.outside(|session, out| {
        session.subscribe_from_server(channel(name), Grant::default(), None, now, out);
    })
}

fn unsubscribed(client: &mut Fixture, name: &str, reason: UnsubscribeReason) -> Vec<Action> {
    client.outside(|session, out| session.unsubscribe_from_server(&channel(name), reason, out))
}

fn pushed(name: &str, reason: UnsubscribeReason) -> Action {
    Action::Reply(Reply::Unsubscribed {
        channel: channel(name),
        reason,
    })
}

#[test]
fn a_client_is_told_of_a_channel_that_it_did_not_ask_for_when_the_bus_has_confirmed() {
    let mut client = connected(rules(), "ada");
    assert_eq!(
        subscribed(&mut client, "kept:1"),
        [Action::Subscribe {
            id: 0,
            channel: channel("kept:1"),
            read: Read::Position
        }]
    );
    assert!(
        matches!(client.send(publish("quiet:1"))[..], [Action::Publish { .. }]),
        "nobody waits for it"
    );
    let actions = client.confirm_at(0, "kept:1", Ok(place(4, &[])));
    let [
        Action::Reply(Reply::Subscribed { result, .. }),
        Action::Enter { .. },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(result.position, Some(position(4, "e")));
    assert!(client.is_in("kept:1"));
}

#[test]
fn what_cannot_come_with_the_news_of_a_channel_is_behind_the_position_that_it_tells() {
    let mut client = connected(rules(), "ada");
    let (now, since) = (client.now, position(5, "e"));
    let asked = client.outside(|session, out| {
        session.subscribe_from_server(channel("kept:1"), Grant::default(), Some(since.clone()), now, out);
    });
    assert!(matches!(&asked[..], [Action::Subscribe { read, .. }] if *read == Read::Since(since)));
    let actions = client.confirm_at(0, "kept:1", Ok(place(7, &[6, 7])));
    let Action::Reply(Reply::Subscribed { result, .. }) = &actions[0] else {
        panic!("{actions:?}")
    };
    assert!(result.publications.is_empty());
    assert_eq!(result.position, Some(position(7, "e")));
}

#[test]
fn a_client_that_did_not_ask_never_hears_of_a_channel_that_it_did_not_get() {
    let mut client = connected(rules(), "ada");
    subscribed(&mut client, "quiet:1");
    assert_eq!(
        client.confirm_at(0, "quiet:1", Err(Error::INTERNAL)),
        [leave("quiet:1", false)]
    );
    subscribed(&mut client, "quiet:1");
    assert_eq!(
        unsubscribed(&mut client, "quiet:1", UnsubscribeReason::SERVER),
        []
    );
    assert_eq!(client.confirm(0, "quiet:1"), [leave("quiet:1", false)]);
}

#[test]
fn a_channel_is_given_only_where_there_is_room_for_it() {
    let mut client = open(rules());
    assert_eq!(subscribed(&mut client, "quiet:1"), [], "it is not connected");
    let mut client = connected(rules(), "ada");
    assert_eq!(subscribed(&mut client, "nowhere:1"), []);
    assert_eq!(subscribed(&mut client, "quiet:1").len(), 1);
    assert_eq!(subscribed(&mut client, "quiet:1"), [], "it is about to have it");
    subscribed(&mut client, "quiet:2");
    subscribed(&mut client, "quiet:3");
    assert_eq!(subscribed(&mut client, "quiet:4"), [], "it has enough");
}

#[test]
fn a_subscription_can_be_ended_from_outside_and_the_client_is_told() {
    let mut client = connected(rules(), "ada");
    client.enter("tasks:1");
    let reason = UnsubscribeReason::SERVER;
    assert_eq!(
        unsubscribed(&mut client, "tasks:1", reason.clone()),
        [pushed("tasks:1", reason.clone()), leave("tasks:1", true)]
    );
    assert_eq!(unsubscribed(&mut client, "tasks:1", reason), []);
}

#[test]
fn a_subscribe_that_is_ended_before_it_was_answered_fails() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe_with("tasks:1", "t"));
    let decided = unsubscribed(&mut client, "tasks:1", UnsubscribeReason::SERVER);
    assert_eq!(error_code(&decided), 103);
    assert_eq!(client.authorize(2, "tasks:1", Ok(Box::default())), []);

    client.send(subscribe("tasks:2"));
    let again = UnsubscribeReason::INSUFFICIENT_STATE;
    assert_eq!(unsubscribed(&mut client, "tasks:2", again), []);
    let actions = client.confirm(3, "tasks:2");
    assert_eq!(actions[0], leave("tasks:2", false));
    assert_eq!(error_code(&actions), 100, "it may come back");
}

#[test]
fn a_client_that_may_have_missed_something_begins_the_subscription_anew() {
    let mut client = connected(rules(), "ada");
    client.enter("kept:1");
    let insufficient =
        |client: &mut Fixture, name| client.outside(|session, out| session.insufficient(&channel(name), out));
    assert_eq!(
        insufficient(&mut client, "kept:1"),
        [
            pushed("kept:1", UnsubscribeReason::INSUFFICIENT_STATE),
            leave("kept:1", true)
        ]
    );
    assert_eq!(insufficient(&mut client, "kept:1"), []);
    subscribed(&mut client, "kept:1");
    assert_eq!(insufficient(&mut client, "kept:1"), [], "it has not entered");
    client.confirm(0, "kept:1");
    assert_eq!(close_code(&insufficient(&mut client, "kept:1")), 3010);
}

#[test]
fn the_backend_can_make_a_connection_good_for_longer_or_end_it() {
    let minute = |renewed_by| Identity {
        expiry: expiry(60, renewed_by),
        ..identity("ada")
    };
    let refresh = |client: &mut Fixture, seconds: Option<u64>| {
        let now = client.now;
        let renewal = Renewal {
            expires_in: seconds.map(Duration::from_secs),
            info: Some(Bytes::from_static(b"{}")),
        };
        client.outside(|session, out| session.refresh_from_server(renewal, now, out))
    };
    let mut client = connected_as(minute(RenewedBy::Client), with_backend());
    let told = |expires_in| [Action::Reply(Reply::Refreshed { expires_in })];
    let hour = Duration::from_secs(3600);
    assert_eq!(refresh(&mut client, Some(3600)), told(Some(hour)));
    assert_eq!(client.wait(3600 + 24), []);
    assert_eq!(refresh(&mut client, None), told(None));
    assert_eq!(client.wait(3600), []);
    assert_eq!(close_code(&refresh(&mut client, Some(0))), 3005);

    let mut client = connected_as(minute(RenewedBy::Backend), with_backend());
    assert_eq!(client.wait(60).len(), 1, "the backend is asked");
    assert_eq!(refresh(&mut client, Some(3600)), [], "it tells before it answers");
    let late = crate::Answer::Renewed {
        result: Err(Refusal::Expired),
    };
    assert_eq!(client.answer(late), []);
    assert!(matches!(client.wait(3600)[..], [Action::Renew { .. }]));
}

#[test]
fn a_message_is_for_clients_that_are_connected() {
    let message = |client: &mut Fixture| client.outside(|session, out| session.message(payload(), out));
    assert_eq!(message(&mut open(rules())), []);
    assert_eq!(
        message(&mut connected(rules(), "ada")),
        [Action::Reply(Reply::Message(payload()))]
    );
}
