//! Pings and pongs.

use std::time::Duration;

use tidings_protocol::{CloseReason, Reply, Request};

use super::fixture::*;
use crate::{Action, Rules, Transport};

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
fn a_client_that_cannot_answer_is_pinged_all_the_same_and_need_not() {
    let transport = Transport {
        mute: true,
        ..Transport::default()
    };
    let mut client = reached_by(transport, rules());
    client.send(connect("t"));
    client.authenticate(Ok(identity("ada")));
    for _ in 0..10 {
        assert_eq!(client.wait(25), [Action::Reply(Reply::Ping)]);
    }
}

#[test]
fn a_pong_that_nobody_asked_for_is_a_bad_request_unless_the_transport_sent_it() {
    let mut client = connected(rules(), "ada");
    client.session.transport_pong();
    assert_eq!(close_code(&client.send(Request::Pong)), 3501);
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
        client.session.transport_beat(client.now, &mut out);
    }
    assert_eq!(out, [Action::Close(CloseReason::TooManyRequests)]);
}
