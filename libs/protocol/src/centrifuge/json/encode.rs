//! Replies and pushes to one line of JSON each.
//!
//! A field that has its zero value is left out, except where the SDKs expect it: `user` and `client` of a
//! client's info, `presence`, `num_clients` and `num_users`.

use std::{io::Write, time::Duration};

use tidings_core::{ClientInfo, Format, Publication};

use super::object::Object;
use crate::{CloseReason, Push, Reply};

/// Writes a reply. `out` is memory: writing to it must not fail.
///
/// # Errors
/// As those of [`push`], for the publications of a history; nothing is written then.
pub fn reply(reply: &Reply, out: &mut impl Write) -> Result<(), CloseReason> {
    if let Reply::History { publications, .. } = reply {
        publications.iter().try_for_each(embeddable)?;
    }
    let mut line = Object::open(out);
    match reply {
        Reply::Ping => {}
        Reply::Error { id, error } => {
            line.number("id", id);
            line.object("error", |e| {
                e.number("code", error.code);
                e.text("message", &error.message);
                if error.temporary {
                    e.flag("temporary");
                }
            });
        }
        Reply::Connect { id, result } => {
            line.number("id", id);
            line.object("connect", |c| {
                c.text("client", &result.client.to_string());
                c.text("version", result.version);
                expiry(c, result.expires_in);
                if !result.subs.is_empty() {
                    c.object("subs", |subs| {
                        for (channel, _) in &result.subs {
                            subs.object(channel.as_str(), |_| {});
                        }
                    });
                }
                c.number("ping", result.ping_interval.as_secs());
                c.flag("pong");
            });
        }
        Reply::Subscribe { id, .. } => empty(&mut line, *id, "subscribe"),
        Reply::Unsubscribe { id } => empty(&mut line, *id, "unsubscribe"),
        Reply::Publish { id } => empty(&mut line, *id, "publish"),
        Reply::Presence { id, members } => {
            line.number("id", id);
            line.object("presence", |p| {
                p.object("presence", |all| {
                    for member in members {
                        all.object(&member.client.to_string(), |m| client_info(m, member));
                    }
                });
            });
        }
        Reply::PresenceStats { id, clients, users } => {
            line.number("id", id);
            line.object("presence_stats", |p| {
                p.number("num_clients", clients);
                p.number("num_users", users);
            });
        }
        Reply::History {
            id,
            publications,
            top,
        } => {
            line.number("id", id);
            line.object("history", |h| {
                h.list("publications", publications, publication_fields);
                h.text("epoch", &top.epoch);
                h.number("offset", top.offset);
            });
        }
        Reply::Refresh { id, expires_in } => {
            line.number("id", id);
            line.object("refresh", |r| expiry(r, *expires_in));
        }
        _ => {}
    }
    line.close();
    Ok(())
}

/// Writes a push. `out` is memory: writing to it must not fail.
///
/// # Errors
/// When the publication's data is not JSON: a client that reads JSON cannot have it and is closed with 3506.
pub fn push(push: Push<'_>, out: &mut impl Write) -> Result<(), CloseReason> {
    if let Push::Publication(_, publication) | Push::Delta(_, publication, _) = push {
        embeddable(publication)?;
    }
    let mut line = Object::open(out);
    line.object("push", |p| match push {
        Push::Publication(channel, publication) | Push::Delta(channel, publication, _) => {
            p.text("channel", channel.as_str());
            p.object("pub", |o| publication_fields(o, publication));
        }
        Push::Join(channel, info) => {
            p.text("channel", channel.as_str());
            p.object("join", |j| j.object("info", |i| client_info(i, info)));
        }
        Push::Leave(channel, info) => {
            p.text("channel", channel.as_str());
            p.object("leave", |l| l.object("info", |i| client_info(i, info)));
        }
    });
    line.close();
    Ok(())
}

fn embeddable(publication: &Publication) -> Result<(), CloseReason> {
    match publication.format {
        Format::Json => Ok(()),
        Format::Binary => Err(CloseReason::InappropriateProtocol),
    }
}

fn empty<W: Write>(line: &mut Object<'_, W>, id: u32, name: &str) {
    line.number("id", id);
    line.object(name, |_| {});
}

fn expiry<W: Write>(object: &mut Object<'_, W>, expires_in: Option<Duration>) {
    if let Some(ttl) = expires_in {
        object.flag("expires");
        // An SDK that is told 0 would not come back to refresh.
        object.number("ttl", ttl.as_secs().max(1));
    }
}

fn publication_fields<W: Write>(object: &mut Object<'_, W>, publication: &Publication) {
    object.raw("data", &publication.data);
    if let Some(info) = &publication.info {
        object.object("info", |i| client_info(i, info));
    }
    if let Some(position) = &publication.position {
        object.number("offset", position.offset);
    }
    if !publication.tags.is_empty() {
        object.object("tags", |tags| {
            for (name, value) in &publication.tags {
                tags.text(name, value);
            }
        });
    }
}

fn client_info<W: Write>(object: &mut Object<'_, W>, info: &ClientInfo) {
    object.text("user", &info.user);
    object.text("client", &info.client.to_string());
    if !info.conn_info.is_empty() {
        object.raw("conn_info", &info.conn_info);
    }
    if !info.chan_info.is_empty() {
        object.raw("chan_info", &info.chan_info);
    }
}

#[cfg(test)]
mod tests {
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
}
