//! What clients do in channels, and what they ask the user's backend.

use tidings_core::{DataFormat, Format, Namespace, Namespaces, Payload};
use tidings_protocol::{CloseReason, Error, Reply, Request, command};

use super::fixture::*;
use crate::{Action, Answer, Backend, Refusal, Rules};

#[test]
fn a_subscriber_may_publish_where_only_subscribers_may() {
    let mut client = connected(rules(), "ada");
    assert_eq!(error_code(&client.send(publish("tasks:1"))), 103);
    client.enter("tasks:1");
    assert!(matches!(
        client.send(publish("tasks:1"))[..],
        [Action::Publish { proxied: false, .. }]
    ));
}

#[test]
fn where_the_backend_decides_what_is_published_nothing_else_does() {
    let mut client = connected(with_backend(), "ada");
    assert!(matches!(
        client.send(publish("asked:1"))[..],
        [Action::Publish { proxied: true, .. }]
    ));
    let other = Rules {
        backend: Backend::default(),
        ..rules()
    };
    assert_eq!(error_code(&connected(other, "ada").send(publish("asked:1"))), 103);
}

#[test]
fn clients_publish_json_unless_the_namespace_takes_anything_or_the_backend_decides() {
    let binary = |channel: &str| Request::Publish {
        channel: channel.into(),
        payload: Payload {
            data: "\u{1}".into(),
            format: Format::Binary,
        },
    };
    let mut client = connected(with_backend(), "ada");
    assert_eq!(error_code(&client.send(binary("quiet:1"))), 107);
    assert!(matches!(
        client.send(binary("asked:1"))[..],
        [Action::Publish { proxied: true, .. }]
    ));
    let any = Namespace {
        publication_data_format: DataFormat::Binary,
        ..Namespace::open("any")
    };
    let rules = Rules {
        namespaces: Namespaces::new(vec![any]).unwrap(),
        ..rules()
    };
    assert!(matches!(
        connected(rules, "ada").send(binary("any:1"))[..],
        [Action::Publish { proxied: false, .. }]
    ));
}

#[test]
fn every_refusal_of_a_publication_has_its_answer() {
    let refused = |refusal| {
        let mut client = connected(rules(), "ada");
        client.send(publish("quiet:1"));
        let result = Err(refusal);
        client.answer(Answer::Published { id: 2, result })
    };
    assert_eq!(error_code(&refused(Refusal::Unavailable)), 100);
    assert_eq!(
        error_code(&refused(Refusal::Error(Error::PERMISSION_DENIED))),
        103
    );
    assert_eq!(
        close_code(&refused(Refusal::Close(CloseReason::PermissionDenied))),
        3507
    );
}

#[test]
fn a_publish_without_data_or_to_an_unknown_channel_is_refused() {
    let mut client = connected(rules(), "ada");
    let nothing = Request::Publish {
        channel: "quiet:1".into(),
        payload: Payload::default(),
    };
    assert_eq!(error_code(&client.send(nothing)), 107);
    assert_eq!(error_code(&client.send(publish("nowhere:1"))), 102);
}

#[test]
fn presence_is_asked_only_where_it_is_kept() {
    let mut client = connected(rules(), "ada");
    let presence = |name: &str| Request::Presence { channel: name.into() };
    assert_eq!(error_code(&client.send(presence("quiet:1"))), 108);
    assert!(matches!(
        client.send(presence("tasks:1"))[..],
        [Action::Presence { id: 3, .. }]
    ));
    let actions = client.answer(Answer::Presence {
        id: 3,
        result: Err(Error::INTERNAL),
    });
    assert_eq!(error_code(&actions), 100);
    client.send(Request::PresenceStats {
        channel: "tasks:1".into(),
    });
    let actions = client.answer(Answer::PresenceStats {
        id: 4,
        result: Ok((2, 1)),
    });
    assert_eq!(
        actions,
        [Action::Reply(Reply::PresenceStats {
            id: 4,
            clients: 2,
            users: 1
        })]
    );
}

#[test]
fn history_is_read_only_where_it_is_kept_and_never_more_than_one_answer_has() {
    let mut client = connected(rules(), "ada");
    let history = |name: &str, limit| {
        Request::History(command::History {
            channel: name.into(),
            limit,
            ..Default::default()
        })
    };
    assert_eq!(error_code(&client.send(history("quiet:1", 1))), 108);
    for (asked, read) in [(0, 0), (5, 5), (-1, 300), (1000, 300)] {
        let actions = client.send(history("tasks:1", asked));
        let [Action::History { id, query, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(query.limit, read);
        let lost = Answer::History {
            id: *id,
            result: Err(Error::UNRECOVERABLE_POSITION),
        };
        assert_eq!(error_code(&client.answer(lost)), 112);
    }
}

#[test]
fn rpc_is_answered_by_the_backend_or_not_at_all() {
    let rpc = || Request::Rpc {
        method: "sum".into(),
        payload: payload(),
    };
    assert_eq!(error_code(&connected(rules(), "ada").send(rpc())), 108);
    let answered = |result| {
        let mut client = connected(with_backend(), "ada");
        let asked = client.send(rpc());
        assert!(matches!(&asked[..], [Action::Rpc { id: 2, info, .. }] if &*info.user == "ada"));
        client.answer(Answer::Rpc { id: 2, result })
    };
    assert_eq!(
        answered(Ok(payload())),
        [Action::Reply(Reply::Rpc {
            id: 2,
            payload: payload()
        })]
    );
    assert_eq!(
        error_code(&answered(Err(Refusal::Error(Error::METHOD_NOT_FOUND)))),
        104
    );
    assert_eq!(error_code(&answered(Err(Refusal::Unavailable))), 100);
}
