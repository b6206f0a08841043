use rand::{SeedableRng as _, rngs::SmallRng};

use super::*;

/// A listener on `channels` that is told the time.
struct Listener {
    session: Session<SmallRng>,
    now: Instant,
}

impl Listener {
    fn new(channels: &[&str], token: Option<&str>) -> Self {
        let channels = channels
            .iter()
            .map(|name| Channel::parse(name).unwrap())
            .collect();
        let session = Session::new(channels, token.map(str::to_owned), SmallRng::seed_from_u64(1));
        Self {
            session,
            now: Instant::now(),
        }
    }

    /// One that is connected and subscribed to `tasks:1` by a server that pings every 25 s.
    fn listening() -> Self {
        let mut listener = Self::new(&["tasks:1"], None);
        listener.session.opened(listener.now);
        listener.hears(r#"{"id":1,"connect":{"client":"c","version":"1","ping":25,"pong":true}}"#);
        listener.hears(r#"{"id":2,"subscribe":{}}"#);
        listener
    }

    fn hears(&mut self, frame: &str) -> Vec<Action> {
        self.session.received(frame, self.now)
    }

    /// Goes on to the next deadline.
    fn waits(&mut self) -> Vec<Action> {
        self.now = self.session.deadline().expect("something is due");
        self.session.expired(self.now)
    }
}

fn tell(text: &str) -> Action {
    Action::Tell(text.to_owned())
}

fn stop(text: &str) -> Action {
    Action::Stop(text.to_owned())
}

/// The wait of a reconnect that was announced with `why`.
fn reconnect(actions: &[Action], why: &str) -> Duration {
    match actions {
        [Action::Tell(told), Action::Reconnect(wait)] if told.starts_with(why) => *wait,
        other => panic!("expected a reconnect because {why:?}, got {other:?}"),
    }
}

#[test]
fn connect_and_all_subscriptions_leave_in_one_frame() {
    let mut listener = Listener::new(&["tasks:1", "news"], Some("abc"));
    let version = env!("CARGO_PKG_VERSION");
    let frame = [
        format!(r#"{{"id":1,"connect":{{"token":"abc","name":"tidings","version":"{version}"}}}}"#),
        r#"{"id":2,"subscribe":{"channel":"tasks:1","recoverable":true}}"#.to_owned(),
        r#"{"id":3,"subscribe":{"channel":"news","recoverable":true}}"#.to_owned(),
    ]
    .join("\n");
    assert_eq!(listener.session.opened(listener.now), [Action::Send(frame)]);
    let replies = "{\"id\":1,\"connect\":{\"client\":\"c7\"}}\n{\"id\":2,\"subscribe\":{}}\n{\"id\":3,\"subscribe\":{}}\n";
    assert_eq!(
        listener.hears(replies),
        [
            tell("connected as client c7"),
            tell("listening to tasks:1"),
            tell("listening to news")
        ]
    );
}

#[test]
fn a_publication_is_printed_as_it_came() {
    let mut listener = Listener::listening();
    let push = r#"{"channel":"tasks:1","pub":{"data":{"n": 1e2, "s":"é\u00e9"},"offset":3}}"#;
    let printed = Action::Print {
        channel: "tasks:1".to_owned(),
        data: r#"{"n": 1e2, "s":"é\u00e9"}"#.to_owned(),
        push: push.to_owned(),
    };
    assert_eq!(listener.hears(&format!(r#"{{"push":{push}}}"#)), [printed]);
}

#[test]
fn joins_and_kinds_of_pushes_that_are_not_known_are_passed_over() {
    let mut listener = Listener::listening();
    assert_eq!(
        listener.hears(r#"{"push":{"channel":"tasks:1","join":{"info":{"user":"u"}}}}"#),
        []
    );
    assert_eq!(listener.hears(r#"{"push":{"message":{"data":1}}}"#), []);
}

#[test]
fn a_ping_is_answered_where_the_server_wants_that() {
    let mut listener = Listener::listening();
    assert_eq!(listener.hears("{}"), [Action::Send("{}".to_owned())]);

    let mut quiet = Listener::new(&["a"], None);
    quiet.session.opened(quiet.now);
    quiet.hears(r#"{"id":1,"connect":{"client":"c","ping":25}}"#);
    assert_eq!(quiet.hears("{}"), []);
}

#[test]
fn a_server_that_pings_no_more_is_left() {
    let mut listener = Listener::listening();
    let began = listener.now;
    listener.now += Duration::from_secs(25);
    listener.hears("{}");
    reconnect(&listener.waits(), "the server has gone silent");
    assert_eq!(listener.now - began, Duration::from_secs(25 + 25 + 10));
    assert_eq!(
        listener.session.deadline(),
        None,
        "there is nothing to wait for without a connection"
    );
}

#[test]
fn a_server_that_announces_no_pings_may_be_silent_for_ever() {
    let mut listener = Listener::new(&["a"], None);
    listener.session.opened(listener.now);
    listener.hears("{\"id\":1,\"connect\":{\"client\":\"c\"}}\n{\"id\":2,\"subscribe\":{}}");
    assert_eq!(listener.session.deadline(), None);
}

#[test]
fn a_server_that_does_not_answer_is_left() {
    let mut listener = Listener::new(&["a"], None);
    listener.session.opened(listener.now);
    reconnect(&listener.waits(), "the server has gone silent");

    listener.session.opened(listener.now);
    // `connect` and `subscribe` have new numbers on the new connection.
    listener.hears(r#"{"id":3,"connect":{"client":"c"}}"#);
    reconnect(
        &listener.waits(),
        "the server did not answer the subscription to a",
    );
}

#[test]
fn a_lost_connection_is_opened_again_with_growing_patience_and_subscribed_again() {
    let mut listener = Listener::listening();
    let lost = |listener: &mut Listener| listener.session.ended(End::Lost("reset by peer".to_owned()));
    let first = reconnect(&lost(&mut listener), "reset by peer; connecting again in ");
    assert!(first >= Duration::from_millis(500), "{first:?}");
    let longest = (0..20)
        .map(|_| reconnect(&lost(&mut listener), "reset"))
        .max()
        .unwrap();
    assert!(
        longest > Duration::from_secs(5) && longest <= Duration::from_secs(20),
        "{longest:?}"
    );

    let Some(Action::Send(frame)) = listener.session.opened(listener.now).pop() else {
        panic!("a new connection begins with a frame");
    };
    assert!(
        frame.contains(r#""subscribe":{"channel":"tasks:1","recoverable":true}"#),
        "{frame}"
    );
    listener.hears(r#"{"id":3,"connect":{"client":"c"}}"#);
    let after_success = reconnect(&lost(&mut listener), "reset");
    assert!(after_success <= Duration::from_secs(1), "{after_success:?}");
}

#[test]
fn who_comes_back_to_a_stream_says_where_it_was_and_hears_what_it_missed() {
    let mut listener = Listener::new(&["tasks:1"], None);
    listener.session.opened(listener.now);
    listener.hears(r#"{"id":1,"connect":{"client":"c"}}"#);
    listener.hears(r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":3,"positioned":true}}"#);
    listener.hears(r#"{"push":{"channel":"tasks:1","pub":{"data":4,"offset":4}}}"#);
    listener.session.ended(End::Lost("reset".to_owned()));
    let Some(Action::Send(frame)) = listener.session.opened(listener.now).pop() else {
        panic!("a new connection begins with a frame");
    };
    let asked = r#""recoverable":true,"recover":true,"offset":4,"epoch":"e"}"#;
    assert!(frame.contains(asked), "{frame}");
    listener.hears(r#"{"id":3,"connect":{"client":"c"}}"#);
    let recovered = r#"{"id":4,"subscribe":{"recoverable":true,"epoch":"e","offset":4,"was_recovering":true,
        "recovered":true,"publications":[{"data":5,"offset":5}]}}"#
        .replace('\n', "");
    let actions = listener.hears(&recovered);
    let printed = Action::Print {
        channel: "tasks:1".to_owned(),
        data: "5".to_owned(),
        push: r#"{"channel":"tasks:1","pub":{"data":5,"offset":5}}"#.to_owned(),
    };
    assert_eq!(actions, [tell("listening to tasks:1"), printed]);
    // From there on again.
    listener.session.ended(End::Lost("reset".to_owned()));
    let Some(Action::Send(frame)) = listener.session.opened(listener.now).pop() else {
        panic!("a new connection begins with a frame");
    };
    assert!(frame.contains(r#""offset":5"#), "{frame}");
}

#[test]
fn what_cannot_be_recovered_is_said() {
    let mut listener = Listener::listening();
    listener.session.ended(End::Lost("reset".to_owned()));
    listener.session.opened(listener.now);
    listener.hears(r#"{"id":3,"connect":{"client":"c"}}"#);
    let actions =
        listener.hears(r#"{"id":4,"subscribe":{"recoverable":true,"epoch":"f","was_recovering":true}}"#);
    let told = tell("what was published to tasks:1 meanwhile is not kept any more");
    assert_eq!(actions, [tell("listening to tasks:1"), told]);
}

#[test]
fn close_codes_say_whether_to_come_back() {
    let close = |code, reason: &str| {
        Listener::listening().session.ended(End::Closed {
            code,
            reason: reason.to_owned(),
        })
    };
    for code in [1000, 1006, 1012, 2999, 3000, 3001, 3499, 4000, 4499, 5000] {
        reconnect(
            &close(code, "shutdown"),
            &format!("the server closed the connection: shutdown ({code});"),
        );
    }
    for code in [3500, 3503, 3999, 4500, 4999, 1009] {
        let stopped = stop(&format!("the server closed the connection for good: no ({code})"));
        assert_eq!(close(code, "no"), [stopped]);
    }
}

#[test]
fn a_listener_without_a_token_is_told_that_one_may_be_missing() {
    let bad_request = || End::Closed {
        code: 3501,
        reason: "bad request".to_owned(),
    };
    let said = "the server closed the connection for good: bad request (3501)";
    let hint = "; if it requires a token, give one with --token or TIDINGS_TOKEN";
    assert_eq!(
        Listener::new(&["a"], None).session.ended(bad_request()),
        [stop(&format!("{said}{hint}"))]
    );
    assert_eq!(
        Listener::new(&["a"], Some("t")).session.ended(bad_request()),
        [stop(said)]
    );
}

#[test]
fn what_the_server_will_never_accept_is_not_tried_again() {
    let connect_error = |error: &str| {
        let mut listener = Listener::new(&["a"], Some("t"));
        listener.session.opened(listener.now);
        listener.hears(&format!(r#"{{"id":1,"error":{error}}}"#))
    };
    assert_eq!(
        connect_error(r#"{"code":109,"message":"token expired"}"#),
        [stop(
            "the server refused the token: token expired (109); mint a new one with `tidings token`"
        )]
    );
    assert_eq!(
        connect_error(r#"{"code":106,"message":"limit exceeded"}"#),
        [stop("the server refused this client: limit exceeded (106)")]
    );
    reconnect(
        &connect_error(r#"{"code":100,"message":"internal server error","temporary":true}"#),
        "the server could not let this client in: internal server error (100); connecting again in ",
    );
}

#[test]
fn a_subscription_that_failed_for_now_is_asked_for_again() {
    let mut listener = Listener::listening();
    let push = r#"{"push":{"channel":"tasks:1","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    let actions = listener.hears(push);
    assert!(
        matches!(&actions[..], [Action::Tell(told)] if told.starts_with("not subscribed to tasks:1: insufficient state (2500); trying again in ")),
        "{actions:?}"
    );
    assert_eq!(
        listener.waits(),
        [Action::Send(
            r#"{"id":3,"subscribe":{"channel":"tasks:1","recoverable":true}}"#.to_owned()
        )]
    );

    let actions =
        listener.hears(r#"{"id":3,"error":{"code":111,"message":"too many requests","temporary":true}}"#);
    assert!(matches!(&actions[..], [Action::Tell(_)]), "{actions:?}");
    assert_eq!(
        listener.waits(),
        [Action::Send(
            r#"{"id":4,"subscribe":{"channel":"tasks:1","recoverable":true}}"#.to_owned()
        )]
    );
    assert_eq!(
        listener.hears(r#"{"id":4,"subscribe":{}}"#),
        [tell("listening to tasks:1")]
    );
}

#[test]
fn one_refused_channel_leaves_the_others_and_the_last_one_ends_it_all() {
    let mut listener = Listener::new(&["secret", "news"], None);
    listener.session.opened(listener.now);
    listener.hears(r#"{"id":1,"connect":{"client":"c"}}"#);
    listener.hears(r#"{"id":3,"subscribe":{}}"#);
    assert_eq!(
        listener.hears(r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#),
        [tell("not subscribed to secret: permission denied (103)")]
    );
    let Some(Action::Send(frame)) = listener.session.opened(listener.now).pop() else {
        panic!("a new connection begins with a frame");
    };
    assert!(
        !frame.contains("secret"),
        "what was refused for good is not asked for again: {frame}"
    );
    assert_eq!(
        listener.hears(
            r#"{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#
        ),
        [stop("not subscribed to news: server unsubscribe (2000)")]
    );
}

#[test]
fn what_is_no_reply_ends_the_connection_and_nothing_after_it_counts() {
    let mut listener = Listener::listening();
    let actions = listener.hears("{\"id\":\nnonsense\n{}");
    reconnect(&actions, "the server sent what this client does not understand: ");
}
