//! Golden lines: what the SDKs read.

use std::time::SystemTime;

use bytes::Bytes;
use tidings_core::{Channel, ClientId, Position};

use super::*;
use crate::{Error, reply::Connected};

const CLIENT: &str = "6a1c1f6e-59c3-4b69-8f2a-1d3a5e7f9b10";

fn text(value: &Reply) -> String {
    let mut out = Vec::new();
    reply(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn info() -> ClientInfo {
    ClientInfo {
        user: "42".into(),
        client: ClientId::parse(CLIENT).unwrap(),
        conn_info: Bytes::from_static(b"{\"name\":\"Ada\"}"),
        chan_info: Bytes::new(),
    }
}

#[test]
fn replies_are_written_as_the_sdks_read_them() {
    let result = Connected {
        client: ClientId::parse(CLIENT).unwrap(),
        version: "tidings 1",
        expires_in: Some(Duration::from_secs(60)),
        ping_interval: Duration::from_secs(25),
        channels: vec![Channel::parse("tasks:42").unwrap()],
    };
    assert_eq!(
        text(&Reply::Connect { id: 1, result }),
        format!(
            r#"{{"id":1,"connect":{{"client":"{CLIENT}","version":"tidings 1","expires":true,"ttl":60,"subs":{{"tasks:42":{{}}}},"ping":25,"pong":true}}}}"#
        )
    );
    assert_eq!(text(&Reply::Subscribe { id: 2 }), r#"{"id":2,"subscribe":{}}"#);
    assert_eq!(text(&Reply::Ping), "{}");
    assert_eq!(
        text(&Reply::Error {
            id: 3,
            error: Error::INTERNAL
        }),
        r#"{"id":3,"error":{"code":100,"message":"internal server error","temporary":true}}"#
    );
    assert_eq!(
        text(&Reply::Presence {
            id: 4,
            members: vec![info()]
        }),
        format!(
            r#"{{"id":4,"presence":{{"presence":{{"{CLIENT}":{{"user":"42","client":"{CLIENT}","conn_info":{{"name":"Ada"}}}}}}}}}}"#
        )
    );
    assert_eq!(
        text(&Reply::Presence {
            id: 4,
            members: vec![]
        }),
        r#"{"id":4,"presence":{"presence":{}}}"#
    );
    assert_eq!(
        text(&Reply::PresenceStats {
            id: 5,
            clients: 0,
            users: 0
        }),
        r#"{"id":5,"presence_stats":{"num_clients":0,"num_users":0}}"#
    );
    let position = |offset| Position {
        offset,
        epoch: "e".into(),
    };
    let kept = |offset| Publication {
        position: Some(position(offset)),
        ..Publication::new(Bytes::from_static(b"[]"), Format::Json, SystemTime::UNIX_EPOCH)
    };
    assert_eq!(
        text(&Reply::History {
            id: 7,
            publications: vec![kept(1), kept(2)],
            top: position(2)
        }),
        r#"{"id":7,"history":{"publications":[{"data":[],"offset":1},{"data":[],"offset":2}],"epoch":"e","offset":2}}"#
    );
    assert_eq!(
        text(&Reply::Refresh {
            id: 6,
            expires_in: None
        }),
        r#"{"id":6,"refresh":{}}"#
    );
}

#[test]
fn a_publication_carries_its_data_as_it_is_and_only_what_it_has() {
    let channel = Channel::parse("tasks:\"1\"").unwrap();
    let mut publication = Publication::new(
        Bytes::from_static(b"{\"a\":1}"),
        Format::Json,
        SystemTime::UNIX_EPOCH,
    );
    let line = |publication: &Publication| {
        let mut out = Vec::new();
        push(Push::Publication(&channel, publication), &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(
        line(&publication).unwrap(),
        r#"{"push":{"channel":"tasks:\"1\"","pub":{"data":{"a":1}}}}"#
    );
    publication.position = Some(Position {
        offset: 7,
        epoch: "e".into(),
    });
    publication.tags = [("k\"".to_owned(), "v".to_owned())].into();
    publication.info = Some(info());
    assert_eq!(
        line(&publication).unwrap(),
        format!(
            r#"{{"push":{{"channel":"tasks:\"1\"","pub":{{"data":{{"a":1}},"info":{{"user":"42","client":"{CLIENT}","conn_info":{{"name":"Ada"}}}},"offset":7,"tags":{{"k\"":"v"}}}}}}}}"#
        )
    );
    publication.format = Format::Binary;
    assert_eq!(line(&publication), Err(CloseReason::InappropriateProtocol));
}
