//! The parser's rules one by one; `tests/properties` checks them against everything else.

use super::*;

const MASK: [u8; 4] = [0xA1, 0xB2, 0xC3, 0xD4];
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A frame as a client sends it; `first` is FIN and the opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64);
    let start = frame.len();
    frame.extend_from_slice(payload);
    mask::unmask(&mut frame[start..], MASK);
    frame
}

/// The header of a frame that declares `len` bytes.
fn head(first: u8, len: u64) -> Vec<u8> {
    let mut head = vec![first];
    match len {
        0..=125 => head.push(0x80 | len as u8),
        126..=0xFFFF => {
            head.push(0x80 | 126);
            head.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend_from_slice(&len.to_be_bytes());
        }
    }
    head.extend_from_slice(&MASK);
    head
}

/// Feeds one read and returns the messages in it and the error that ended it.
fn read(parser: &mut Parser, mut bytes: Vec<u8>) -> (Vec<Message>, Option<Error>) {
    let mut input = &mut bytes[..];
    let mut messages = Vec::new();
    let error = loop {
        match parser.next(&mut input) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(input.is_empty(), "input is left");
    (messages, error)
}

/// What a stream gives when each frame is one read.
fn parse(limit: usize, frames: &[Vec<u8>]) -> (Vec<Message>, Option<Error>) {
    let mut parser = Parser::new(limit);
    let mut messages = Vec::new();
    for frame in frames {
        let (more, error) = read(&mut parser, frame.clone());
        messages.extend(more);
        if error.is_some() {
            return (messages, error);
        }
    }
    (messages, None)
}

fn text(text: &str) -> Message {
    Message::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn binary(data: &'static [u8]) -> Message {
    Message::Binary(Bytes::from_static(data))
}

fn idle(parser: &Parser) -> bool {
    parser.partial.is_none()
}

#[test]
fn an_idle_parser_is_small_and_holds_no_buffer() {
    assert!(size_of::<Parser>() <= 32, "{} bytes", size_of::<Parser>());
    let mut parser = Parser::new(100);
    assert!(idle(&parser));
    read(&mut parser, Vec::new());
    assert!(idle(&parser), "after an empty read");
    read(&mut parser, frame(FIN | TEXT, b"whole"));
    assert!(idle(&parser), "after a whole message");

    let bytes = frame(FIN | TEXT, b"in two reads");
    for cut in 1..bytes.len() {
        assert_eq!(read(&mut parser, bytes[..cut].to_vec()), (vec![], None));
        assert!(!idle(&parser));
        let (messages, error) = read(&mut parser, bytes[cut..].to_vec());
        assert_eq!((messages, error), (vec![text("in two reads")], None));
        assert!(idle(&parser), "after a message cut at {cut}");
    }
}

#[test]
fn a_message_that_was_only_declared_takes_no_memory() {
    let mut parser = Parser::new(usize::MAX >> 1);
    let mut bytes = head(FIN | BINARY, 1 << 40);
    bytes.extend_from_slice(&[0; 10]);
    assert_eq!(read(&mut parser, bytes), (vec![], None));
    let held = |parser: &Parser| parser.message().map(Pieces::capacity);
    assert!(held(&parser) <= Some(32), "{:?}", held(&parser));
    read(&mut parser, vec![0; 1000]);
    assert!(held(&parser) <= Some(2020), "{:?}", held(&parser));
}

#[test]
fn a_read_may_hold_several_messages() {
    let mut bytes = frame(FIN | TEXT, b"one");
    bytes.extend(frame(FIN | BINARY, b"two"));
    bytes.extend(frame(FIN | PING, b"three"));
    let expected = vec![text("one"), binary(b"two"), Message::Ping("three".into())];
    assert_eq!(read(&mut Parser::new(100), bytes), (expected, None));
}

#[test]
fn control_frames_may_come_between_fragments() {
    let frames = [
        frame(TEXT, b"frag"),
        frame(FIN | PING, b"p"),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b""),
        frame(FIN | CONTINUATION, b"ments"),
        frame(FIN | BINARY, b"next"),
    ];
    let expected = vec![
        Message::Ping("p".into()),
        Message::Pong(Bytes::new()),
        text("fragments"),
        binary(b"next"),
    ];
    assert_eq!(parse(100, &frames), (expected, None));
}

#[test]
fn fragments_must_follow_each_other() {
    let lone = [frame(FIN | CONTINUATION, b"")];
    assert_eq!(parse(100, &lone), (vec![], Some(Error::UnexpectedContinuation)));
    let nested = [frame(TEXT, b"a"), frame(FIN | BINARY, b"b")];
    assert_eq!(parse(100, &nested), (vec![], Some(Error::ExpectedContinuation)));
    let after = [frame(FIN | TEXT, b"a"), frame(CONTINUATION, b"b")];
    assert_eq!(
        parse(100, &after),
        (vec![text("a")], Some(Error::UnexpectedContinuation))
    );
}

#[test]
fn a_code_point_may_straddle_fragments() {
    let frames = [
        frame(TEXT, b"\xF0"),
        frame(CONTINUATION, b"\x9D\x84"),
        frame(FIN | CONTINUATION, b"\x9E"),
    ];
    assert_eq!(parse(100, &frames), (vec![text("𝄞")], None));
}

#[test]
fn invalid_text_is_refused_before_its_message_ends() {
    let mut begun = head(FIN | TEXT, 100);
    begun.extend(frame(FIN | TEXT, b"ok\xFF").split_off(6));
    assert_eq!(parse(100, &[begun]), (vec![], Some(Error::InvalidUtf8)));
    let fragment = [frame(TEXT, b"\xC3"), frame(CONTINUATION, b"A")];
    assert_eq!(parse(100, &fragment), (vec![], Some(Error::InvalidUtf8)));
}

#[test]
fn text_must_not_end_inside_a_code_point() {
    let whole = [frame(FIN | TEXT, b"\xE2\x82")];
    assert_eq!(parse(100, &whole), (vec![], Some(Error::InvalidUtf8)));
    let fragments = [frame(TEXT, b"\xE2\x82"), frame(FIN | CONTINUATION, b"")];
    assert_eq!(parse(100, &fragments), (vec![], Some(Error::InvalidUtf8)));
}

#[test]
fn binary_data_and_pings_need_not_be_text() {
    let frames = [frame(FIN | BINARY, b"\xFF"), frame(FIN | PING, b"\xFF")];
    let expected = vec![binary(b"\xFF"), Message::Ping(Bytes::from_static(b"\xFF"))];
    assert_eq!(parse(100, &frames), (expected, None));
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_header() {
    let exact = [frame(FIN | TEXT, b"12345678")];
    assert_eq!(parse(8, &exact), (vec![text("12345678")], None));
    let error = Some(Error::TooBig { len: 9, limit: 8 });
    assert_eq!(parse(8, &[head(FIN | TEXT, 9)]), (vec![], error));
    let huge = Error::TooBig {
        len: u64::MAX >> 1,
        limit: 8,
    };
    assert_eq!(
        parse(8, &[head(FIN | BINARY, u64::MAX >> 1)]),
        (vec![], Some(huge))
    );
}

#[test]
fn the_limit_counts_all_fragments_and_no_control_frame() {
    let fits = [
        frame(TEXT, b"1234"),
        frame(FIN | PING, &[0; 125]),
        frame(FIN | CONTINUATION, b"5678"),
    ];
    let (messages, error) = parse(8, &fits);
    assert_eq!((messages.last(), error), (Some(&text("12345678")), None));
    let over = [frame(TEXT, b"1234"), head(CONTINUATION, 5)];
    assert_eq!(
        parse(8, &over),
        (vec![], Some(Error::TooBig { len: 9, limit: 8 }))
    );
}

#[test]
fn nothing_is_parsed_after_a_close_frame() {
    let mut parser = Parser::new(100);
    read(&mut parser, frame(TEXT, b"begun"));
    let mut bytes = frame(FIN | CLOSE, b"\x03\xE9bye");
    bytes.extend(frame(FIN | TEXT, b"late"));
    let close = CloseFrame {
        code: 1001,
        reason: "bye".to_owned(),
    };
    assert_eq!(
        read(&mut parser, bytes),
        (vec![Message::Close(Some(close))], None)
    );
    assert!(idle(&parser));
    assert_eq!(read(&mut parser, b"garbage".to_vec()), (vec![], None));
    assert!(idle(&parser));
}

#[test]
fn nothing_is_parsed_after_an_error() {
    let mut parser = Parser::new(100);
    let (_, error) = read(&mut parser, b"GET / HTTP/1.1\r\n".to_vec());
    assert_eq!(error, Some(Error::ReservedBits));
    let late = frame(FIN | TEXT, b"late");
    assert_eq!(read(&mut parser, late), (vec![], None));
    assert!(idle(&parser));
}

#[test]
fn a_bad_close_frame_is_refused() {
    let refusal = |payload: &[u8]| parse(100, &[frame(FIN | CLOSE, payload)]).1;
    assert_eq!(refusal(b""), None);
    assert_eq!(refusal(b"\x03"), Some(Error::HalfCloseCode));
    assert_eq!(refusal(b"\x03\xED"), Some(Error::CloseCode(1005)));
    assert_eq!(refusal(b"\x03\xE8\xC3"), Some(Error::InvalidUtf8));
}
