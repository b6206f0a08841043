//! What a client that only listens says once, and what it hears.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use tidings_core::{Channel, ClientId, ClientInfo, Format, Payload, Position, Publication};

use super::*;
use crate::{
    UnsubscribeReason, command,
    reply::{Connected, Subscribed},
};

const CLIENT: &str = "6a1c1f6e-59c3-4b69-8f2a-1d3a5e7f9b10";

/// `None`: nothing was written.
fn heard(value: &Reply) -> Result<Option<String>, CloseReason> {
    let mut out = Vec::new();
    let written = reply(value, &mut out)?;
    assert_eq!(written, !out.is_empty());
    Ok(written.then(|| String::from_utf8(out).unwrap()))
}

fn channel() -> Channel {
    Channel::parse("a").unwrap()
}

#[test]
fn a_request_says_who_and_where_it_was() {
    let request = br#"{
        "token": "t",
        "data": {"a": 1},
        "subs": {"news": {"recover": true, "offset": 7, "epoch": "e"}, "tasks": {}}
    }"#;
    let sub = |channel: &str, recover| command::Subscribe {
        channel: channel.into(),
        recover,
        ..Default::default()
    };
    let position = Position {
        offset: 7,
        epoch: "e".into(),
    };
    let expected = Connect {
        token: "t".into(),
        data: Payload::json("{\"a\": 1}".into()),
        subs: vec![sub("news", Some(position)), sub("tasks", None)],
        ..Default::default()
    };
    assert_eq!(connect(request).unwrap(), expected);
}

#[test]
fn nothing_is_a_request_that_says_nothing() {
    for request in ["", " \n", "{}", "{\"token\":null,\"more\":1}"] {
        assert_eq!(
            connect(request.as_bytes()).unwrap(),
            Connect::default(),
            "{request:?}"
        );
    }
}

#[test]
fn what_is_no_request_is_refused_with_what_is_wrong() {
    let error = |request: &str| connect(request.as_bytes()).unwrap_err().to_string();
    assert!(error("{\"token\":1}").starts_with("this is not a connect request: invalid type: integer `1`"));
    assert!(error("{} {}").starts_with("this is not a connect request: trailing characters"));
    // The parser's own limit is as deep as ours, and is counted from the request's own object.
    let deep = format!("{{\"data\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    assert!(connect(deep.as_bytes()).is_err());
}

#[test]
fn the_first_thing_heard_is_who_one_is() {
    let result = Box::new(Connected {
        client: ClientId::parse(CLIENT).unwrap(),
        version: "tidings 1",
        expires_in: None,
        data: Payload::default(),
        subs: vec![(channel(), Subscribed::default())],
        ping_interval: Duration::from_secs(25),
        pong: true,
        session: Some("s".into()),
        node: None,
    });
    let expected = format!(
        r#"{{"connect":{{"client":"{CLIENT}","version":"tidings 1","subs":{{"a":{{}}}},"ping":25,"session":"s"}}}}"#
    );
    assert_eq!(heard(&Reply::Connect { id: 1, result }), Ok(Some(expected)));
}

#[test]
fn pushes_come_without_a_wrapper_and_pings_say_nothing() {
    for (reply, expected) in [
        (Reply::Ping, "{}"),
        (
            Reply::Subscribed {
                channel: channel(),
                result: Box::default(),
            },
            r#"{"channel":"a","subscribe":{}}"#,
        ),
        (
            Reply::Unsubscribed {
                channel: channel(),
                reason: UnsubscribeReason::SERVER,
            },
            r#"{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}"#,
        ),
        (
            Reply::Message(Payload::json("1".into())),
            r#"{"message":{"data":1}}"#,
        ),
        (Reply::Refreshed { expires_in: None }, r#"{"refresh":{}}"#),
        (
            Reply::Disconnect(CloseReason::Expired),
            r#"{"disconnect":{"code":3005,"reason":"connection expired"}}"#,
        ),
    ] {
        assert_eq!(heard(&reply), Ok(Some(expected.to_owned())));
    }
    let info = ClientInfo {
        user: "42".into(),
        client: ClientId::parse(CLIENT).unwrap(),
        conn_info: Bytes::new(),
        chan_info: Bytes::new(),
    };
    let mut publication = Publication::new("[1]".into(), Format::Json, SystemTime::UNIX_EPOCH);
    let said = |push_: Push<'_>| {
        let mut out = Vec::new();
        push(push_, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(
        said(Push::Publication(&channel(), &publication)).unwrap(),
        r#"{"channel":"a","pub":{"data":[1]}}"#
    );
    assert_eq!(
        said(Push::Join(&channel(), &info)).unwrap(),
        format!(r#"{{"channel":"a","join":{{"info":{{"user":"42","client":"{CLIENT}"}}}}}}"#)
    );
    publication.format = Format::Binary;
    assert_eq!(
        said(Push::Publication(&channel(), &publication)),
        Err(CloseReason::InappropriateProtocol)
    );
}

#[test]
fn an_error_ends_the_connection_as_the_protocol_says() {
    for (error, reason) in [
        (Error::PERMISSION_DENIED, CloseReason::PermissionDenied),
        (Error::TOKEN_EXPIRED, CloseReason::Expired),
        (Error::EXPIRED, CloseReason::Expired),
        (Error::TOO_MANY_REQUESTS, CloseReason::TooManyRequests),
        (Error::INTERNAL, CloseReason::Internal),
        (Error::UNKNOWN_CHANNEL, CloseReason::PermissionDenied),
    ] {
        assert_eq!(heard(&Reply::Error { id: 1, error }), Err(reason));
    }
}

#[test]
fn answers_to_commands_it_cannot_give_are_nothing() {
    let expires_in = None;
    for reply in [
        Reply::Subscribe {
            id: 1,
            result: Box::default(),
        },
        Reply::Unsubscribe { id: 1 },
        Reply::Publish { id: 1 },
        Reply::Presence {
            id: 1,
            members: vec![],
        },
        Reply::PresenceStats {
            id: 1,
            clients: 0,
            users: 0,
        },
        Reply::Rpc {
            id: 1,
            payload: Payload::default(),
        },
        Reply::Refresh { id: 1, expires_in },
        Reply::SubRefresh { id: 1, expires_in },
    ] {
        assert_eq!(heard(&reply), Ok(None), "{reply:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(request in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = connect(&request);
    }

    #[test]
    fn almost_requests_never_panic(request in "\\{\"(token|data|subs|headers)\":(\\{(\"a\":(\\{\"(offset|recover|tf)\":[^\n]{0,9}\\}|1))?\\}|null|1)\\}?") {
        let _ = connect(request.as_bytes());
    }
}
