//! Publications as server-sent events, for the browser's own `EventSource` (the HTML standard, section 9.2).
//!
//! `id:` is the publication's place in its stream, as `EPOCH:OFFSET`; the browser sends the last one that it saw when it
//! comes back. `event:` is the publication's type, `data:` its bare data. An id without data is not shown to the page,
//! but kept by the browser: so what cannot be sent still moves the client on.

use std::io::Write;

use tidings_core::{Position, Publication};

use super::close_for;
use crate::{CloseReason, Reply, reply::Subscribed};

/// A comment, which the browser ignores: it shows everybody on the way that the connection is alive.
pub const PING: &str = ":\n\n";

/// The event that says that not all of what was missed is kept any more.
pub const GAP: &str = "event: gap\ndata: {\"recovered\":false}\n\n";

/// The longest epoch that is read, in bytes. Longer ones are none of ours.
const MAX_EPOCH: usize = 64;

// Writing to a frame in memory cannot fail, so neither can this.
const IN_MEMORY: &str = "writing to memory does not fail";

/// Where a client was in the channel's stream, from its `Last-Event-ID`. `None` for what is no id of ours: it then begins
/// anew, as a client does that shows none.
#[must_use]
pub fn last_event_id(text: &str) -> Option<Position> {
    let (epoch, offset) = text.rsplit_once(':')?;
    let readable =
        (1..=MAX_EPOCH).contains(&epoch.len()) && epoch.bytes().all(|byte| byte.is_ascii_graphic());
    let number = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
    (readable && number).then_some(Position {
        offset: offset.parse().ok()?,
        epoch: epoch.to_owned(),
    })
}

/// Writes a reply as far as it can be said in events; false when it cannot and nothing was written. `out` is memory:
/// writing to it must not fail.
///
/// To a subscriber of a stream it is said where it is, so that it comes back to there if nothing follows, and what it
/// has missed. When not all of that is kept any more, an event of the type `gap` says so.
///
/// # Errors
/// Why the connection ends, if the command failed.
pub fn reply(reply: &Reply, out: &mut impl Write) -> Result<bool, CloseReason> {
    match reply {
        Reply::Ping => out.write_all(PING.as_bytes()).expect(IN_MEMORY),
        Reply::Error { error, .. } => return Err(close_for(error)),
        Reply::Subscribe { result, .. } => return Ok(subscribed(result, out)),
        _ => return Ok(false),
    }
    Ok(true)
}

fn subscribed(result: &Subscribed, out: &mut impl Write) -> bool {
    if let Some(position) = &result.position {
        write_id(position, out);
        out.write_all(b"\n").expect(IN_MEMORY);
    }
    if result.recovered == Some(false) {
        out.write_all(GAP.as_bytes()).expect(IN_MEMORY);
    }
    for it in &result.publications {
        publication(it, out);
    }
    result.position.is_some() || !result.publications.is_empty()
}

/// Writes a publication. `out` is memory: writing to it must not fail.
///
/// Data with line breaks, which JSON has none of here, becomes several lines; the browser joins them by `\n`. Data that
/// is not UTF-8 cannot be sent: a comment says so, and the id moves the client on.
pub fn publication(it: &Publication, out: &mut impl Write) {
    if let Some(position) = &it.position {
        write_id(position, out);
    }
    match std::str::from_utf8(&it.data) {
        Ok(text) => {
            // A type that could break the line is as good as none.
            if !it.kind.is_empty() && !it.kind.contains(['\n', '\r']) {
                writeln!(out, "event: {}", it.kind).expect(IN_MEMORY);
            }
            let text = text.replace("\r\n", "\n");
            for line in text.split(['\n', '\r']) {
                writeln!(out, "data: {line}").expect(IN_MEMORY);
            }
        }
        Err(_) => writeln!(out, ": {} bytes that are not text", it.data.len()).expect(IN_MEMORY),
    }
    out.write_all(b"\n").expect(IN_MEMORY);
}

fn write_id(position: &Position, out: &mut impl Write) {
    // An epoch that could not be read again, or break the line, would be none of ours.
    if position.epoch.bytes().all(|byte| byte.is_ascii_graphic()) {
        writeln!(out, "id: {}:{}", position.epoch, position.offset).expect(IN_MEMORY);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use proptest::prelude::*;
    use tidings_core::Format;

    use super::*;
    use crate::Error;

    fn at(offset: u64) -> Option<Position> {
        Some(Position {
            offset,
            epoch: "xyz".into(),
        })
    }

    fn of(data: &'static [u8], format: Format) -> Publication {
        Publication::new(Bytes::from_static(data), format, SystemTime::UNIX_EPOCH)
    }

    fn event(it: &Publication) -> String {
        let mut out = Vec::new();
        publication(it, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What a page hears, and the last id its browser keeps, by the rules of the standard.
    fn heard(stream: &str) -> (Vec<(String, String)>, String) {
        let (mut events, mut id) = (Vec::new(), String::new());
        let (mut kind, mut data) = (String::new(), String::new());
        for line in stream.replace("\r\n", "\n").split(['\n', '\r']) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "id" => id = value.to_owned(),
                "event" => kind = value.to_owned(),
                "data" => data = format!("{data}{value}\n"),
                "" if line.is_empty() => {
                    let (kind, data) = (std::mem::take(&mut kind), std::mem::take(&mut data));
                    if let Some(data) = data.strip_suffix('\n') {
                        events.push((kind, data.to_owned()));
                    }
                }
                _ => {}
            }
        }
        (events, id)
    }

    #[test]
    fn an_event_has_an_id_where_there_is_a_stream_and_a_type_where_there_is_one() {
        let mut it = of(b"{\"a\":1}", Format::Json);
        assert_eq!(event(&it), "data: {\"a\":1}\n\n");
        it.position = at(7);
        it.kind = "task.created".into();
        assert_eq!(event(&it), "id: xyz:7\nevent: task.created\ndata: {\"a\":1}\n\n");
    }

    #[test]
    fn a_line_break_cannot_break_an_event() {
        let mut it = of(b"one\r\ntwo\n\rdata: three", Format::Binary);
        it.kind = "a\ndata: b".into();
        it.position = at(1);
        assert_eq!(
            event(&it),
            "id: xyz:1\ndata: one\ndata: two\ndata: \ndata: data: three\n\n"
        );
        it.position = Some(Position {
            offset: 1,
            epoch: "a\n\ndata: b".into(),
        });
        assert!(event(&it).starts_with("data: one\n"));
    }

    #[test]
    fn what_is_not_text_is_passed_over_and_still_moves_the_client_on() {
        let mut it = of(b"\xff\xfe", Format::Binary);
        it.position = at(9);
        assert_eq!(event(&it), "id: xyz:9\n: 2 bytes that are not text\n\n");
        assert_eq!(heard(&event(&it)), (vec![], "xyz:9".to_owned()));
    }

    #[test]
    fn a_subscriber_is_told_where_it_is_and_what_it_missed() {
        let missed = Publication {
            position: at(4),
            ..of(b"4", Format::Json)
        };
        let subscribed = |position, publications| {
            let result = Box::new(Subscribed {
                position,
                publications,
                ..Default::default()
            });
            let mut out = Vec::new();
            let written = reply(&Reply::Subscribe { id: 2, result }, &mut out).unwrap();
            (written, String::from_utf8(out).unwrap())
        };
        assert_eq!(subscribed(None, vec![]), (false, String::new()));
        assert_eq!(subscribed(at(3), vec![]), (true, "id: xyz:3\n\n".into()));
        assert_eq!(
            subscribed(at(3), vec![missed]),
            (true, "id: xyz:3\n\nid: xyz:4\ndata: 4\n\n".into())
        );
    }

    #[test]
    fn a_ping_is_a_comment_and_an_error_ends_the_connection() {
        let mut out = Vec::new();
        assert_eq!(reply(&Reply::Ping, &mut out), Ok(true));
        assert_eq!(out, PING.as_bytes());
        let error = Error::PERMISSION_DENIED;
        let failed = reply(&Reply::Error { id: 2, error }, &mut out);
        assert_eq!(failed, Err(CloseReason::PermissionDenied));
        assert_eq!(reply(&Reply::Publish { id: 3 }, &mut out), Ok(false));
        assert_eq!(out, PING.as_bytes());
    }

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let position = |epoch: &str, offset| {
            Some(Position {
                offset,
                epoch: epoch.into(),
            })
        };
        assert_eq!(last_event_id("xyz:7"), position("xyz", 7));
        assert_eq!(last_event_id("a:b:0"), position("a:b", 0));
        for text in [
            "",
            ":",
            "7",
            "xyz:",
            ":7",
            "xyz:-1",
            "xyz:+1",
            "xyz: 7",
            "x y:7",
            "é:7",
            "xyz:99999999999999999999",
        ] {
            assert_eq!(last_event_id(text), None, "{text:?}");
        }
        assert_eq!(last_event_id(&format!("{}:7", "x".repeat(65))), None);
    }

    proptest! {
        #[test]
        fn arbitrary_ids_never_panic(text in ".{0,40}") {
            let _ = last_event_id(&text);
        }

        #[test]
        fn what_is_written_is_one_event_with_its_data(data in "[ -~é\n\r:]{0,40}", kind in "[ -~é\n\r]{0,9}", offset: u64) {
            let it = Publication {
                kind: kind.clone(),
                position: at(offset),
                ..Publication::new(data.clone().into(), Format::Binary, SystemTime::UNIX_EPOCH)
            };
            let (events, id) = heard(&event(&it));
            let kind = if kind.contains(['\n', '\r']) { String::new() } else { kind };
            let data = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(events, vec![(kind, data)]);
            prop_assert_eq!(last_event_id(&id), it.position);
        }
    }
}
