//! Golden lines: what the SDKs read.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use tidings_core::{Channel, ClientId, ClientInfo, Format, Payload, Position, Publication};

use super::*;
use crate::{
    Error, UnsubscribeReason,
    reply::{Connected, Subscribed},
};

const CLIENT: &str = "6a1c1f6e-59c3-4b69-8f2a-1d3a5e7f9b10";

fn line(value: &Reply) -> String {
    let mut out = Vec::new();
    reply(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn pushed(value: Push<'_>) -> Result<String, CloseReason> {
    let mut out = Vec::new();
    push(value, &mut out).map(|()| String::from_utf8(out).unwrap())
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn info() -> ClientInfo {
    ClientInfo {
        user: "42".into(),
        client: ClientId::parse(CLIENT).unwrap(),
        conn_info: Bytes::from_static(b"{\"name\":\"Ada\"}"),
        chan_info: Bytes::new(),
    }
}

fn at(offset: u64) -> Option<Position> {
    Some(Position {
        offset,
        epoch: "e".into(),
    })
}

fn kept(offset: u64, data: &str) -> Publication {
    Publication {
        position: at(offset),
        ..Publication::new(data.to_owned().into(), Format::Json, SystemTime::UNIX_EPOCH)
    }
}

fn json(text: &'static str) -> Payload {
    Payload::json(text.into())
}

fn connected() -> Connected {
    Connected {
        client: ClientId::parse(CLIENT).unwrap(),
        version: "tidings 1",
        expires_in: None,
        data: Payload::default(),
        subs: vec![],
        ping_interval: Duration::from_secs(25),
        pong: true,
        session: None,
        node: None,
    }
}

#[test]
fn what_a_client_learns_as_it_connects() {
    let result = Box::new(connected());
    assert_eq!(
        line(&Reply::Connect { id: 1, result }),
        format!(
            r#"{{"id":1,"connect":{{"client":"{CLIENT}","version":"tidings 1","ping":25,"pong":true}}}}"#
        )
    );
    let recovered = Subscribed {
        position: at(1),
        recoverable: true,
        recovered: Some(true),
        publications: vec![kept(2, "[]")],
        ..Default::default()
    };
    let result = Box::new(Connected {
        expires_in: Some(Duration::from_secs(60)),
        data: json("{\"a\":1}"),
        subs: vec![
            (channel("tasks:42"), Subscribed::default()),
            (channel("news"), recovered),
        ],
        ping_interval: Duration::from_millis(900),
        pong: false,
        session: Some("secret".into()),
        node: Some("node-1".into()),
        ..connected()
    });
    assert_eq!(
        line(&Reply::Connect { id: 1, result }),
        format!(
            r#"{{"id":1,"connect":{{"client":"{CLIENT}","version":"tidings 1","expires":true,"ttl":60,"data":{{"a":1}},"subs":{{"tasks:42":{{}},"news":{{"recoverable":true,"epoch":"e","offset":1,"positioned":true,"publications":[{{"data":[],"offset":2}}],"recovered":true,"was_recovering":true}}}},"session":"secret","node":"node-1"}}}}"#
        )
    );
}

#[test]
fn what_a_client_learns_as_it_subscribes() {
    let subscribe = |result| {
        line(&Reply::Subscribe {
            id: 2,
            result: Box::new(result),
        })
    };
    assert_eq!(subscribe(Subscribed::default()), r#"{"id":2,"subscribe":{}}"#);
    let of_an_empty_stream = Subscribed {
        position: at(0),
        ..Default::default()
    };
    assert_eq!(
        subscribe(of_an_empty_stream),
        r#"{"id":2,"subscribe":{"epoch":"e","positioned":true}}"#
    );
    let unrecovered = Subscribed {
        expires_in: Some(Duration::from_millis(10)),
        position: at(9),
        recoverable: true,
        recovered: Some(false),
        data: json("1"),
        ..Default::default()
    };
    assert_eq!(
        subscribe(unrecovered),
        r#"{"id":2,"subscribe":{"expires":true,"ttl":1,"recoverable":true,"epoch":"e","offset":9,"positioned":true,"data":1,"was_recovering":true}}"#
    );
}

#[test]
fn what_was_missed_comes_as_differences_after_the_first() {
    let long = |value: &str| format!(r#"{{"sensor":"kitchen","unit":"celsius","value":{value}}}"#);
    let result = Box::new(Subscribed {
        position: at(1),
        recovered: Some(true),
        publications: vec![kept(2, &long("20.5")), kept(3, &long("21.5")), kept(4, "\"é\"")],
        delta: true,
        ..Default::default()
    });
    assert_eq!(
        line(&Reply::Subscribe { id: 2, result }),
        concat!(
            r#"{"id":2,"subscribe":{"epoch":"e","offset":1,"positioned":true,"publications":["#,
            r#"{"data":"{\"sensor\":\"kitchen\",\"unit\":\"celsius\",\"value\":20.5}","offset":2},"#,
            r#"{"data":"n\nj@0,4:1.5}16R1zc;","offset":3,"delta":true},"#,
            r#"{"data":"\"é\"","offset":4}],"recovered":true,"was_recovering":true,"delta":true}}"#
        )
    );
}

#[test]
fn answers_are_there_even_if_they_say_nothing() {
    for (reply, expected) in [
        (Reply::Ping, "{}"),
        (Reply::Unsubscribe { id: 3 }, r#"{"id":3,"unsubscribe":{}}"#),
        (Reply::Publish { id: 4 }, r#"{"id":4,"publish":{}}"#),
        (
            Reply::Presence {
                id: 5,
                members: vec![],
            },
            r#"{"id":5,"presence":{"presence":{}}}"#,
        ),
        (
            Reply::PresenceStats {
                id: 6,
                clients: 0,
                users: 0,
            },
            r#"{"id":6,"presence_stats":{"num_clients":0,"num_users":0}}"#,
        ),
        (
            Reply::History {
                id: 7,
                publications: vec![],
                top: Position {
                    offset: 0,
                    epoch: String::new(),
                },
            },
            r#"{"id":7,"history":{"publications":[],"epoch":"","offset":0}}"#,
        ),
        (
            Reply::Rpc {
                id: 8,
                payload: Payload::default(),
            },
            r#"{"id":8,"rpc":{}}"#,
        ),
        (
            Reply::Refresh {
                id: 9,
                expires_in: None,
            },
            r#"{"id":9,"refresh":{}}"#,
        ),
        (
            Reply::SubRefresh {
                id: 10,
                expires_in: None,
            },
            r#"{"id":10,"sub_refresh":{}}"#,
        ),
    ] {
        assert_eq!(line(&reply), expected);
    }
}

#[test]
fn answers_say_what_they_have_to_say() {
    let expires_in = Some(Duration::from_secs(u64::MAX));
    let error = |error| Reply::Error { id: 3, error };
    for (reply, expected) in [
        (
            error(Error::INTERNAL),
            r#"{"id":3,"error":{"code":100,"message":"internal server error","temporary":true}}"#,
        ),
        (
            error(Error::NOT_AVAILABLE.because("\"x\"")),
            r#"{"id":3,"error":{"code":108,"message":"not available: \"x\""}}"#,
        ),
        (
            Reply::History {
                id: 7,
                publications: vec![kept(1, "[]"), kept(2, "[]")],
                top: at(2).unwrap(),
            },
            r#"{"id":7,"history":{"publications":[{"data":[],"offset":1},{"data":[],"offset":2}],"epoch":"e","offset":2}}"#,
        ),
        (
            Reply::Rpc {
                id: 8,
                payload: json("null"),
            },
            r#"{"id":8,"rpc":{"data":null}}"#,
        ),
        (
            Reply::Refresh { id: 9, expires_in },
            r#"{"id":9,"refresh":{"expires":true,"ttl":31536000}}"#,
        ),
        (
            Reply::SubRefresh { id: 10, expires_in },
            r#"{"id":10,"sub_refresh":{"expires":true,"ttl":31536000}}"#,
        ),
    ] {
        assert_eq!(line(&reply), expected);
    }
    let members = vec![info()];
    assert_eq!(
        line(&Reply::Presence { id: 4, members }),
        format!(
            r#"{{"id":4,"presence":{{"presence":{{"{CLIENT}":{{"user":"42","client":"{CLIENT}","conn_info":{{"name":"Ada"}}}}}}}}}}"#
        )
    );
}

#[test]
fn what_nobody_asked_for_comes_as_a_push_without_an_id() {
    let result = Box::new(Subscribed {
        position: at(7),
        recoverable: true,
        data: json("1"),
        ..Default::default()
    });
    for (reply, expected) in [
        (
            Reply::Subscribed {
                channel: channel("a"),
                result,
            },
            r#"{"push":{"channel":"a","subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"data":1}}}"#,
        ),
        (
            Reply::Subscribed {
                channel: channel("a"),
                result: Box::default(),
            },
            r#"{"push":{"channel":"a","subscribe":{}}}"#,
        ),
        (
            Reply::Unsubscribed {
                channel: channel("a"),
                reason: UnsubscribeReason::INSUFFICIENT_STATE,
            },
            r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
        ),
        (
            Reply::Message(json("[1]")),
            r#"{"push":{"message":{"data":[1]}}}"#,
        ),
        (
            Reply::Refreshed {
                expires_in: Some(Duration::from_secs(5)),
            },
            r#"{"push":{"refresh":{"expires":true,"ttl":5}}}"#,
        ),
        (
            Reply::Refreshed { expires_in: None },
            r#"{"push":{"refresh":{}}}"#,
        ),
        (
            Reply::Disconnect(CloseReason::Shutdown),
            r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#,
        ),
    ] {
        assert_eq!(line(&reply), expected);
    }
}

#[test]
fn a_publication_carries_its_data_as_it_is_and_only_what_it_has() {
    let channel = channel("tasks:\"1\"");
    let data = Bytes::from_static(b"{\"a\":1}");
    let mut publication = Publication::new(data, Format::Json, SystemTime::UNIX_EPOCH);
    let pushed = |publication: &Publication| pushed(Push::Publication(&channel, publication));
    assert_eq!(
        pushed(&publication).unwrap(),
        r#"{"push":{"channel":"tasks:\"1\"","pub":{"data":{"a":1}}}}"#
    );
    publication.position = at(7);
    publication.tags = [("k\"".to_owned(), "v".to_owned())].into();
    publication.info = Some(info());
    assert_eq!(
        pushed(&publication).unwrap(),
        format!(
            r#"{{"push":{{"channel":"tasks:\"1\"","pub":{{"data":{{"a":1}},"info":{{"user":"42","client":"{CLIENT}","conn_info":{{"name":"Ada"}}}},"offset":7,"tags":{{"k\"":"v"}}}}}}}}"#
        )
    );
}

#[test]
fn those_who_read_differences_always_get_text_in_a_string() {
    let channel = channel("a");
    let publication = kept(7, "{\"a\": \"é\"}");
    let pushed = |patch| pushed(Push::Delta(&channel, &publication, patch)).unwrap();
    assert_eq!(
        pushed(None),
        r#"{"push":{"channel":"a","pub":{"data":"{\"a\": \"é\"}","offset":7}}}"#
    );
    assert_eq!(
        pushed(Some(b"1\n1:\"0;")),
        r#"{"push":{"channel":"a","pub":{"data":"1\n1:\"0;","offset":7,"delta":true}}}"#
    );
    assert_eq!(
        pushed(Some(b"1\n1:\xff0;")),
        pushed(None),
        "what is not UTF-8 comes whole"
    );
}

#[test]
fn members_come_and_go() {
    let (channel, info) = (channel("a"), info());
    let member = format!(r#"{{"info":{{"user":"42","client":"{CLIENT}","conn_info":{{"name":"Ada"}}}}}}"#);
    assert_eq!(
        pushed(Push::Join(&channel, &info)).unwrap(),
        format!(r#"{{"push":{{"channel":"a","join":{member}}}}}"#)
    );
    assert_eq!(
        pushed(Push::Leave(&channel, &info)).unwrap(),
        format!(r#"{{"push":{{"channel":"a","leave":{member}}}}}"#)
    );
}

#[test]
fn what_is_not_json_ends_the_connection_wherever_it_stands() {
    let data = Payload {
        data: Bytes::from_static(b"\xff"),
        format: Format::Binary,
    };
    let publication = Publication::new(data.data.clone(), data.format, SystemTime::UNIX_EPOCH);
    let publications = vec![kept(1, "1"), publication.clone()];
    let with_data = Subscribed {
        data: data.clone(),
        ..Default::default()
    };
    let with_publications = Subscribed {
        publications: publications.clone(),
        ..Default::default()
    };
    let connect = |result| Reply::Connect {
        id: 1,
        result: Box::new(result),
    };
    let subscribe = |result: &Subscribed| Reply::Subscribe {
        id: 1,
        result: Box::new(result.clone()),
    };
    for value in [
        connect(Connected {
            data: data.clone(),
            ..connected()
        }),
        connect(Connected {
            subs: vec![(channel("a"), with_data.clone())],
            ..connected()
        }),
        connect(Connected {
            subs: vec![(channel("a"), with_publications.clone())],
            ..connected()
        }),
        subscribe(&with_data),
        subscribe(&with_publications),
        Reply::History {
            id: 1,
            publications,
            top: at(2).unwrap(),
        },
        Reply::Rpc {
            id: 1,
            payload: data.clone(),
        },
        Reply::Subscribed {
            channel: channel("a"),
            result: Box::new(with_data),
        },
        Reply::Message(data),
    ] {
        let mut out = Vec::new();
        assert_eq!(
            reply(&value, &mut out),
            Err(CloseReason::InappropriateProtocol),
            "{value:?}"
        );
        assert!(out.is_empty(), "nothing is written");
    }
    let channel = channel("a");
    for push in [
        Push::Publication(&channel, &publication),
        Push::Delta(&channel, &publication, None),
    ] {
        assert_eq!(pushed(push), Err(CloseReason::InappropriateProtocol));
    }
}

proptest! {
    #[test]
    fn whatever_texts_say_they_are_one_line_of_json(
        text in ".{0,20}",
        tags in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..3),
        patch in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
    ) {
        let channel = channel("a");
        let publication = Publication {
            tags: tags.clone(),
            info: Some(ClientInfo { user: text.clone().into(), ..info() }),
            ..kept(1, &serde_json::to_string(&text).unwrap())
        };
        let pushed = pushed(Push::Delta(&channel, &publication, patch.as_deref())).unwrap();
        prop_assert!(!pushed.contains('\n'));
        let read: serde_json::Value = serde_json::from_str(&pushed).unwrap();
        let read = &read["push"]["pub"];
        prop_assert_eq!(read["info"]["user"].as_str(), Some(text.as_str()));
        for (name, value) in tags {
            prop_assert_eq!(read["tags"][name].as_str(), Some(value.as_str()));
        }
        let reason = CloseReason::Application { code: 4000, text: text.as_str().into() };
        let read: serde_json::Value = serde_json::from_str(&line(&Reply::Disconnect(reason))).unwrap();
        prop_assert_eq!(read["push"]["disconnect"]["reason"].as_str(), Some(text.as_str()));
    }
}
