//! Templates as tables, and what no input may do to them.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

fn event(data: impl Into<Vec<u8>>) -> Event {
    Event {
        id: "e1".to_owned(),
        kind: "task.created".to_owned(),
        source: "task-service".to_owned(),
        subject: None,
        time: UNIX_EPOCH,
        data_content_type: "application/json".to_owned(),
        data: data.into().into(),
        tags: BTreeMap::new(),
        attributes: BTreeMap::from([
            ("tenant".to_owned(), "acme".to_owned()),
            ("urn".to_owned(), "a:b".to_owned()),
        ]),
    }
}

fn expand(template: &str, data: &str) -> Result<Vec<String>, Error> {
    let event = event(data);
    let channels = Template::parse(template).unwrap().expand(&Facts::of(&event))?;
    Ok(channels.into_iter().map(|channel| channel.to_string()).collect())
}

#[test]
fn fields_stand_for_their_values() {
    let check = |template: &str, data: &str, expected: &[&str]| {
        assert_eq!(
            expand(template, data).unwrap(),
            expected,
            "{template} with {data}"
        );
    };
    check("news", "", &["news"]);
    check("tasks:{tenant}", "", &["tasks:acme"]);
    check("{id}-{type}-{source}", "", &["e1-task.created-task-service"]);
    check("user:{data.id}", r#"{"id": "ann"}"#, &["user:ann"]);
    check("user:{data.a.b.c}", r#"{"a": {"b": {"c": 7}}}"#, &["user:7"]);
    check("n:{data.n}", r#"{"n": -1.5}"#, &["n:-1.5"]);
    check(
        "n:{data.n}",
        r#"{"n": 18446744073709551615}"#,
        &["n:18446744073709551615"],
    );
    check("b:{data.b}", r#"{"b": true}"#, &["b:true"]);
    check("x:{urn}", "", &["x:a:b"]);
}

#[test]
fn a_list_gives_one_channel_for_each_element() {
    let check = |template: &str, data: &str, expected: &[&str]| {
        assert_eq!(
            expand(template, data).unwrap(),
            expected,
            "{template} with {data}"
        );
    };
    check("user:{data.to}", r#"{"to": ["ann", 2]}"#, &["user:ann", "user:2"]);
    check(
        "user:{data.to.id}",
        r#"{"to": [{"id": 1}, {"id": [2, 3]}]}"#,
        &["user:1", "user:2", "user:3"],
    );
    check(
        "{data.a}:{data.b}",
        r#"{"a": ["x", "y"], "b": [1, 2]}"#,
        &["x:1", "x:2", "y:1", "y:2"],
    );
    check(
        "user:{data.id}",
        r#"[{"id": 1}, {"id": 2}]"#,
        &["user:1", "user:2"],
    );
    check("user:{data.to}", r#"{"to": []}"#, &[]);
}

#[test]
fn what_is_missing_is_named() {
    let check = |template: &str, data: &str, expected: &str| {
        assert_eq!(
            expand(template, data).unwrap_err().to_string(),
            expected,
            "{template} with {data}"
        );
    };
    check("{region}", "{}", "the event has no attributes.region");
    check("{subject}", "{}", "the event has no subject");
    check("user:{data.id}", "{}", "the event has no data.id");
    check("user:{data.id}", "", "the event has no data.id");
    check("user:{data.a.b}", r#"{"a": "text"}"#, "the event has no data.a.b");
    check(
        "user:{data.to.id}",
        r#"{"to": [{"id": 1}, {}]}"#,
        "the event has no data.to.id",
    );
}

#[test]
fn a_value_that_is_no_part_of_a_name_is_refused() {
    let check = |template: &str, data: &str, expected: &str| {
        let error = expand(template, data).unwrap_err().to_string();
        assert!(error.contains(expected), "{template} with {data}: {error}");
    };
    check("user:{data.id}", r#"{"id": null}"#, "data.id is null");
    check("user:{data.id}", r#"{"id": {}}"#, "data.id is an object");
    check(
        "user:{data.id}",
        r#"{"id": 123456789012345678901234567890}"#,
        "too large to be exact",
    );
    check("user:{data.id}", r#"{"id": ""}"#, r#"data.id is """#);
    check("user:{data.id}", r#"{"id": "a b"}"#, "' ' at byte 1");
    check("user:{data.id}", r#"{"id": "a}"}"#, "'}' at byte 1");
    check("user:{data.id}", r#"{"id": "a\nb"}"#, r"'\n' at byte 1");
    check(
        "user:{data.id}",
        &format!(r#"{{"id": "{}"}}"#, "x".repeat(256)),
        "256 bytes long",
    );
    check(
        "user:{data.id}",
        &format!(r#"{{"id": "{}"}}"#, "x".repeat(251)),
        "256 bytes long",
    );
}

#[test]
fn a_value_cannot_choose_the_namespace() {
    for template in ["{urn}", "{urn}:x", "a{urn}", "a{urn}:b"] {
        let error = expand(template, "").unwrap_err();
        assert!(matches!(error, Error::Value { .. }), "{template}: {error}");
    }
    assert!(expand("{data.id}:x", r#"{"id": "$private"}"#).is_err());
    assert!(expand("tasks:{data.id}", r#"{"id": "$1:a"}"#).is_ok());
}

#[test]
fn no_two_values_make_one_name() {
    for template in ["room:{urn}:{id}", "room:{urn}{id}", "room:{urn}-x"] {
        let error = expand(template, "").unwrap_err().to_string();
        assert!(error.contains("would share a channel"), "{template}: {error}");
    }
    assert!(expand("room:{data.ids}:{id}", r#"{"ids": ["a", "a:b"]}"#).is_err());
    assert_eq!(expand("room:{tenant}:{urn}", "").unwrap(), ["room:acme:a:b"]);
}

#[test]
fn the_namespace_is_known_beforehand_unless_values_make_it() {
    let check = |template: &str, expected: Option<&str>| {
        assert_eq!(
            Template::parse(template).unwrap().namespace(),
            expected,
            "{template}"
        );
    };
    check("tasks:{tenant}", Some("tasks"));
    check("$tasks:{tenant}:x", Some("tasks"));
    check("news", Some(""));
    check("news-{id}", Some(""));
    check("{id}", Some(""));
    check("{tenant}:x", None);
    check("a{tenant}:x", None);
}

#[test]
fn a_text_has_one_value_for_each_field_and_a_key_keeps_them_apart() {
    let expand = |template: &str, data: &str| {
        Text::parse(template)
            .unwrap()
            .expand(&Facts::of(&event(data.to_owned())))
    };
    assert_eq!(
        expand("by {data.who} at {tenant}", r#"{"who": "Ann B."}"#).unwrap(),
        "by Ann B. at acme"
    );
    let error = expand("{data.who}", r#"{"who": ["a", "b"]}"#)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "data.who has 2 values, and exactly one is needed");
    let error = expand("{data.who}", r#"{"who": "a\nb"}"#)
        .unwrap_err()
        .to_string();
    assert!(error.contains(r"control character '\n'"), "{error}");
    let long = format!(r#"{{"who": "{}"}}"#, "x".repeat(1025));
    assert_eq!(expand("{data.who}", &long), Err(Error::TooLong));

    let key = |data: &str| {
        let text = Text::parse("{data.a}{data.b}").unwrap();
        text.key(&Facts::of(&event(data.to_owned()))).unwrap()
    };
    assert_ne!(key(r#"{"a": "1", "b": "23"}"#), key(r#"{"a": "12", "b": "3"}"#));
}

#[test]
fn data_that_is_not_json_has_no_fields() {
    let text = Event {
        data_content_type: "text/plain".to_owned(),
        ..event("{\"id\": 1}")
    };
    let error = Template::parse("user:{data.id}")
        .unwrap()
        .expand(&Facts::of(&text))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"data.id is needed, but the data is not JSON (data_content_type is "text/plain")"#
    );
}

#[test]
fn data_that_cannot_be_read_is_not_said_to_lack_a_field() {
    let error = expand("user:{data.id}", r#"{"id": 1, "n": 1e999}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "data.id is needed, but the data cannot be read: number out of range at line 1 column 20"
    );
}

#[test]
fn one_event_reaches_a_bounded_number_of_channels() {
    let list = |length: usize| serde_json::to_string(&vec![1; length]).unwrap();
    let data = |a, b| format!(r#"{{"a": {}, "b": {}}}"#, list(a), list(b));
    assert_eq!(
        expand("x:{data.a}", &data(MAX_CHANNELS, 0)).unwrap().len(),
        MAX_CHANNELS
    );
    assert_eq!(
        expand("x:{data.a}", &data(MAX_CHANNELS + 1, 0)),
        Err(Error::TooMany)
    );
    assert_eq!(
        expand("x:{data.a}:{data.b}", &data(200, 200)),
        Err(Error::TooMany)
    );
}

#[test]
fn a_text_that_is_no_template_is_refused() {
    let check = |text, expected: &str| {
        let error = Template::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("", "empty");
    check("a:{b", "braces do not match at byte 2");
    check("a:b}", "braces do not match at byte 3");
    check("a:{{b}}", "braces do not match at byte 2");
    check("a:{}", "{} names nothing");
    check("a:{data}", "{data} names nothing");
    check("a:{data.}", "{data.} names nothing");
    check("a:{data.x..y}", "{data.x..y} names nothing");
    check("a:{time}", "{time} names nothing");
    check("a:{tenant.id}", "{tenant.id} names nothing");
    check("a b", "' ' at byte 1");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*|[a-z{}.: ]*") {
        let _ = Template::parse(&text);
    }

    #[test]
    fn no_data_makes_a_template_panic_or_give_a_name_outside_its_namespace(
        template in "[a-z]{1,3}:\\{data\\.[ab](\\.[ab])?\\}(:\\{data\\.[ab]\\})?",
        data in "(\\{\"a\":)?([\\[{\"ab:,0-9 .e}\\]-]{0,40}|\\{\"[ab]\":\\PC{0,8}\\})\\}?",
    ) {
        let event = event(data);
        let namespace = template.split(':').next();
        if let Ok(channels) = Template::parse(&template).unwrap().expand(&Facts::of(&event)) {
            for channel in channels {
                prop_assert_eq!(channel.namespace(), namespace);
            }
        }
    }
}
