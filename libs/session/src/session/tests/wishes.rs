//! What a subscriber wishes, and what it gets of it.

use tidings_core::{Namespace, Namespaces, Overrides, filter};
use tidings_protocol::{Request, command, reply::Subscribed};

use super::fixture::*;
use crate::{Base, Grant, Hears, Place, Read, Rules};

fn got(wanted: command::Subscribe) -> (Read, Subscribed, Hears) {
    let mut client = connected(rules(), "ada");
    let (read, told) = client.come_back(wanted, place(4, &[]));
    let (told, hears) = told.expect("a subscription");
    (read, told, hears)
}

fn everything(name: &str) -> command::Subscribe {
    command::Subscribe {
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: "fossil".into(),
        ..wanting(name)
    }
}

#[test]
fn without_a_wish_and_unforced_a_subscription_has_nothing_to_tell() {
    let (read, told, hears) = got(wanting("tasks:1"));
    assert_eq!(
        (read, told, hears),
        (Read::Nothing, Subscribed::default(), Hears::default())
    );
}

#[test]
fn wishes_are_granted_where_the_namespace_allows_them() {
    let (read, told, hears) = got(everything("tasks:1"));
    assert_eq!(read, Read::Position);
    assert_eq!(told.position, Some(position(4, "e")));
    assert!(told.recoverable && told.delta);
    assert_eq!(told.recovered, None);
    assert!(hears.positioned && hears.joins);
    assert_eq!(hears.delta, Some(Base::None));
}

#[test]
fn nothing_of_a_stream_is_granted_where_there_is_none() {
    let (read, told, hears) = got(everything("quiet:1"));
    assert_eq!(
        (read, told, hears),
        (Read::Nothing, Subscribed::default(), Hears::default())
    );
}

#[test]
fn a_watched_position_is_not_yet_a_recovery() {
    let (_, told, _) = got(command::Subscribe {
        positioned: true,
        delta: "fossil".into(),
        ..wanting("tasks:1")
    });
    assert!(told.position.is_some() && told.delta && !told.recoverable);
}

#[test]
fn what_the_namespace_forces_needs_no_wish() {
    let (read, told, hears) = got(wanting("kept:1"));
    assert_eq!(read, Read::Position);
    assert!(told.recoverable && hears.positioned && hears.delta.is_none());
}

#[test]
fn differences_need_a_watched_position() {
    let (_, told, hears) = got(command::Subscribe {
        delta: "fossil".into(),
        ..wanting("tasks:1")
    });
    assert!(!told.delta && hears.delta.is_none());
}

#[test]
fn who_may_read_the_history_may_have_its_position_watched() {
    let readable = |allow_history_for_client| Namespace {
        allow_positioning: false,
        allow_recovery: false,
        allow_history_for_client,
        allow_history_for_subscriber: false,
        ..Namespace::open("n")
    };
    for allowed in [false, true] {
        let rules = Rules {
            namespaces: Namespaces::new(vec![readable(allowed)]).unwrap(),
            ..rules()
        };
        let mut client = connected(rules, "ada");
        let (_, told) = client.come_back(everything("n:1"), place(4, &[]));
        assert_eq!(told.unwrap().0.recoverable, allowed);
    }
}

#[test]
fn a_grant_may_give_what_the_namespace_does_not_but_no_stream_where_none_is() {
    let overrides = Overrides {
        force_recovery: Some(true),
        force_push_join_leave: Some(true),
        presence: Some(true),
        ..Overrides::default()
    };
    for (name, kept) in [("sealed:1", true), ("quiet:1", false)] {
        let mut client = connected(rules(), "ada");
        let granted = Grant {
            overrides,
            ..Grant::default()
        };
        let actions = client.enter_by(name, Box::new(granted));
        let [_, crate::Action::Enter { hears, presence, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(hears.positioned, kept, "{name}");
        assert!(hears.joins && presence.is_some());
    }
}

#[test]
fn a_grant_may_take_away_what_the_namespace_forces() {
    let mut client = connected(rules(), "ada");
    let overrides = Overrides {
        force_recovery: Some(false),
        presence: Some(false),
        ..Overrides::default()
    };
    let granted = Grant {
        overrides,
        ..Grant::default()
    };
    let actions = client.enter_by("kept:1", Box::new(granted));
    let [_, crate::Action::Enter { hears, presence, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(!hears.positioned && presence.is_none());
}

#[test]
fn a_filter_is_taken_only_where_it_is_allowed_and_makes_sense() {
    let with = |name, node| {
        Request::Subscribe(Box::new(command::Subscribe {
            filter: Some(node),
            ..wanting(name)
        }))
    };
    let red = filter::Node {
        key: "colour".into(),
        cmp: "eq".into(),
        val: "red".into(),
        ..filter::Node::default()
    };
    let nonsense = filter::Node {
        op: "xor".into(),
        ..filter::Node::default()
    };
    let mut client = connected(rules(), "ada");
    assert_eq!(error_code(&client.send(with("quiet:1", red.clone()))), 107);
    assert_eq!(error_code(&client.send(with("tasks:1", nonsense))), 107);
    client.send(with("tasks:1", red));
    let actions = client.confirm(4, "tasks:1");
    let [_, crate::Action::Enter { hears, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(hears.filter.is_some());
}

#[test]
fn a_stream_that_cannot_be_read_just_now_fails_those_who_would_have_it_watched() {
    let mut client = connected(rules(), "ada");
    let (_, told) = client.come_back(everything("tasks:1"), Place::default());
    let error = told.expect_err("no position");
    assert_eq!((error.code, error.temporary), (100, true));
    let (_, told) = client.come_back(wanting("tasks:1"), Place::default());
    assert!(told.is_ok(), "who wants to know nothing may come");
}
