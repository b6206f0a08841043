//! What the server builds, tungstenite reads as a client.

use std::io::Write;

use bytes::BufMut;
use proptest::{collection::vec, prelude::*};
use tidings_websocket::{FrameBuilder, Message, frame};
use tungstenite::protocol::Role;

use crate::{
    client::{LIMIT, control, data},
    differential::{End, tungstenite},
};

/// The message as the one frame that the server sends, by functions or by builders.
fn encode(message: &Message, built: bool) -> bytes::Bytes {
    match message {
        Message::Text(payload) if built => {
            let mut frame = FrameBuilder::text(64);
            frame.write_all(payload).expect("writing to memory never fails");
            frame.finish()
        }
        Message::Binary(payload) if built => {
            let mut frame = FrameBuilder::binary(0);
            frame.buf().put_slice(payload);
            frame.finish()
        }
        Message::Text(payload) => frame::text(payload),
        Message::Binary(payload) => frame::binary(payload),
        Message::Ping(payload) => frame::ping(payload),
        Message::Pong(payload) => frame::pong(payload),
        Message::Close(_) => unreachable!("closing is checked apart"),
    }
}

proptest! {
    #[test]
    fn tungstenite_reads_what_the_server_sends(
        messages in vec((prop_oneof![4 => data(), 1 => control()], any::<bool>()), 0..6),
        code in 1000..=1003_u16,
        reason in ".{0,60}",
    ) {
        let mut stream: Vec<u8> = Vec::new();
        let mut expected = Vec::new();
        for (message, built) in messages {
            stream.extend(encode(&message, built));
            expected.push(message);
        }
        stream.extend(frame::close(code, &reason));
        let (messages, end) = tungstenite(Role::Client, LIMIT, stream);
        prop_assert_eq!(end, End::Closed);

        let Some((Message::Close(Some(close)), messages)) = messages.split_last() else {
            return Err(TestCaseError::fail("no close frame"));
        };
        prop_assert_eq!(messages, expected);
        prop_assert_eq!(close.code, code);
        prop_assert!(reason.starts_with(&close.reason));
        let cut_for_a_reason = reason.len() > frame::MAX_REASON && close.reason.len() > frame::MAX_REASON - 4;
        prop_assert!(close.reason == reason || cut_for_a_reason, "{reason:?}");
    }
}
