//! Whatever comes in, however it is cut into reads: no panic, and always the same results.

use proptest::prelude::*;
use tidings_websocket::{Error, Message, Parser};

use crate::client::{limit, reads, stream};

/// Everything a parser says of a stream that comes in reads of these sizes.
pub(crate) fn parse(limit: usize, stream: &[u8], reads: &[usize]) -> (Vec<Message>, Option<Error>) {
    let mut parser = Parser::new(limit);
    let mut messages = Vec::new();
    let mut stream = stream.to_vec();
    let mut rest = &mut stream[..];
    let mut reads = reads.iter().cycle();
    while !rest.is_empty() {
        let size = reads.next().map_or(rest.len(), |size| (*size).min(rest.len()));
        let (mut input, later) = rest.split_at_mut(size);
        loop {
            match parser.next(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(input.is_empty(), "a read is taken whole");
        rest = later;
    }
    (messages, None)
}

/// Everything a parser says of a stream that comes at once.
pub(crate) fn parse_at_once(limit: usize, stream: &[u8]) -> (Vec<Message>, Option<Error>) {
    parse(limit, stream, &[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_stream_gives_the_same_however_it_is_cut(limit in limit(), stream in stream(), reads in reads()) {
        let at_once = parse_at_once(limit, &stream);
        prop_assert_eq!(&parse(limit, &stream, &reads), &at_once);
        if stream.len() < 2000 {
            prop_assert_eq!(&parse(limit, &stream, &[1]), &at_once);
        }
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..400), reads in reads()) {
        parse(125, &noise, &reads);
    }
}
