//! Subscribing and unsubscribing.

use tidings_protocol::{CloseReason, Error, Reply, Request, command};

use super::fixture::*;
use crate::{Action, Read, Rules};

#[test]
fn a_subscribe_is_answered_only_when_the_bus_has_confirmed() {
    let mut client = connected(rules(), "ada");
    assert_eq!(
        client.send(subscribe("tasks:1")),
        [Action::Subscribe {
            id: 2,
            channel: channel("tasks:1"),
            read: Read::Nothing
        }]
    );
    assert!(!client.is_in("tasks:1"));
    let actions = client.confirm(2, "tasks:1");
    let [
        Action::Reply(Reply::Subscribe { id: 2, .. }),
        Action::Enter {
            presence: Some(seen), ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (&*seen.info.user, seen.info.client, seen.announced),
        ("ada", client.session.client(), true)
    );
    assert!(client.is_in("tasks:1"));
}

#[test]
fn a_channel_without_presence_is_entered_unseen() {
    let mut client = connected(rules(), "ada");
    assert!(matches!(
        client.enter("quiet:1")[1],
        Action::Enter { presence: None, .. }
    ));
}

#[test]
fn a_subscribe_that_the_bus_refuses_leaves_no_trace() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe("tasks:1"));
    let actions = client.confirm_at(2, "tasks:1", Err(Error::INTERNAL));
    assert_eq!(actions[0], leave("tasks:1", false));
    assert_eq!(error_code(&actions), 100);
    assert!(matches!(
        client.send(subscribe("tasks:1"))[..],
        [Action::Subscribe { .. }]
    ));
}

#[test]
fn subscribes_that_cannot_be_granted_say_why() {
    let mut client = connected(rules(), "ada");
    assert_eq!(error_code(&client.send(subscribe("nowhere:1"))), 102);
    assert_eq!(error_code(&client.send(subscribe("sealed:1"))), 103);
    assert_eq!(error_code(&client.send(subscribe("tasks:{1}"))), 107);
    assert_eq!(error_code(&client.send(subscribe(&"x".repeat(256)))), 107);
    client.send(subscribe("tasks:1"));
    assert_eq!(error_code(&client.send(subscribe("tasks:1"))), 105);
    client.send(subscribe("tasks:2"));
    client.send(subscribe("tasks:3"));
    assert_eq!(error_code(&client.send(subscribe("tasks:4"))), 106);
    assert_eq!(close_code(&client.send(subscribe(""))), 3501);
}

#[test]
fn differences_of_a_kind_that_nobody_knows_are_a_bad_request() {
    let mut client = connected(rules(), "ada");
    let actions = client.send(Request::Subscribe(Box::new(command::Subscribe {
        delta: "xdelta".into(),
        ..wanting("tasks:1")
    })));
    assert_eq!(close_code(&actions), 3501);
}

#[test]
fn unsubscribing_is_idempotent() {
    let mut client = connected(rules(), "ada");
    client.enter("tasks:1");
    let actions = client.send(unsubscribe("tasks:1"));
    assert_eq!(actions[0], leave("tasks:1", true));
    assert_eq!(actions[1], Action::Reply(Reply::Unsubscribe { id: 3 }));
    for name in ["tasks:1", "not a name"] {
        assert!(matches!(
            client.send(unsubscribe(name))[..],
            [Action::Reply(Reply::Unsubscribe { .. })]
        ));
    }
}

#[test]
fn a_client_may_unsubscribe_from_what_it_has_not_asked_for() {
    let mut client = open(rules());
    client.send(connect("t"));
    client.authenticate(Ok(hearing("ada", &["tasks:1"])));
    client.confirm(1, "tasks:1");
    assert_eq!(client.send(unsubscribe("tasks:1"))[0], leave("tasks:1", true));
}

#[test]
fn a_closed_session_gives_back_every_channel_once_and_says_nothing_more() {
    let mut client = connected(rules(), "ada");
    client.enter("tasks:1");
    client.send(subscribe("tasks:2"));
    client.send(subscribe_with("tasks:3", "t"));
    let mut out = client.outside(|session, out| session.close(CloseReason::Shutdown, out));
    assert_eq!(out.pop(), Some(Action::Close(CloseReason::Shutdown)));
    assert!(out.contains(&leave("tasks:1", true)), "{out:?}");
    assert!(
        out.contains(&leave("tasks:2", false)),
        "nobody saw it enter: {out:?}"
    );
    assert_eq!(out.len(), 2, "nothing was taken up for the third");
    assert_eq!(client.confirm(3, "tasks:2"), []);
    assert_eq!(client.send(subscribe("tasks:3")), []);
    assert_eq!(client.wait(1000), []);
    assert!(client.session.is_closed());
    assert_eq!(
        client.outside(|session, out| session.close(CloseReason::Slow, out)),
        []
    );
}

#[test]
fn no_permission_is_asked_for_where_none_is_needed() {
    let insecure = Rules {
        allow_anonymous: true,
        insecure: true,
        ..rules()
    };
    for name in ["$tasks:1", "sealed:1", "tasks:#eve"] {
        let mut client = connected(insecure.clone(), "");
        assert!(matches!(
            client.send(subscribe(name))[..],
            [Action::Subscribe { .. }]
        ));
    }
}

#[test]
fn a_session_stays_small() {
    // A node holds hundreds of thousands: what is rare is boxed.
    assert!(size_of::<crate::Session>() <= 288);
    assert!(size_of::<super::super::subscription::Subscription>() <= 16);
}
