//! What is written, read again with the generated types.

use std::time::SystemTime;

use tidings_core::{Channel, ClientId, Format, Payload, Position};

use super::*;
use crate::{CloseReason, Error, UnsubscribeReason};

const CLIENT: &str = "6a1c1f6e-59c3-4b69-8f2a-1d3a5e7f9b10";

fn decoded(write: impl FnOnce(&mut Vec<u8>)) -> wire::Reply {
    let mut out = Vec::new();
    write(&mut out);
    let mut rest = out.as_slice();
    let message = wire::Reply::decode_length_delimited(&mut rest).unwrap();
    assert!(rest.is_empty(), "one message");
    message
}

fn replied(value: &Reply) -> wire::Reply {
    decoded(|out| reply(value, out))
}

fn pushed(value: Push<'_>) -> wire::Push {
    let message = decoded(|out| push(value, out));
    assert_eq!(message.id, 0);
    message.push.unwrap()
}

fn channel() -> Channel {
    Channel::parse("tasks:1").unwrap()
}

fn info() -> ClientInfo {
    ClientInfo {
        user: "42".into(),
        client: ClientId::parse(CLIENT).unwrap(),
        conn_info: Bytes::from_static(b"{}"),
        chan_info: Bytes::new(),
    }
}

fn wire_info() -> wire::ClientInfo {
    wire::ClientInfo {
        user: "42".into(),
        client: CLIENT.into(),
        conn_info: Bytes::from_static(b"{}"),
        chan_info: Bytes::new(),
    }
}

fn at(offset: u64) -> Option<Position> {
    Some(Position {
        offset,
        epoch: "e".into(),
    })
}

fn kept(offset: u64, data: &'static [u8]) -> Publication {
    Publication {
        position: at(offset),
        ..Publication::new(Bytes::from_static(data), Format::Binary, SystemTime::UNIX_EPOCH)
    }
}

fn binary() -> Payload {
    Payload {
        data: Bytes::from_static(b"\xff\x00"),
        format: Format::Binary,
    }
}

#[test]
fn a_ping_is_the_single_byte_zero() {
    let mut out = Vec::new();
    reply(&Reply::Ping, &mut out);
    assert_eq!(out, [0]);
}

#[test]
fn what_a_client_learns_as_it_connects() {
    let recovered = Subscribed {
        position: at(7),
        recoverable: true,
        recovered: Some(true),
        ..Default::default()
    };
    let result = Box::new(Connected {
        client: ClientId::parse(CLIENT).unwrap(),
        version: "tidings 1",
        expires_in: Some(Duration::from_secs(60)),
        data: binary(),
        subs: vec![(channel(), recovered), (channel(), Subscribed::default())],
        ping_interval: Duration::from_secs(25),
        pong: true,
        session: Some("s".into()),
        node: Some("n".into()),
    });
    let sub = wire::SubscribeResult {
        recoverable: true,
        epoch: "e".into(),
        offset: 7,
        positioned: true,
        recovered: true,
        was_recovering: true,
        ..Default::default()
    };
    let expected = wire::ConnectResult {
        client: CLIENT.into(),
        version: "tidings 1".into(),
        expires: true,
        ttl: 60,
        data: binary().data,
        // One that says nothing is there all the same.
        subs: [sub, wire::SubscribeResult::default()]
            .map(|sub| wire::ConnectedSub {
                key: "tasks:1".into(),
                value: Some(sub),
            })
            .to_vec(),
        ping: 25,
        pong: true,
        session: "s".into(),
        node: "n".into(),
    };
    let message = replied(&Reply::Connect { id: 1, result });
    assert_eq!((message.id, message.connect), (1, Some(expected)));
}

#[test]
fn an_empty_result_is_there_all_the_same() {
    let result = Box::default();
    let message = replied(&Reply::Subscribe { id: 7, result });
    assert_eq!(
        (message.id, message.subscribe),
        (7, Some(wire::SubscribeResult::default()))
    );
    assert!(replied(&Reply::Unsubscribe { id: 7 }).unsubscribe.is_some());
    assert!(replied(&Reply::Publish { id: 7 }).publish.is_some());
    let payload = Payload::default();
    assert!(replied(&Reply::Rpc { id: 7, payload }).rpc.is_some());
    let expires_in = None;
    assert_eq!(
        replied(&Reply::Refresh { id: 7, expires_in }).refresh,
        Some(wire::RefreshResult::default())
    );
    assert!(
        replied(&Reply::SubRefresh { id: 7, expires_in })
            .sub_refresh
            .is_some()
    );
    let members = vec![];
    assert!(replied(&Reply::Presence { id: 7, members }).presence.is_some());
}

#[test]
fn answers_say_what_they_have_to_say() {
    let error = Error::INTERNAL;
    let error = replied(&Reply::Error { id: 8, error }).error.unwrap();
    assert_eq!((error.code, error.temporary), (100, true));
    let members = vec![info()];
    let presence = replied(&Reply::Presence { id: 7, members }).presence.unwrap();
    assert_eq!(presence.presence, [(CLIENT.to_owned(), wire_info())].into());
    let stats = Reply::PresenceStats {
        id: 7,
        clients: 3,
        users: 2,
    };
    let stats = replied(&stats).presence_stats.unwrap();
    assert_eq!((stats.num_clients, stats.num_users), (3, 2));
    let publications = vec![kept(1, b"a"), kept(2, b"b")];
    let top = at(2).unwrap();
    let history = replied(&Reply::History {
        id: 7,
        publications,
        top,
    })
    .history
    .unwrap();
    let offsets: Vec<_> = history.publications.iter().map(|it| it.offset).collect();
    assert_eq!(
        (offsets, history.offset, history.epoch.as_str()),
        (vec![1, 2], 2, "e")
    );
    let payload = binary();
    let rpc = replied(&Reply::Rpc { id: 7, payload }).rpc.unwrap();
    assert_eq!(rpc.data, binary().data);
    let expires_in = Some(Duration::from_millis(1));
    let refresh = replied(&Reply::SubRefresh { id: 7, expires_in })
        .sub_refresh
        .unwrap();
    assert_eq!((refresh.expires, refresh.ttl), (true, 1));
}

#[test]
fn what_was_missed_comes_as_differences_after_the_first() {
    let (one, two) = (
        b"\xff, then a text that is long enough: 1",
        b"\xff, then a text that is long enough: 2",
    );
    let mut result = Subscribed {
        publications: vec![kept(2, one), kept(3, two), kept(4, b"\xfe")],
        delta: true,
        ..Default::default()
    };
    let publications = |result: &Subscribed| {
        let result = Box::new(result.clone());
        let subscribed = replied(&Reply::Subscribe { id: 2, result }).subscribe.unwrap();
        let about = subscribed.publications.into_iter();
        about.map(|it| (it.data, it.delta)).collect::<Vec<_>>()
    };
    let all = publications(&result);
    assert_eq!(all[0], (Bytes::from_static(one), false));
    assert_eq!(all[1], (delta::fossil(one, two).unwrap().into(), true));
    assert_eq!(all[2], (Bytes::from_static(b"\xfe"), false));
    result.delta = false;
    assert_eq!(publications(&result)[1], (Bytes::from_static(two), false));
}

#[test]
fn what_nobody_asked_for_comes_as_a_push_without_an_id() {
    let unasked = |value: Reply| {
        let message = replied(&value);
        assert_eq!(message.id, 0);
        message.push.unwrap()
    };
    let result = Box::new(Subscribed {
        position: at(7),
        recoverable: true,
        data: binary(),
        ..Default::default()
    });
    let push = unasked(Reply::Subscribed {
        channel: channel(),
        result,
    });
    let expected = wire::Subscribe {
        recoverable: true,
        epoch: "e".into(),
        offset: 7,
        positioned: true,
        data: binary().data,
    };
    assert_eq!(
        (push.channel.as_str(), push.subscribe),
        ("tasks:1", Some(expected))
    );
    let push = unasked(Reply::Unsubscribed {
        channel: channel(),
        reason: UnsubscribeReason::SERVER,
    });
    assert_eq!(
        (push.channel.as_str(), push.unsubscribe.unwrap().code),
        ("tasks:1", 2000)
    );
    let push = unasked(Reply::Message(binary()));
    assert_eq!(push.message.unwrap().data, binary().data);
    let expires_in = Some(Duration::from_secs(5));
    let push = unasked(Reply::Refreshed { expires_in });
    assert_eq!(
        push.refresh,
        Some(wire::Refresh {
            expires: true,
            ttl: 5
        })
    );
    let push = unasked(Reply::Disconnect(CloseReason::Shutdown));
    assert_eq!(push.disconnect.unwrap().code, 3001);
}

#[test]
fn a_publication_carries_its_data_whatever_it_is() {
    let (channel, mut publication) = (channel(), kept(7, b"\xff\x00"));
    publication.tags = [("a".to_owned(), "b".to_owned())].into();
    publication.info = Some(info());
    let push = pushed(Push::Publication(&channel, &publication));
    assert_eq!(push.channel, "tasks:1");
    let whole = wire::Publication {
        data: binary().data,
        info: Some(wire_info()),
        offset: 7,
        tags: publication.tags.clone(),
        delta: false,
    };
    assert_eq!(push.r#pub, Some(whole.clone()));
    assert_eq!(
        pushed(Push::Delta(&channel, &publication, None)).r#pub,
        Some(whole.clone())
    );
    let patch = wire::Publication {
        data: Bytes::from_static(b"\xfe"),
        delta: true,
        ..whole
    };
    assert_eq!(
        pushed(Push::Delta(&channel, &publication, Some(b"\xfe"))).r#pub,
        Some(patch)
    );
}

#[test]
fn members_come_and_go() {
    let (channel, info) = (channel(), info());
    let join = pushed(Push::Join(&channel, &info)).join.unwrap();
    assert_eq!(join.info, Some(wire_info()));
    let leave = pushed(Push::Leave(&channel, &info)).leave.unwrap();
    assert_eq!(leave.info, Some(wire_info()));
}
