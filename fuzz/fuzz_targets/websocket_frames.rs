//! Bytes on a WebSocket, however the network cuts them: the messages are the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_websocket::{Message, Parser};

const LIMIT: usize = 1024;

/// All messages of a stream that comes in pieces of this length, and whether it ends in an error.
fn read(bytes: &[u8], piece: usize) -> (Vec<Message>, bool) {
    let (mut parser, mut messages) = (Parser::new(LIMIT), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match parser.next(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = read(bytes, usize::MAX);
    assert_eq!(whole.0, read(bytes, usize::from(piece).max(1)).0);
});
