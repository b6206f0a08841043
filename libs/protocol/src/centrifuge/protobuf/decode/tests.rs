//! What is read of messages that the generated types wrote, and of bytes that are none.

use proptest::prelude::*;
use tidings_core::{Format, Payload};

use super::*;

fn frame(messages: &[wire::Command]) -> Bytes {
    messages
        .iter()
        .flat_map(prost::Message::encode_length_delimited_to_vec)
        .collect()
}

fn read(message: wire::Command) -> Request {
    let all: Vec<_> = commands(frame(&[message]))
        .map(|command| command.unwrap().request)
        .collect();
    <[Request; 1]>::try_from(all).unwrap().into_iter().next().unwrap()
}

fn json(text: &'static str) -> Payload {
    Payload::json(text.into())
}

#[test]
fn a_frame_carries_several_commands_in_order() {
    let refresh = wire::RefreshRequest { token: "t".into() };
    let frame = frame(&[
        wire::Command {
            id: 1,
            refresh: Some(refresh),
            ..Default::default()
        },
        wire::Command {
            send: Some(wire::SendRequest::default()),
            ..Default::default()
        },
        wire::Command::default(),
        wire::Command {
            id: 3,
            ..Default::default()
        },
    ]);
    let all: Vec<_> = commands(frame).map(|command| command.unwrap().request).collect();
    let token = "t".to_owned();
    assert_eq!(
        all,
        [
            Request::Refresh { token },
            Request::Send,
            Request::Pong,
            Request::Unknown
        ]
    );
}

#[test]
fn a_connect_says_who_where_and_with_what() {
    let sub = wire::SubscribeRequest {
        recover: true,
        epoch: "e".into(),
        offset: 7,
        ..Default::default()
    };
    let connect = wire::ConnectRequest {
        token: "t".into(),
        data: Bytes::from_static(b"[1,\n2]"),
        subs: [("a".to_owned(), sub)].into(),
        name: "js".into(),
        version: "5".into(),
        headers: [("x".to_owned(), "y".to_owned())].into(),
    };
    let expected = command::Connect {
        token: "t".into(),
        data: json("[1, 2]"),
        name: "js".into(),
        version: "5".into(),
        subs: vec![command::Subscribe {
            channel: "a".into(),
            recover: Some(Position {
                offset: 7,
                epoch: "e".into(),
            }),
            ..Default::default()
        }],
        headers: vec![("x".into(), "y".into())],
    };
    let request = read(wire::Command {
        id: 1,
        connect: Some(connect),
        ..Default::default()
    });
    assert_eq!(request, Request::Connect(Box::new(expected)));
}

#[test]
fn a_subscribe_says_all_its_wishes() {
    let leaf = wire::FilterNode {
        key: "k".into(),
        cmp: "in".into(),
        vals: vec!["1".into(), "2".into()],
        ..Default::default()
    };
    let tf = wire::FilterNode {
        op: "not".into(),
        nodes: vec![leaf],
        ..Default::default()
    };
    let subscribe = wire::SubscribeRequest {
        channel: "a".into(),
        token: "t".into(),
        data: Bytes::from_static(b"\xff"),
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: "fossil".into(),
        tf: Some(tf),
        flag: 3,
        // Without `recover` they say nothing.
        epoch: "e".into(),
        offset: 7,
        ..Default::default()
    };
    let leaf = filter::Node {
        key: "k".into(),
        cmp: "in".into(),
        vals: vec!["1".into(), "2".into()],
        ..Default::default()
    };
    let expected = command::Subscribe {
        channel: "a".into(),
        token: "t".into(),
        data: Payload {
            data: Bytes::from_static(b"\xff"),
            format: Format::Binary,
        },
        recover: None,
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
    let command = |subscribe| wire::Command {
        id: 1,
        subscribe: Some(subscribe),
        ..Default::default()
    };
    assert_eq!(
        read(command(subscribe.clone())),
        Request::Subscribe(Box::new(expected))
    );
    let of_a_map = wire::SubscribeRequest {
        r#type: 1,
        ..subscribe
    };
    assert_eq!(read(command(of_a_map)), Request::NotOffered);
}

#[test]
fn the_other_requests_say_which_channel_and_what() {
    let channel = || "a".to_owned();
    let command = wire::Command {
        id: 1,
        ..Default::default()
    };
    for (message, expected) in [
        (
            wire::Command {
                unsubscribe: Some(wire::UnsubscribeRequest { channel: channel() }),
                ..command.clone()
            },
            Request::Unsubscribe { channel: channel() },
        ),
        (
            wire::Command {
                presence: Some(wire::PresenceRequest { channel: channel() }),
                ..command.clone()
            },
            Request::Presence { channel: channel() },
        ),
        (
            wire::Command {
                presence_stats: Some(wire::PresenceStatsRequest { channel: channel() }),
                ..command.clone()
            },
            Request::PresenceStats { channel: channel() },
        ),
        (
            wire::Command {
                history: Some(wire::HistoryRequest {
                    channel: channel(),
                    limit: -1,
                    since: Some(wire::StreamPosition {
                        offset: 7,
                        epoch: "e".into(),
                    }),
                    reverse: true,
                }),
                ..command.clone()
            },
            Request::History(command::History {
                channel: channel(),
                limit: -1,
                since: Some(Position {
                    offset: 7,
                    epoch: "e".into(),
                }),
                reverse: true,
            }),
        ),
        (
            wire::Command {
                rpc: Some(wire::RpcRequest {
                    data: Bytes::from_static(b"{\n}"),
                    method: "m".into(),
                }),
                ..command.clone()
            },
            Request::Rpc {
                method: "m".into(),
                payload: json("{ }"),
            },
        ),
        (
            wire::Command {
                sub_refresh: Some(wire::SubRefreshRequest {
                    channel: channel(),
                    token: "t".into(),
                    r#type: 0,
                }),
                ..command.clone()
            },
            Request::SubRefresh {
                channel: channel(),
                token: "t".into(),
            },
        ),
        (
            wire::Command {
                sub_refresh: Some(wire::SubRefreshRequest {
                    channel: channel(),
                    token: "t".into(),
                    r#type: 1,
                }),
                ..command.clone()
            },
            Request::NotOffered,
        ),
        (
            wire::Command {
                publish: Some(wire::PublishRequest {
                    channel: channel(),
                    data: Bytes::from_static(b"1"),
                    r#type: 1,
                }),
                ..command
            },
            Request::NotOffered,
        ),
    ] {
        assert_eq!(read(message), expected);
    }
}

#[test]
fn data_that_is_not_json_is_binary() {
    let publish = |data: &'static [u8]| {
        read(wire::Command {
            id: 1,
            publish: Some(wire::PublishRequest {
                channel: "a".into(),
                data: Bytes::from_static(data),
                r#type: 0,
            }),
            ..Default::default()
        })
    };
    for (data, payload) in [
        (&b"[1,\n2]"[..], json("[1, 2]")),
        (
            b"\xff\n",
            Payload {
                data: Bytes::from_static(b"\xff\n"),
                format: Format::Binary,
            },
        ),
    ] {
        let channel = "a".to_owned();
        assert_eq!(publish(data), Request::Publish { channel, payload });
    }
}

#[test]
fn an_empty_or_truncated_frame_is_malformed() {
    assert!(commands(Bytes::new()).next().unwrap().is_err());
    let whole = frame(&[wire::Command {
        id: 300,
        ..Default::default()
    }]);
    let mut read = commands(whole.slice(..whole.len() - 1));
    assert!(read.next().unwrap().is_err());
    assert!(read.next().is_none(), "nothing is read after an error");
}

#[test]
fn a_filter_that_is_nested_without_end_is_malformed() {
    let deep = (0..200).fold(wire::FilterNode::default(), |node, _| wire::FilterNode {
        nodes: vec![node],
        ..Default::default()
    });
    let subscribe = wire::SubscribeRequest {
        tf: Some(deep),
        ..Default::default()
    };
    let command = wire::Command {
        id: 1,
        subscribe: Some(subscribe),
        ..Default::default()
    };
    assert!(commands(frame(&[command])).next().unwrap().is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = commands(frame.into()).count();
    }

    #[test]
    fn almost_commands_never_panic(
        id in 0_u32..3,
        texts in prop::collection::vec(".{0,9}", 4),
        data in prop::collection::vec(any::<u8>(), 0..20),
        at in any::<prop::sample::Index>(),
        with: u8,
    ) {
        let [channel, token, epoch, key] = <[String; 4]>::try_from(texts).unwrap();
        let node = wire::FilterNode { key, ..Default::default() };
        let subscribe = wire::SubscribeRequest {
            channel,
            token,
            epoch,
            recover: true,
            data: data.into(),
            tf: Some(wire::FilterNode { nodes: vec![node], ..Default::default() }),
            ..Default::default()
        };
        let connect = wire::ConnectRequest {
            subs: [("a".to_owned(), subscribe.clone())].into(),
            ..Default::default()
        };
        let mut frame = frame(&[
            wire::Command { id, connect: Some(connect), ..Default::default() },
            wire::Command { id, subscribe: Some(subscribe), ..Default::default() },
        ])
        .to_vec();
        let at = at.index(frame.len());
        frame[at] = with;
        let _ = commands(frame.into()).count();
    }
}
