//! Whose turn it is, and how much a client may ask.

use std::time::Duration;

use tidings_protocol::{Reply, Request};

use super::fixture::*;
use crate::{Action, Answer, Rules};

#[test]
fn subscribes_overlap_and_everything_else_waits_its_turn() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe("quiet:1"));
    assert!(matches!(
        client.send(subscribe("quiet:2"))[..],
        [Action::Subscribe { id: 3, .. }]
    ));
    assert_eq!(client.send(publish("quiet:1")), []);
    assert_eq!(
        client.send(subscribe("quiet:3")),
        [],
        "it must not overtake the publish"
    );
    assert!(matches!(
        client.confirm(3, "quiet:2")[..],
        [Action::Reply(_), Action::Enter { .. }]
    ));
    let actions = client.confirm(2, "quiet:1");
    assert!(
        matches!(
            actions[..],
            [
                Action::Reply(_),
                Action::Enter { .. },
                Action::Publish { id: 4, .. }
            ]
        ),
        "{actions:?}"
    );
    let actions = client.answer(Answer::Published {
        id: 4,
        result: Ok(()),
    });
    assert!(
        matches!(
            actions[..],
            [
                Action::Reply(Reply::Publish { id: 4 }),
                Action::Subscribe { id: 5, .. }
            ]
        ),
        "{actions:?}"
    );
}

#[test]
fn authorizations_overlap_with_subscribes_and_with_each_other() {
    let mut client = connected(with_backend(), "ada");
    let started = |actions: &[Action]| !actions.is_empty();
    assert!(started(&client.send(subscribe("asked:1"))));
    assert!(started(&client.send(subscribe("quiet:1"))));
    assert!(started(&client.send(subscribe_with("tasks:1", "t"))));
    assert!(!started(&client.send(publish("quiet:1"))));
    client.authorize(2, "asked:1", Ok(Box::default()));
    client.confirm(3, "quiet:1");
    client.authorize(4, "tasks:1", Ok(Box::default()));
    client.confirm(4, "tasks:1");
    let actions = client.confirm(2, "asked:1");
    assert!(
        matches!(actions.last(), Some(Action::Publish { id: 5, .. })),
        "{actions:?}"
    );
}

#[test]
fn an_unsubscribe_waits_for_the_bus() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe("tasks:1"));
    assert_eq!(client.send(unsubscribe("tasks:1")), []);
    let actions = client.confirm(2, "tasks:1");
    assert_eq!(
        actions[2..],
        [
            leave("tasks:1", true),
            Action::Reply(Reply::Unsubscribe { id: 3 })
        ]
    );
}

#[test]
fn while_the_backend_answers_one_call_everything_else_waits() {
    let mut client = connected(with_backend(), "ada");
    let rpc = Request::Rpc {
        method: "slow".into(),
        payload: payload(),
    };
    client.send(rpc);
    assert_eq!(client.send(subscribe("quiet:1")), []);
    let actions = client.answer(Answer::Rpc {
        id: 2,
        result: Ok(payload()),
    });
    assert!(
        matches!(
            actions[..],
            [Action::Reply(Reply::Rpc { id: 2, .. }), Action::Subscribe { .. }]
        ),
        "{actions:?}"
    );
}

#[test]
fn too_many_waiting_commands_are_refused_one_by_one() {
    let mut client = connected(
        Rules {
            commands_per_second: 1000,
            ..rules()
        },
        "ada",
    );
    client.send(publish("quiet:1"));
    for _ in 0..256 {
        assert_eq!(client.send(publish("quiet:1")), []);
    }
    assert_eq!(error_code(&client.send(publish("quiet:1"))), 111);
}

#[test]
fn authorizations_that_were_taken_back_come_to_an_end() {
    let mut client = connected(
        Rules {
            commands_per_second: 1000,
            ..rules()
        },
        "ada",
    );
    let asked = (0..1000)
        .filter(|_| {
            let started = client.send(subscribe_with("tasks:1", "t"));
            client.send(unsubscribe("tasks:1"));
            matches!(started[..], [Action::Authorize { .. }])
        })
        .count();
    assert_eq!(asked, 256);
}

#[test]
fn a_flood_is_answered_with_too_many_requests() {
    let mut client = connected(rules(), "ada");
    let codes: Vec<_> = (0..250)
        .filter_map(|_| match &client.send(Request::NotOffered)[..] {
            [Action::Reply(Reply::Error { error, .. })] => Some(error.code),
            _ => None,
        })
        .collect();
    assert_eq!(
        codes.iter().filter(|code| **code == 108).count(),
        199,
        "four seconds' worth, less the connect"
    );
    assert_eq!(codes.last(), Some(&111));
    client.now += Duration::from_secs(2);
    assert_eq!(
        error_code(&client.send(Request::NotOffered)),
        108,
        "it may go on later"
    );
}

#[test]
fn a_client_that_goes_on_flooding_is_closed() {
    let mut client = connected(rules(), "ada");
    let end = (0..1000)
        .map(|_| client.send(Request::NotOffered))
        .find(|actions| matches!(actions[..], [Action::Close(_)]));
    assert_eq!(close_code(&end.expect("an end")), 3013);
}
