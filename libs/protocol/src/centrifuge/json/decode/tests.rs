//! What is read of lines as the SDKs write them, and of lines that are no commands.

use bytes::Bytes;
use proptest::prelude::*;
use tidings_core::{Payload, Position, filter};

use super::*;
use crate::{Request, command};

fn one(frame: &str) -> Command {
    let mut all: Vec<_> = commands(frame.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(all.len(), 1, "{frame}");
    all.remove(0)
}

fn read(request: &str) -> Request {
    one(&format!("{{\"id\":1,{request}}}")).request
}

#[test]
fn the_sdks_first_frame_is_a_connect_and_its_subscriptions_in_order() {
    let frame = "{\"connect\":{\"token\":\"t\",\"name\":\"js\"},\"id\":1}\n{\"subscribe\":{\"channel\":\"a\",\"flag\":1},\"id\":2}\n";
    let all: Vec<_> = commands(frame.as_bytes()).map(Result::unwrap).collect();
    let connect = command::Connect {
        token: "t".into(),
        name: "js".into(),
        ..Default::default()
    };
    let subscribe = command::Subscribe {
        channel: "a".into(),
        ..Default::default()
    };
    assert_eq!(
        all,
        [
            Command {
                id: 1,
                request: Request::Connect(Box::new(connect))
            },
            Command {
                id: 2,
                request: Request::Subscribe(Box::new(subscribe))
            },
        ]
    );
}

#[test]
fn a_command_without_an_id_is_a_pong_unless_it_is_a_send() {
    assert_eq!(one("{}").request, Request::Pong);
    assert_eq!(one("{\"subscribe\":{\"channel\":\"a\"}}").request, Request::Pong);
    assert_eq!(one("{\"send\":{\"data\":1}}").request, Request::Send);
    assert_eq!(one("{\"id\":7}").request, Request::Unknown);
}

#[test]
fn published_data_is_kept_as_it_was_written() {
    let command = one("{\"id\":1,\"publish\":{\"channel\":\"a\",\"data\":{\"z\":1.0, \"a\":[]}}}");
    let data = Bytes::from_static(b"{\"z\":1.0, \"a\":[]}");
    assert_eq!(
        command.request,
        Request::Publish {
            channel: "a".into(),
            payload: Payload::json(data)
        }
    );
}

#[test]
fn history_is_asked_for_next_to_a_position() {
    let frame =
        r#"{"id":1,"history":{"channel":"a","limit":-1,"since":{"offset":7,"epoch":"e"},"reverse":true}}"#;
    let since = Some(Position {
        offset: 7,
        epoch: "e".into(),
    });
    assert_eq!(
        one(frame).request,
        Request::History(command::History {
            channel: "a".into(),
            limit: -1,
            since,
            reverse: true
        })
    );
}

#[test]
fn null_is_data_and_a_missing_field_is_none() {
    let data = |frame| match one(frame).request {
        Request::Publish { payload, .. } => payload.data,
        other => panic!("{other:?}"),
    };
    assert_eq!(data(r#"{"id":1,"publish":{"channel":"a","data":null}}"#), "null");
    assert_eq!(data(r#"{"id":1,"publish":{"channel":"a"}}"#), "");
}

#[test]
fn an_empty_line_or_bad_json_is_said_with_its_line() {
    let error = |frame: &str| {
        commands(frame.as_bytes())
            .last()
            .unwrap()
            .unwrap_err()
            .to_string()
    };
    assert_eq!(error(""), "line 1 is empty");
    assert_eq!(error("{\"id\":1}\n\n{}"), "line 2 is empty");
    assert!(error("{\"id\":1}\n{nope").starts_with("line 2 is not a command: "));
    assert!(error("{\"id\":-1}").starts_with("line 1 is not a command: "));
    assert_eq!(commands(b"nope\n{}").count(), 1, "nothing is read after an error");
}

#[test]
fn a_connect_says_who_where_and_with_what() {
    let expected = command::Connect {
        token: "t".into(),
        data: Payload::json("{\"a\": 1}".into()),
        name: "js".into(),
        version: "5.7.1".into(),
        subs: vec![
            command::Subscribe {
                channel: "news".into(),
                recover: Some(Position {
                    offset: 7,
                    epoch: "e".into(),
                }),
                ..Default::default()
            },
            command::Subscribe {
                channel: "tasks".into(),
                ..Default::default()
            },
        ],
        headers: vec![("x-a".into(), "b".into())],
    };
    assert_eq!(
        read(
            r#""connect":{"token":"t","data":{"a": 1},"name":"js","version":"5.7.1","flag":1,"headers":{"x-a":"b"},
            "subs":{"tasks":{},"news":{"recover":true,"offset":7,"epoch":"e"}}}"#
                .replace('\n', "")
                .as_str()
        ),
        Request::Connect(Box::new(expected))
    );
}

#[test]
fn a_subscribe_says_all_its_wishes() {
    let leaf = filter::Node {
        key: "k".into(),
        cmp: "in".into(),
        vals: vec!["1".into(), "2".into()],
        ..Default::default()
    };
    let expected = command::Subscribe {
        channel: "a".into(),
        token: "t".into(),
        data: Payload::json("null".into()),
        recover: Some(Position {
            offset: 0,
            epoch: String::new(),
        }),
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: "fossil".into(),
        filter: Some(filter::Node {
            op: "not".into(),
            nodes: vec![leaf],
            ..Default::default()
        }),
        reject_unrecovered: true,
    };
    assert_eq!(
        read(
            r#""subscribe":{"channel":"a","token":"t","data":null,"recover":true,"positioned":true,"recoverable":true,"join_leave":true,"delta":"fossil","flag":3,"tf":{"op":"not","nodes":[{"key":"k","cmp":"in","vals":["1","2"]}]}}"#
        ),
        Request::Subscribe(Box::new(expected))
    );
    let plain = Request::Subscribe(Box::new(command::Subscribe {
        channel: "a".into(),
        ..Default::default()
    }));
    for request in [
        r#""subscribe":{"channel":"a","flag":1,"type":0}"#,
        r#""subscribe":{"channel":"a","recover":false,"offset":7,"epoch":"e"}"#,
        r#""subscribe":{"channel":"a","token":null,"tf":null,"recover":null,"more":{}}"#,
    ] {
        assert_eq!(read(request), plain, "{request}");
    }
}

#[test]
fn the_other_requests_say_which_channel_and_what() {
    let (channel, token) = (|| "a".to_owned(), || "t".to_owned());
    for (request, expected) in [
        (
            r#""unsubscribe":{"channel":"a"}"#,
            Request::Unsubscribe { channel: channel() },
        ),
        (
            r#""presence":{"channel":"a"}"#,
            Request::Presence { channel: channel() },
        ),
        (
            r#""presence_stats":{"channel":"a"}"#,
            Request::PresenceStats { channel: channel() },
        ),
        (r#""refresh":{"token":"t"}"#, Request::Refresh { token: token() }),
        (
            r#""sub_refresh":{"channel":"a","token":"t"}"#,
            Request::SubRefresh {
                channel: channel(),
                token: token(),
            },
        ),
        (
            r#""rpc":{"method":"m","data":[1]}"#,
            Request::Rpc {
                method: "m".into(),
                payload: Payload::json("[1]".into()),
            },
        ),
        (
            r#""rpc":{}"#,
            Request::Rpc {
                method: String::new(),
                payload: Payload::default(),
            },
        ),
        (r#""send":{"data":1}"#, Request::Send),
    ] {
        assert_eq!(read(request), expected, "{request}");
    }
}

#[test]
fn other_kinds_of_subscriptions_are_not_offered() {
    for request in [
        r#""subscribe":{"channel":"a","type":1}"#,
        r#""publish":{"channel":"a","type":1,"key":"k","data":1}"#,
        r#""sub_refresh":{"channel":"a","type":2}"#,
    ] {
        assert_eq!(read(request), Request::NotOffered, "{request}");
    }
}

#[test]
fn the_first_request_that_is_set_decides() {
    let rpc = r#""rpc":{"method":"m"}"#;
    let expected = Request::Rpc {
        method: "m".into(),
        payload: Payload::default(),
    };
    assert_eq!(read(&format!(r#""refresh":{{"token":"t"}},{rpc}"#)), expected);
    assert_eq!(read(&format!(r#""publish":null,{rpc}"#)), expected);
}

#[test]
fn data_that_is_nested_too_deeply_is_no_command_wherever_it_stands() {
    // What stands around it is nested too, and the parser counts all.
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for around in [
        r#"{"id":1,"publish":{"channel":"a","data":@}}"#,
        r#"{"id":1,"rpc":{"data":@}}"#,
        r#"{"id":1,"connect":{"data":@}}"#,
        r#"{"id":1,"connect":{"subs":{"a":{"data":@}}}}"#,
        r#"{"id":1,"subscribe":{"data":@}}"#,
    ] {
        let read = |depth| {
            let frame = around.replace('@', &nested(depth));
            commands(frame.as_bytes()).next().unwrap()
        };
        assert!(read(128).is_ok(), "{around}");
        assert!(matches!(read(129), Err(Malformed::Deep { line: 1 })), "{around}");
    }
}

#[test]
fn a_filter_that_is_nested_without_end_is_no_command() {
    let tf = format!("{}{{}}{}", "{\"nodes\":[".repeat(200), "]}".repeat(200));
    let frame = format!("{{\"id\":1,\"subscribe\":{{\"tf\":{tf}}}}}");
    let error = commands(frame.as_bytes()).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("recursion limit"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = commands(&frame).count();
    }

    #[test]
    fn almost_commands_never_panic(frame in "(\\{\"id\":[0-9]{0,12},\"(connect|subscribe|publish|rpc|history|send|sub_refresh)\":(\\{\"(channel|token|data|subs|tf|since|type)\":[^\n]{0,9}\\}|null|1)\\}\n?){1,3}") {
        let _ = commands(frame.as_bytes()).count();
    }

    #[test]
    fn every_prefix_of_a_command_is_one_or_none(at in any::<prop::sample::Index>(), with: u8) {
        let whole = br#"{"id":1,"subscribe":{"channel":"a","data":[{"b":"\u00e9"}],"tf":{"op":"and","nodes":[{"vals":["1"]}]}}}"#;
        let at = at.index(whole.len());
        let _ = commands(&whole[..at]).count();
        let mut near = *whole;
        near[at] = with;
        for command in commands(&near).flatten() {
            if let Request::Subscribe(subscribe) = command.request {
                prop_assert!(!subscribe.data.data.contains(&b'\n'));
            }
        }
    }
}
