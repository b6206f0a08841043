//! Lines of JSON to commands.

use tidings_core::json;

use super::wire;
use crate::{Command, data::TooDeep};

/// A frame that is not made of commands. The client is closed with 3501.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Nothing between two line breaks, or in the whole frame.
    #[error("line {line} is empty")]
    Empty {
        /// Counted from 1.
        line: usize,
    },
    /// A line that is not a command in JSON.
    #[error("line {line} is not a command: {source}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Data that others might not be able to parse.
    #[error(
        "line {line} carries data that is nested more than {} arrays and objects deep",
        json::MAX_DEPTH
    )]
    Deep {
        /// Counted from 1.
        line: usize,
    },
}

/// The commands of a frame, in order. The iterator ends after the first error. One trailing line break is legal.
pub fn commands(frame: &[u8]) -> impl Iterator<Item = Result<Command, Malformed>> + '_ {
    let frame = frame.strip_suffix(b"\n").unwrap_or(frame);
    let mut failed = false;
    frame
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map_while(move |(index, line)| {
            if failed {
                return None;
            }
            let command = decode(line, index + 1);
            failed = command.is_err();
            Some(command)
        })
}

fn decode(line: &[u8], number: usize) -> Result<Command, Malformed> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Err(Malformed::Empty { line: number });
    }
    let command: wire::Command<'_> =
        serde_json::from_slice(line).map_err(|source| Malformed::Json { line: number, source })?;
    Ok(Command {
        id: command.id,
        request: command
            .try_into()
            .map_err(|TooDeep| Malformed::Deep { line: number })?,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidings_core::{Payload, Position};

    use super::*;
    use crate::{Request, command};

    fn one(frame: &str) -> Command {
        let mut all: Vec<_> = commands(frame.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(all.len(), 1, "{frame}");
        all.remove(0)
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
        let frame = r#"{"id":1,"history":{"channel":"a","limit":-1,"since":{"offset":7,"epoch":"e"},"reverse":true}}"#;
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
    fn data_that_is_nested_too_deeply_is_no_command() {
        let publish = |depth: usize| {
            let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            format!("{{\"id\":1,\"publish\":{{\"channel\":\"a\",\"data\":{data}}}}}")
        };
        one(&publish(128));
        let error = commands(publish(129).as_bytes()).next().unwrap().unwrap_err();
        assert!(matches!(error, Malformed::Deep { line: 1 }), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = commands(&frame).count();
        }

        #[test]
        fn almost_commands_never_panic(frame in "(\\{\"id\":[0-9]{0,12},\"(connect|subscribe|publish|send)\":(\\{\"(channel|token|data)\":[^\n]{0,9}\\}|null|1)\\}\n?){1,3}") {
            let _ = commands(frame.as_bytes()).count();
        }
    }
}
