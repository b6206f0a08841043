//! The channels that a client hears without asking.

use tidings_protocol::{
    Error, Reply, command,
    reply::{Connected, UnsubscribeReason},
};

use super::fixture::*;
use crate::{Action, Answer, Read, Rules};

/// The channels that were asked of the owner, and what was to be read of each.
fn asked(actions: &[Action]) -> Vec<(&str, Read)> {
    let of = |action| match action {
        &Action::Subscribe {
            id: 1,
            ref channel,
            ref read,
        } => (channel.as_str(), read.clone()),
        other => panic!("expected a subscribe, got {other:?}"),
    };
    actions.iter().map(of).collect()
}

fn told(actions: &[Action]) -> &Connected {
    match actions {
        [Action::Reply(Reply::Connect { result, .. }), ..] => result,
        other => panic!("expected the connect's reply, got {other:?}"),
    }
}

fn back_at(name: &str, offset: u64) -> command::Subscribe {
    command::Subscribe {
        recover: Some(position(offset, "e")),
        ..wanting(name)
    }
}

#[test]
fn a_client_whose_token_names_channels_is_connected_when_the_bus_has_confirmed_them_all() {
    let mut client = open(rules());
    client.send(connect("t"));
    assert_eq!(client.send(publish("quiet:1")), [], "it waits for the connect");
    let names = ["tasks:1", "$quiet:#ada", "tasks:1"];
    let actions = client.authenticate(Ok(hearing("ada", &names)));
    assert_eq!(
        asked(&actions),
        [("$quiet:#ada", Read::Nothing), ("tasks:1", Read::Nothing)]
    );
    assert_eq!(client.confirm(1, "tasks:1"), []);
    let actions = client.confirm(1, "$quiet:#ada");
    let [
        Action::Reply(Reply::Connect { id: 1, result }),
        Action::Enter { .. },
        Action::Enter { .. },
        Action::Publish { .. },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(result.subs.len(), 2);
    assert!(client.is_in("tasks:1"));
    client.answer(Answer::Published {
        id: 2,
        result: Ok(()),
    });
    assert_eq!(error_code(&client.send(subscribe("tasks:1"))), 105);
}

#[test]
fn a_connect_fails_as_a_whole_when_one_of_its_channels_does() {
    let mut unknown = open(rules());
    unknown.send(connect("t"));
    let with_unknown = hearing("ada", &["tasks:1", "nowhere:1"]);
    assert_eq!(error_code(&unknown.authenticate(Ok(with_unknown))), 102);

    let mut refused = open(rules());
    refused.send(connect("t"));
    refused.authenticate(Ok(hearing("ada", &["tasks:1", "tasks:2"])));
    let actions = refused.confirm_at(1, "tasks:1", Err(Error::INTERNAL));
    assert_eq!(error_code(&actions), 100);
    assert_eq!(actions.len(), 3, "both are given back: {actions:?}");
    assert_eq!(refused.confirm(1, "tasks:2"), [], "nothing is entered");
    assert!(!refused.is_in("tasks:2"));

    let mut greedy = open(rules());
    greedy.send(connect("t"));
    let many = hearing("ada", &["tasks:1", "tasks:2", "tasks:3", "tasks:4"]);
    assert_eq!(close_code(&greedy.authenticate(Ok(many))), 3505);
}

#[test]
fn a_connect_fails_when_a_stream_that_it_has_to_know_cannot_be_read() {
    let mut client = open(rules());
    client.send(connect("t"));
    client.authenticate(Ok(hearing("ada", &["kept:1"])));
    let actions = client.confirm_at(1, "kept:1", Ok(crate::Place::default()));
    assert_eq!(actions[0], leave("kept:1", false));
    assert_eq!(error_code(&actions), 100);
}

#[test]
fn a_client_recovers_in_the_channels_that_it_has_without_asking() {
    let mut client = open(rules());
    client.send(connect_naming("t", vec![back_at("kept:1", 5)]));
    let actions = client.authenticate(Ok(hearing("ada", &["kept:1", "kept:2"])));
    assert_eq!(
        asked(&actions),
        [
            ("kept:1", Read::Since(position(5, "e"))),
            ("kept:2", Read::Position)
        ]
    );
    client.confirm_at(1, "kept:1", Ok(place(7, &[6, 7])));
    let actions = client.confirm_at(1, "kept:2", Ok(place(3, &[])));
    let subs = &told(&actions).subs;
    assert_eq!(subs[0].1.recovered, Some(true));
    assert_eq!(subs[0].1.position, Some(position(5, "e")));
    assert_eq!(subs[0].1.publications.len(), 2);
    assert_eq!(subs[1].1.recovered, None);
    assert_eq!(subs[1].1.position, Some(position(3, "e")));
}

#[test]
fn a_user_has_a_channel_of_its_own_where_that_is_wanted_and_nobody_has_none() {
    let personal = |namespace: &str| Rules {
        personal_namespace: Some(namespace.into()),
        ..rules()
    };
    let hears = |rules, user| {
        let mut client = open(rules);
        client.send(connect("t"));
        client.authenticate(Ok(identity(user)))
    };
    assert_eq!(
        asked(&hears(personal("quiet"), "ada")),
        [("quiet:#ada", Read::Nothing)]
    );
    assert_eq!(told(&hears(personal("quiet"), "")).subs, []);
    assert_eq!(
        told(&hears(personal("quiet"), "ada lovelace")).subs,
        [],
        "no channel can have that name"
    );
    assert_eq!(
        error_code(&hears(personal(""), "ada")),
        102,
        "nobody configured it"
    );
}

#[test]
fn a_client_gets_the_channels_that_it_names_as_it_connects_and_could_subscribe_to() {
    let mut client = open(rules());
    let names = [
        "tasks:1",
        "sealed:1",
        "$tasks:1",
        "asked:1",
        "tasks:#eve",
        "tasks:#ada",
    ];
    let subs = names.into_iter().map(wanting).collect();
    client.send(connect_naming("t", subs));
    let actions = client.authenticate(Ok(identity("ada")));
    assert_eq!(
        asked(&actions),
        [("tasks:#ada", Read::Nothing), ("tasks:1", Read::Nothing)]
    );
}

#[test]
fn naming_a_channel_that_cannot_be_is_a_bad_request() {
    for name in ["nowhere:1", "{}"] {
        let mut client = open(rules());
        client.send(connect_naming("t", vec![wanting(name)]));
        assert_eq!(close_code(&client.authenticate(Ok(identity("ada")))), 3501);
    }
}

#[test]
fn where_the_backend_says_who_a_client_is_it_says_what_it_hears_too() {
    let mut client = open(with_backend());
    client.send(connect_naming("", vec![wanting("tasks:1"), wanting("nowhere:1")]));
    assert_eq!(told(&client.authenticate(Ok(identity("ada")))).subs, []);
}

#[test]
fn a_bus_that_does_not_confirm_in_time_ends_the_connection() {
    let mut client = open(rules());
    client.send(connect("t"));
    client.authenticate(Ok(hearing("ada", &["tasks:1"])));
    assert_eq!(client.wait(9), []);
    let actions = client.wait(1);
    assert_eq!(actions[0], leave("tasks:1", false));
    assert_eq!(close_code(&actions), 3004);
}

#[test]
fn a_channel_that_is_taken_back_while_the_client_connects_is_not_entered() {
    let mut client = open(rules());
    client.send(connect("t"));
    client.authenticate(Ok(hearing("ada", &["tasks:1", "tasks:2"])));
    client.outside(|session, out| {
        session.unsubscribe_from_server(&channel("tasks:1"), UnsubscribeReason::SERVER, out);
    });
    client.confirm(1, "tasks:1");
    let actions = client.confirm(1, "tasks:2");
    assert!(actions.contains(&leave("tasks:1", false)), "{actions:?}");
    let connected = actions.iter().find_map(|action| match action {
        Action::Reply(Reply::Connect { result, .. }) => Some(result),
        _ => None,
    });
    assert_eq!(connected.map(|result| result.subs.len()), Some(1));
    assert!(!client.is_in("tasks:1") && client.is_in("tasks:2"));
}
