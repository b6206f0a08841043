//! What a client sends is what arrives: with any fragmentation, any controls in between, any mask.

use proptest::{collection::vec, prelude::*};
use tidings_websocket::Message;
use tungstenite::protocol::{Role, WebSocket};

use crate::{
    client::{LIMIT, conversation, data, reads},
    differential::{Socket, into_theirs},
    splits::parse,
};

proptest! {
    #[test]
    fn a_conversation_arrives_as_it_was_sent(conversation in conversation(), reads in reads()) {
        let arrived = parse(LIMIT, &conversation.stream, &reads);
        prop_assert_eq!(arrived, (conversation.messages, None));
    }

    #[test]
    fn what_tungstenite_sends_as_a_client_arrives(messages in vec(data(), 0..6), reads in reads()) {
        let mut client = WebSocket::from_raw_socket(Socket::default(), Role::Client, None);
        for message in &messages {
            client.send(into_theirs(message)).expect("a socket in memory takes everything");
        }
        client.close(None).expect("a socket in memory takes everything");
        let mut expected = messages;
        expected.push(Message::Close(None));
        prop_assert_eq!(parse(LIMIT, &client.get_ref().sent, &reads), (expected, None));
    }
}
