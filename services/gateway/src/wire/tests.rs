use std::time::SystemTime;

use tidings_core::{ClientId, ClientInfo};
use tidings_protocol::reply::{Connected, Subscribed};

use super::*;

const ALL: [Language; LANGUAGES] = [
    Language::WebSocketJson,
    Language::WebSocketProtobuf,
    Language::WebSocketUni,
    Language::WebSocketPlain,
    Language::LinesJson,
    Language::LinesProtobuf,
    Language::LinesUni,
    Language::SseJson,
    Language::SseUni,
    Language::SsePlain,
];

fn channel() -> Channel {
    Channel::parse("a").unwrap()
}

fn publication() -> Publication {
    Publication::new("1".into(), Format::Json, SystemTime::UNIX_EPOCH)
}

fn said(said: Said) -> Option<String> {
    match said {
        Said::Frame(frame) => Some(String::from_utf8_lossy(&frame).into_owned()),
        Said::Nothing => None,
        Said::Close(reason) => panic!("{reason:?}"),
    }
}

#[test]
fn each_language_has_a_place_of_its_own_among_the_frames() {
    for (place, language) in ALL.into_iter().enumerate() {
        assert_eq!(language as usize, place);
    }
}

#[test]
fn a_publication_is_framed_as_its_transport_wants_it() {
    let bare = r#"{"channel":"a","pub":{"data":1}}"#;
    let reply = format!("{{\"push\":{bare}}}");
    let written = |language: Language| language.write(&channel(), &publication()).unwrap();
    for (language, text) in [
        (Language::LinesJson, format!("{reply}\n")),
        (Language::LinesUni, format!("{bare}\n")),
        (Language::SseJson, format!("data: {reply}\n\n")),
        (Language::SseUni, format!("data: {bare}\n\n")),
        (Language::SsePlain, "data: 1\n\n".to_owned()),
    ] {
        assert_eq!(written(language), text, "{language:?}");
    }
    for (language, text) in [
        (Language::WebSocketJson, &*reply),
        (Language::WebSocketUni, bare),
        (Language::WebSocketPlain, "1"),
    ] {
        assert_eq!(written(language), frame::text(text.as_bytes()), "{language:?}");
    }
    let delimited = written(Language::LinesProtobuf);
    assert_eq!(usize::from(delimited[0]), delimited.len() - 1);
    assert_eq!(written(Language::WebSocketProtobuf), frame::binary(&delimited));
}

#[test]
fn members_are_no_concern_of_plain_clients_and_differences_neither() {
    let (channel, publication) = (channel(), publication());
    let info = ClientInfo {
        user: "42".into(),
        client: ClientId::random(),
        conn_info: Bytes::new(),
        chan_info: Bytes::new(),
    };
    for language in ALL {
        let plain = language.speech() == Speech::Plain;
        let joined = language.write_push(Push::Join(&channel, &info));
        assert_eq!(joined.is_none(), plain, "{language:?}");
        let whole = language.write(&channel, &publication).unwrap();
        let delta = language.write_delta(&channel, &publication, None).unwrap();
        let same = plain || language.speech() == Speech::Protobuf;
        assert_eq!(whole == delta, same, "{language:?}: in JSON it is a string then");
    }
}

#[test]
fn a_goodbye_is_said_in_every_way_that_the_transport_has() {
    for language in ALL {
        let goodbye = Wire::new(language).goodbye(&CloseReason::Shutdown);
        let frames = match (language.speech(), language.framing()) {
            (Speech::Uni, Framing::WebSocket) => 2,
            (Speech::Plain, Framing::Sse) => 0,
            _ => 1,
        };
        assert_eq!(goodbye.len(), frames, "{language:?}");
        if language.framing() == Framing::WebSocket {
            assert_eq!(goodbye.last(), Some(&frame::close(3001, "shutdown")));
        }
    }
}

#[test]
fn a_client_that_wants_pings_of_its_transport_is_told_of_no_others() {
    let wire = Wire::new(Language::WebSocketJson).with_control_pings();
    assert!(matches!(wire.reply(&Reply::Ping), Said::Frame(ping) if ping == frame::ping(b"")));
    let result = Connected {
        client: ClientId::random(),
        version: "v",
        expires_in: None,
        data: tidings_core::Payload::default(),
        subs: Vec::new(),
        ping_interval: std::time::Duration::from_secs(25),
        pong: true,
        session: None,
        node: None,
    };
    let reply = Reply::Connect {
        id: 1,
        result: Box::new(result),
    };
    let connected = said(wire.reply(&reply)).unwrap_or_default();
    assert!(
        !connected.contains("ping") && !connected.contains("pong"),
        "{connected}"
    );
}

#[test]
fn an_event_stream_begins_with_the_answer_to_the_subscribe_even_if_that_says_nothing() {
    let wire = Wire::plain(Language::SsePlain, "a".into());
    let result = Box::new(Subscribed::default());
    assert_eq!(
        said(wire.reply(&Reply::Subscribe { id: 2, result })).as_deref(),
        Some(":\n\n")
    );
    assert_eq!(said(wire.reply(&Reply::Publish { id: 3 })), None);
}

#[test]
fn a_client_that_only_listens_is_heard_once() {
    let mut wire = Wire::awaiting_greeting();
    let mut heard = Vec::new();
    for message in [
        "{\"token\":\"t\"}",
        "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}",
        "nope",
    ] {
        wire.commands(message.into(), |command| {
            heard.push(command.id);
            true
        })
        .unwrap();
    }
    assert_eq!(heard, [1]);
    assert!(
        Wire::awaiting_greeting()
            .commands("nope".into(), |_| true)
            .is_err()
    );
}

#[test]
fn what_is_wrong_is_said_without_what_was_sent() {
    for (sent, said) in [
        (
            r#"{"token":1,"name":"secret"}"#,
            "JSON, but a field is not what it should be, at line 1 column ",
        ),
        (
            r#"{"subs":"secret"}"#,
            "JSON, but a field is not what it should be, at line 1 column ",
        ),
        ("{\"token\":\"secret", "JSON that breaks off, at line 1 column "),
        ("secret", "no JSON, at line 1 column "),
    ] {
        let why = without_values(&greeting(sent.as_bytes()).expect_err("malformed"));
        assert!(why.starts_with(said), "{why}");
    }
}
