//! The rules, one sentence each: commands and instants in, actions out.

use std::time::Duration;

use bytes::Bytes;
use tidings_core::{Format, Namespace, Namespaces};
use tidings_protocol::command;

use super::*;
use crate::Refusal;

/// A session under test, with a clock that the test turns.
struct Fixture {
    session: Session,
    now: Instant,
    next_id: u32,
}

fn rules() -> Rules {
    let tasks = Namespace {
        allow_subscribe_for_anonymous: false,
        allow_publish_for_client: false,
        ..Namespace::open("tasks")
    };
    let quiet = Namespace {
        history_size: 0,
        history_ttl: Duration::ZERO,

        presence: false,
        ..Namespace::open("quiet")
    };
    Rules {
        version: "test",
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(8),
        connect_timeout: Duration::from_secs(10),
        expired_grace: Duration::from_secs(25),
        channels: 3,
        history: 300,
        commands_per_second: 50,
        allow_anonymous: false,
        insecure: false,
        namespaces: Namespaces::new(vec![tasks, quiet]).unwrap(),
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
fn open(rules: Rules) -> Fixture {
    let now = Instant::now();
    Fixture {
        session: Session::open(Arc::new(rules), ClientId::random(), 1.0, now),
        now,
        next_id: 1,
    }
}

fn connected(rules: Rules, user: &str) -> Fixture {
    let mut fixture = open(rules);
    fixture.send(connect("token"));
    fixture.authenticate(Ok(identity(user)));
    fixture
}

fn identity(user: &str) -> Identity {
    Identity {
        user: user.into(),
        ..Identity::anonymous()
    }
}

fn connect(token: &str) -> Request {
    Request::Connect(command::Connect {
        token: token.into(),
        name: String::new(),
    })
}

fn subscribe(channel: &str) -> Request {
    Request::Subscribe(command::Subscribe {
        channel: channel.into(),
    })
}

fn unsubscribe(channel: &str) -> Request {
    Request::Unsubscribe {
        channel: channel.into(),
    }
}

fn publish(channel: &str) -> Request {
    Request::Publish {
        channel: channel.into(),
        data: Bytes::from_static(b"1"),
        format: Format::Json,
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

impl Fixture {
    /// Sends a command with the next id, or none for those that have none.
    fn send(&mut self, request: Request) -> Vec<Action> {
        let id = if matches!(request, Request::Pong | Request::Send) {
            0
        } else {
            self.next_id
        };
        self.next_id += 1;
        let mut out = Vec::new();
        self.session.command(Command { id, request }, self.now, &mut out);
        out
    }

    fn answer(&mut self, answer: Answer) -> Vec<Action> {
        let mut out = Vec::new();
        self.session.answer(answer, self.now, &mut out);
        out
    }

    fn authenticate(&mut self, result: Result<Identity, Refusal>) -> Vec<Action> {
        self.answer(Answer::Authenticated { id: 1, result })
    }

    fn confirm(&mut self, id: u32, name: &str) -> Vec<Action> {
        self.answer(Answer::Subscribed {
            id,
            channel: channel(name),
            result: Ok(()),
        })
    }

    fn wait(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        let mut out = Vec::new();
        self.session.tick(self.now, &mut out);
        out
    }
}

/// The code of the only reply, which is an error.
fn error_code(actions: &[Action]) -> u32 {
    let mut replies = actions.iter().filter(|action| matches!(action, Action::Reply(_)));
    match (replies.next(), replies.next()) {
        (Some(Action::Reply(Reply::Error { error, .. })), None) => error.code,
        _ => panic!("expected one error, got {actions:?}"),
    }
}

fn close_code(actions: &[Action]) -> u16 {
    match actions.last() {
        Some(Action::Close(reason)) => reason.code(),
        other => panic!("expected a close, got {other:?}"),
    }
}

#[test]
fn a_client_is_known_after_its_token_was_found_good() {
    let mut client = open(rules());
    assert_eq!(
        client.send(connect("t")),
        [Action::Authenticate {
            id: 1,
            token: "t".into()
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
fn a_client_without_a_token_is_closed_where_one_is_required() {
    assert_eq!(close_code(&open(rules()).send(connect(""))), 3501);
    let anonymous = Rules {
        allow_anonymous: true,
        ..rules()
    };
    assert!(matches!(
        open(anonymous).send(connect(""))[..],
        [Action::Authenticate { .. }]
    ));
}

#[test]
fn an_expired_token_is_an_error_and_a_false_one_ends_the_connection() {
    let mut expired = open(rules());
    expired.send(connect("t"));
    assert_eq!(error_code(&expired.authenticate(Err(Refusal::Expired))), 109);
    let mut invalid = open(rules());
    invalid.send(connect("t"));
    assert_eq!(close_code(&invalid.authenticate(Err(Refusal::Invalid))), 3500);
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

#[test]
fn a_client_whose_token_names_channels_is_connected_when_the_bus_has_confirmed_them_all() {
    let mut client = open(rules());
    client.send(connect("t"));
    assert_eq!(client.send(publish("quiet:1")), [], "it waits for the connect");
    let channels = vec![channel("tasks:1"), channel("$quiet:#ada"), channel("tasks:1")];
    let actions = client.authenticate(Ok(Identity {
        channels,
        ..identity("ada")
    }));
    assert!(
        matches!(
            actions[..],
            [Action::Subscribe { id: 1, .. }, Action::Subscribe { id: 1, .. }]
        ),
        "{actions:?}"
    );
    assert_eq!(client.confirm(1, "tasks:1"), []);
    let actions = client.confirm(1, "$quiet:#ada");
    let [
        Action::Reply(Reply::Connect { id: 1, result }),
        Action::Enter { .. },
        Action::Enter { .. },
        next,
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(result.channels.len(), 2);
    assert!(matches!(next, Action::Publish { .. }));
    assert!(client.session.is_subscribed(&channel("tasks:1")));
    assert_eq!(
        error_code(&{
            client.answer(Answer::Published {
                id: 2,
                result: Ok(()),
            });
            client.send(subscribe("tasks:1"))
        }),
        105
    );
}

#[test]
fn a_connect_fails_as_a_whole_when_one_of_its_channels_does() {
    let with = |names: &[&str]| Identity {
        channels: names.iter().map(|name| channel(name)).collect(),
        ..identity("ada")
    };
    let mut unknown = open(rules());
    unknown.send(connect("t"));
    assert_eq!(
        error_code(&unknown.authenticate(Ok(with(&["tasks:1", "nowhere:1"])))),
        102
    );

    let mut refused = open(rules());
    refused.send(connect("t"));
    refused.authenticate(Ok(with(&["tasks:1", "tasks:2"])));
    let refusal = Answer::Subscribed {
        id: 1,
        channel: channel("tasks:1"),
        result: Err(Error::INTERNAL),
    };
    assert_eq!(error_code(&refused.answer(refusal)), 100);
    assert_eq!(refused.confirm(1, "tasks:2"), [], "nothing is entered");
    assert!(!refused.session.is_subscribed(&channel("tasks:2")));

    let mut greedy = open(rules());
    greedy.send(connect("t"));
    let many = with(&["tasks:1", "tasks:2", "tasks:3", "tasks:4"]);
    assert_eq!(close_code(&greedy.authenticate(Ok(many))), 3505);
}

#[test]
fn a_subscribe_is_answered_only_when_the_bus_has_confirmed() {
    let mut client = connected(rules(), "ada");
    assert_eq!(
        client.send(subscribe("tasks:1")),
        [Action::Subscribe {
            id: 2,
            channel: channel("tasks:1")
        }]
    );
    assert!(!client.session.is_subscribed(&channel("tasks:1")));
    let actions = client.confirm(2, "tasks:1");
    let [
        Action::Reply(Reply::Subscribe { id: 2 }),
        Action::Enter {
            presence: Some(info), ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((&*info.user, info.client), ("ada", client.session.client()));
}

#[test]
fn a_channel_without_presence_is_entered_unseen() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe("quiet:1"));
    assert!(matches!(
        client.confirm(2, "quiet:1")[1],
        Action::Enter { presence: None, .. }
    ));
}

#[test]
fn a_subscribe_that_the_bus_refuses_leaves_no_trace() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe("tasks:1"));
    let refused = Answer::Subscribed {
        id: 2,
        channel: channel("tasks:1"),
        result: Err(Error::INTERNAL),
    };
    assert_eq!(error_code(&client.answer(refused)), 100);
    assert!(matches!(
        client.send(subscribe("tasks:1"))[..],
        [Action::Subscribe { .. }]
    ));
}

#[test]
fn subscribes_that_cannot_be_granted_say_why() {
    let mut client = connected(rules(), "ada");
    assert_eq!(error_code(&client.send(subscribe("nowhere:1"))), 102);
    assert_eq!(error_code(&client.send(subscribe("$tasks:1"))), 103);
    assert_eq!(error_code(&client.send(subscribe("tasks:#ada"))), 103);
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
    let insecure = Rules {
        insecure: true,
        ..anonymous()
    };
    assert!(matches!(
        connected(insecure, "").send(subscribe("$tasks:1"))[..],
        [Action::Subscribe { .. }]
    ));
}

#[test]
fn a_subscriber_may_publish_where_only_subscribers_may() {
    let mut client = connected(rules(), "ada");
    assert_eq!(error_code(&client.send(publish("tasks:1"))), 103);
    client.send(subscribe("tasks:1"));
    client.confirm(3, "tasks:1");
    assert!(matches!(
        client.send(publish("tasks:1"))[..],
        [Action::Publish { .. }]
    ));
}

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

#[test]
fn unsubscribing_is_idempotent() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe("tasks:1"));
    client.confirm(2, "tasks:1");
    let actions = client.send(unsubscribe("tasks:1"));
    assert!(
        matches!(
            actions[..],
            [Action::Leave { presence: true, .. }, Action::Reply(_)]
        ),
        "{actions:?}"
    );
    assert!(matches!(
        client.send(unsubscribe("tasks:1"))[..],
        [Action::Reply(Reply::Unsubscribe { .. })]
    ));
    assert!(matches!(
        client.send(unsubscribe("not a name"))[..],
        [Action::Reply(_)]
    ));
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
fn a_client_is_pinged_in_rhythm_and_closed_when_it_does_not_answer() {
    let mut client = connected(rules(), "ada");
    assert_eq!(client.wait(24), []);
    assert_eq!(client.wait(1), [Action::Reply(Reply::Ping)]);
    assert_eq!(client.send(Request::Pong), []);
    assert_eq!(client.wait(25), [Action::Reply(Reply::Ping)]);
    assert_eq!(client.wait(7), []);
    assert_eq!(close_code(&client.wait(1)), 3012);
}

#[test]
fn a_pong_that_nobody_asked_for_is_a_bad_request_unless_the_transport_sent_it() {
    let mut client = connected(rules(), "ada");
    client.session.transport_pong();
    assert_eq!(close_code(&client.send(Request::Pong)), 3501);
}

#[test]
fn an_expired_connection_is_closed_after_its_grace_unless_it_was_refreshed() {
    let minute = Identity {
        expires_in: Some(Duration::from_secs(60)),
        ..identity("ada")
    };
    let mut client = open(Rules {
        ping_interval: Duration::from_secs(1000),
        ..rules()
    });
    client.send(connect("t"));
    client.authenticate(Ok(minute.clone()));
    assert_eq!(client.wait(80), []);
    assert!(matches!(
        client.send(Request::Refresh {
            token: "newer".into()
        })[..],
        [Action::Authenticate { .. }]
    ));
    let actions = client.answer(Answer::Authenticated {
        id: 2,
        result: Ok(minute),
    });
    assert!(matches!(
        actions[..],
        [Action::Reply(Reply::Refresh {
            id: 2,
            expires_in: Some(_)
        })]
    ));
    assert_eq!(client.wait(84), []);
    assert_eq!(close_code(&client.wait(1)), 3005);
}

#[test]
fn a_refresh_with_anothers_token_ends_the_connection() {
    let mut client = connected(rules(), "ada");
    client.send(Request::Refresh { token: "t".into() });
    assert_eq!(close_code(&client.authenticate(Ok(identity("eve")))), 3500);
}

#[test]
fn a_closed_session_gives_back_every_channel_once_and_says_nothing_more() {
    let mut client = connected(rules(), "ada");
    client.send(subscribe("tasks:1"));
    client.confirm(2, "tasks:1");
    client.send(subscribe("tasks:2"));
    let mut out = Vec::new();
    client.session.close(CloseReason::Shutdown, &mut out);
    assert_eq!(out.pop(), Some(Action::Close(CloseReason::Shutdown)));
    let leave = |name, presence| Action::Leave {
        channel: channel(name),
        presence,
    };
    assert!(out.contains(&leave("tasks:1", true)), "{out:?}");
    assert!(
        out.contains(&leave("tasks:2", false)),
        "nobody saw it enter: {out:?}"
    );
    assert_eq!(out.len(), 2);
    assert_eq!(client.confirm(3, "tasks:2"), []);
    assert_eq!(client.send(subscribe("tasks:3")), []);
    assert_eq!(client.wait(1000), []);
    assert!(client.session.is_closed());
}

#[test]
fn a_publish_without_data_is_a_bad_request() {
    let mut client = connected(rules(), "ada");
    let nothing = Request::Publish {
        channel: "quiet:1".into(),
        data: Bytes::new(),
        format: Format::Json,
    };
    assert_eq!(error_code(&client.send(nothing)), 107);
}

#[test]
fn no_ping_follows_before_the_answer_to_the_last_is_due() {
    let mut client = connected(
        Rules {
            pong_timeout: Duration::from_secs(20),
            ..rules()
        },
        "ada",
    );
    assert_eq!(client.wait(49), [Action::Reply(Reply::Ping)], "after a stall");
    assert_eq!(client.wait(15), []);
    assert_eq!(client.send(Request::Pong), []);
}

#[test]
fn pings_by_the_transports_means_are_paid_for() {
    let mut client = connected(rules(), "ada");
    let mut out = Vec::new();
    for _ in 0..1000 {
        client.session.transport_ping(client.now, &mut out);
    }
    assert_eq!(out, [Action::Close(CloseReason::TooManyRequests)]);
}
