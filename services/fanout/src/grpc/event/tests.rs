//! What is wrong with a request, field by field, and what an accepted one becomes.

use bytes::Bytes;
use proptest::prelude::*;
use prost_types::Timestamp;
use serde_json::value::RawValue;

use super::{super::wrong::MAX_VIOLATIONS, *};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_700_000_000, 250_999_999)
}

fn event() -> proto::Event {
    proto::Event {
        r#type: "task.created".to_owned(),
        data: Bytes::from_static(b"{\"id\": 1}"),
        ..proto::Event::default()
    }
}

fn accept(event: proto::Event) -> (Event, Vec<Channel>) {
    let accepted = check(proto::PublishRequest { event: Some(event) }, None, now()).unwrap();
    (accepted.event, accepted.channels)
}

/// The fields that are wrong, with what is wrong.
fn refuse(event: impl Into<Option<proto::Event>>) -> Vec<(String, String)> {
    let violations = check(proto::PublishRequest { event: event.into() }, None, now()).unwrap_err();
    violations
        .into_iter()
        .map(|violation| (violation.field, violation.description))
        .collect()
}

#[test]
fn what_an_event_does_not_say_is_made_up() {
    let (event, channels) = accept(event());
    assert_eq!(Uuid::parse_str(&event.id).unwrap().get_version_num(), 7);
    assert_eq!(event.time, UNIX_EPOCH + Duration::from_millis(1_700_000_000_250));
    assert_eq!(event.data_content_type, "application/json");
    assert_eq!(event.subject, None);
    assert_eq!(channels, []);
}

#[test]
fn only_an_event_that_came_with_an_id_can_be_repeated() {
    let once = |id: &str| {
        let event = proto::Event {
            id: id.to_owned(),
            ..event()
        };
        check(proto::PublishRequest { event: Some(event) }, None, now())
            .unwrap()
            .once
    };
    assert_eq!(once(""), None);
    assert!(once("e1").is_some());
    assert_eq!(once("e1"), once("e1"));
}

#[test]
fn what_an_event_says_is_kept() {
    let time = Timestamp { seconds: 1, nanos: 2 };
    let (event, channels) = accept(proto::Event {
        id: "e1".to_owned(),
        source: "tasks".to_owned(),
        subject: "task/1".to_owned(),
        time: Some(time),
        data_content_type: "text/plain".to_owned(),
        data: Bytes::from_static(b"\xff"),
        attributes: HashMap::from([("tenant_id".to_owned(), "acme".to_owned())]),
        tags: HashMap::from([("any name".to_owned(), "any value".to_owned())]),
        channels: ["a", "b", "a"].map(str::to_owned).to_vec(),
        ..event()
    });
    assert_eq!(
        event,
        Event {
            id: "e1".to_owned(),
            kind: "task.created".to_owned(),
            source: "tasks".to_owned(),
            subject: Some("task/1".to_owned()),
            time: UNIX_EPOCH + Duration::new(1, 2),
            data_content_type: "text/plain".to_owned(),
            data: Bytes::from_static(b"\xff"),
            attributes: BTreeMap::from([("tenant_id".to_owned(), "acme".to_owned())]),
            tags: BTreeMap::from([("any name".to_owned(), "any value".to_owned())]),
        }
    );
    assert_eq!(channels, ["a", "b"].map(|name| Channel::parse(name).unwrap()));
}

#[test]
fn json_is_put_on_one_line_and_may_be_absent() {
    let pretty = Bytes::from_static(b"{\n  \"a\": [1]\n}\n");
    assert_eq!(
        accept(proto::Event {
            data: pretty,
            ..event()
        })
        .0
        .data,
        "{   \"a\": [1] } "
    );
    assert_eq!(
        accept(proto::Event {
            data: Bytes::new(),
            ..event()
        })
        .0
        .data,
        ""
    );
}

#[test]
fn a_wrong_field_is_named_with_what_is_wrong() {
    let check = |event: proto::Event, field: &str, why: &str| {
        let found = refuse(event);
        let [(found_field, found_why)] = found.as_slice() else {
            panic!("{field}: {found:?}")
        };
        assert_eq!(found_field, field);
        assert!(found_why.contains(why), "{field}: {found_why}");
    };
    let long = |length| "x".repeat(length);
    let pair = |name: &str, value: &str| HashMap::from([(name.to_owned(), value.to_owned())]);

    assert_eq!(refuse(None), [("event".to_owned(), "is required".to_owned())]);
    check(
        proto::Event {
            r#type: String::new(),
            ..event()
        },
        "event.type",
        "is required",
    );
    check(
        proto::Event {
            r#type: "task.".to_owned(),
            ..event()
        },
        "event.type",
        "empty segment",
    );
    check(
        proto::Event {
            r#type: "task created".to_owned(),
            ..event()
        },
        "event.type",
        "white space",
    );
    check(
        proto::Event {
            r#type: "task\u{7}".to_owned(),
            ..event()
        },
        "event.type",
        "control character",
    );
    check(
        proto::Event {
            r#type: long(256),
            ..event()
        },
        "event.type",
        "256 bytes long, at most 255",
    );
    check(
        proto::Event {
            id: long(256),
            ..event()
        },
        "event.id",
        "at most 255",
    );
    check(
        proto::Event {
            id: "a\nb".to_owned(),
            ..event()
        },
        "event.id",
        "control character '\\n'",
    );
    check(
        proto::Event {
            source: long(1025),
            ..event()
        },
        "event.source",
        "at most 1024",
    );
    check(
        proto::Event {
            subject: long(1025),
            ..event()
        },
        "event.subject",
        "at most 1024",
    );
    check(
        proto::Event {
            data_content_type: "json".to_owned(),
            ..event()
        },
        "event.data_content_type",
        "media type",
    );
    for (seconds, nanos) in [
        (-1, 0),
        (0, -1),
        (0, 1_000_000_000),
        (253_402_300_800, 0),
        (i64::MAX, 0),
    ] {
        let time = Some(Timestamp { seconds, nanos });
        check(proto::Event { time, ..event() }, "event.time", "1970 to 9999");
    }
    check(
        proto::Event {
            attributes: pair("a b", ""),
            ..event()
        },
        "event.attributes",
        "\"a b\"",
    );
    check(
        proto::Event {
            attributes: pair("", ""),
            ..event()
        },
        "event.attributes",
        "\"\"",
    );
    check(
        proto::Event {
            attributes: pair("id", "1"),
            ..event()
        },
        "event.attributes.id",
        "CloudEvents' own",
    );
    check(
        proto::Event {
            attributes: pair("a", &long(1025)),
            ..event()
        },
        "event.attributes.a",
        "at most 1024",
    );
    let many = (0..65)
        .map(|number| (number.to_string(), String::new()))
        .collect();
    check(
        proto::Event {
            attributes: many,
            ..event()
        },
        "event.attributes",
        "are 65, at most 64",
    );
    for (tags, why) in [
        (pair("", "1"), "needs a name"),
        (pair("a", &long(1025)), "at most 1024"),
        (
            (0..17).map(|n| (n.to_string(), String::new())).collect(),
            "at most 16",
        ),
    ] {
        check(proto::Event { tags, ..event() }, "event.tags", why);
    }
    check(
        proto::Event {
            channels: ["a", "b", "a}b"].map(str::to_owned).to_vec(),
            ..event()
        },
        "event.channels[2]",
        "'}' at byte 1",
    );
    check(
        proto::Event {
            channels: vec!["a".to_owned(); MAX_CHANNELS + 1],
            ..event()
        },
        "event.channels",
        "are 10001, at most 10000",
    );
    for (data, why) in [
        (&b"{\"a\": }"[..], "expected value at line 1 column 7"),
        (b"{} {}", "trailing characters at line 1 column 4"),
        (b"nul", "line 1 column 3"),
        (b"\"\xff\"", "unicode"),
    ] {
        check(
            proto::Event {
                data: Bytes::from_static(data),
                ..event()
            },
            "event.data",
            why,
        );
    }
}

#[test]
fn data_is_nested_no_deeper_than_clients_can_read() {
    let nested = |depth: usize| proto::Event {
        data: format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into(),
        ..event()
    };
    accept(nested(128));
    for depth in [129, 500_000] {
        let why = "is nested more than 128 arrays and objects deep".to_owned();
        assert_eq!(refuse(nested(depth)), [("event.data".to_owned(), why)]);
    }
    let text = proto::Event {
        data_content_type: "text/plain".to_owned(),
        ..nested(129)
    };
    accept(text);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_but_not_without_end() {
    let wrong = proto::Event {
        r#type: String::new(),
        data: Bytes::from_static(b"{"),
        channels: vec![" ".to_owned(); 3],
        ..proto::Event::default()
    };
    let fields: Vec<String> = refuse(wrong).into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        [
            "event.type",
            "event.channels[0]",
            "event.channels[1]",
            "event.channels[2]",
            "event.data"
        ]
    );
    let many = proto::Event {
        channels: vec![String::new(); MAX_CHANNELS],
        ..event()
    };
    assert_eq!(refuse(many).len(), MAX_VIOLATIONS);
}

proptest! {
    #[test]
    fn what_is_accepted_keeps_its_promises_whatever_comes(
        kind in "\\PC{0,12}|[a-z.]{1,12}",
        text in any::<String>(),
        data in prop_oneof![any::<Vec<u8>>(), Just(b"{\"a\":\n1}".to_vec())],
        seconds in any::<i64>(),
        nanos in any::<i32>(),
    ) {
        let event = proto::Event {
            id: text.clone(),
            r#type: kind,
            source: text.clone(),
            subject: text.clone(),
            time: Some(Timestamp { seconds, nanos }),
            data_content_type: String::new(),
            data: data.into(),
            attributes: HashMap::from([(text.clone(), text.clone())]),
            tags: HashMap::from([(text.clone(), text.clone())]),
            channels: vec![text],
        };
        if let Ok(Accepted { event, .. }) = check(proto::PublishRequest { event: Some(event) }, None, now()) {
            prop_assert!(!event.id.is_empty() && !event.kind.is_empty());
            prop_assert!(event.data.is_empty() || serde_json::from_slice::<&RawValue>(&event.data).is_ok());
            for payload in [crate::Payload::Event, crate::Payload::Data] {
                let (data, _) = payload.render(&event);
                prop_assert!(!data.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
                prop_assert!(serde_json::from_slice::<&RawValue>(&data).is_ok());
            }
        }
    }
}
