//! The specification's own rules and examples, and whatever else comes over the wire.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let parsed = pairs.iter().map(|(name, value)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    });
    let mut headers = HeaderMap::new();
    for (name, value) in parsed {
        headers.append(name, value);
    }
    headers
}

fn structured(body: &str) -> Read {
    let headers = headers(&[("content-type", "application/cloudevents+json; charset=UTF-8")]);
    match read(&headers, Bytes::copy_from_slice(body.as_bytes())).unwrap() {
        Message::One(event) => *event,
        Message::Batch(_) => panic!("one event is no batch"),
    }
}

/// What is wrong with an event in structured mode that has all required attributes and these members.
fn wrong(members: &str) -> Vec<String> {
    let body = format!(r#"{{"specversion":"1.0","type":"t","source":"/s","id":"i",{members}}}"#);
    let wrong = structured(&body)
        .map(|event| panic!("{event:?} is taken"))
        .unwrap_err();
    wrong.into_iter().map(|wrong| wrong.attribute).collect()
}

const REQUIRED: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-type", "com.example.someevent"),
    ("ce-source", "/mycontext"),
    ("ce-id", "C234-1234-1234"),
];

fn binary(more: &[(&str, &str)], body: &'static str) -> Read {
    let all: Vec<_> = REQUIRED.iter().chain(more).copied().collect();
    match read(&headers(&all), Bytes::from_static(body.as_bytes())).unwrap() {
        Message::One(event) => *event,
        Message::Batch(_) => panic!("binary mode has no batches"),
    }
}

#[test]
fn the_example_of_the_json_format_is_the_example_of_binary_mode() {
    let json = r#"{
        "specversion" : "1.0", "type" : "com.example.someevent", "source" : "/mycontext", "subject": null,
        "id" : "C234-1234-1234", "time" : "2018-04-05T17:31:00Z", "comexampleextension1" : "value",
        "comexampleothervalue" : 5, "unsetextension": null, "datacontenttype" : "application/json",
        "data" : { "appinfoA" : "abc", "appinfoB" : 123, "appinfoC" : true }
    }"#;
    let headers = [
        ("ce-time", "2018-04-05T17:31:00Z"),
        ("ce-comexampleextension1", "value"),
        ("ce-comexampleothervalue", "5"),
        ("content-type", "application/json"),
    ];
    let event = structured(json).unwrap();
    let same = binary(
        &headers,
        r#"{ "appinfoA" : "abc", "appinfoB" : 123, "appinfoC" : true }"#,
    );
    assert_eq!(event, same.unwrap());
    assert_eq!(event.attributes.len(), 2);
    assert_eq!(event.subject, "");
}

#[test]
fn data_is_what_its_content_type_says() {
    let data = |members: &str| {
        let body = format!(r#"{{"specversion":"1.0","type":"t","source":"/s","id":"i"{members}}}"#);
        structured(&body).map(|event| (event.data_content_type, event.data))
    };
    let is = |members, content_type: &str, expected: &[u8]| {
        let (found, data) = data(members).unwrap();
        assert_eq!((found.as_str(), &data[..]), (content_type, expected), "{members}");
    };
    // JSON stays as it was written, a text in it too; null is a value.
    is(r#","data":"I'm just a string""#, "", br#""I'm just a string""#);
    is(
        r#","data":{"n": 1.0, "big": 12345678901234567890123}"#,
        "",
        br#"{"n": 1.0, "big": 12345678901234567890123}"#,
    );
    is(r#","data":null"#, "", b"null");
    is(
        r#","data":[],"datacontenttype":"application/vnd.x+json; charset=utf-8""#,
        "application/vnd.x+json; charset=utf-8",
        b"[]",
    );
    is(r#","data":1,"datacontenttype":"text/json""#, "text/json", b"1");
    // Anything else stands in a text.
    is(
        r#","datacontenttype":"application/xml","data":"<much wow=\"xml\"/>""#,
        "application/xml",
        br#"<much wow="xml"/>"#,
    );
    // Or in Base64, and then it may be anything.
    is(
        r#","datacontenttype":"image/png","data_base64":"iVBORw==""#,
        "image/png",
        b"\x89PNG",
    );
    is(r#","data_base64":"e30=""#, "", b"{}");
    is("", "", b"");
    is(r#","data_base64":null"#, "", b"");

    assert_eq!(wrong(r#""data":1,"data_base64":"e30=""#), ["data_base64"]);
    assert_eq!(wrong(r#""data":1,"data":2"#), ["data"]);
    assert_eq!(wrong(r#""data_base64":"e30""#), ["data_base64"]);
    assert_eq!(wrong(r#""data_base64":7"#), ["data_base64"]);
    assert_eq!(wrong(r#""datacontenttype":"text/plain","data":{}"#), ["data"]);
}

#[test]
fn every_attribute_that_is_wrong_is_named() {
    assert_eq!(wrong(r#""time":"yesterday""#), ["time"]);
    assert_eq!(wrong(r#""time":12,"subject":true"#), ["time", "subject"]);
    assert_eq!(
        wrong(r#""subject":"","dataschema":"""#),
        ["subject", "dataschema"]
    );
    assert_eq!(wrong(r#""type":"other""#), ["type"]);
    assert_eq!(
        wrong(r#""Tenant":"x","ten_ant":"x","tenänt":"x","":"x""#),
        ["Tenant", "ten_ant", "tenänt", ""]
    );
    assert_eq!(
        wrong(r#""a":{},"b":[],"c":1.5,"d":1e3,"e":2147483648"#),
        ["a", "b", "c", "d", "e"]
    );
    assert_eq!(wrong(r#""a":"\ud800""#), ["a"]);
    let missing = structured("{}").unwrap_err();
    let missing: Vec<_> = missing.iter().map(|wrong| wrong.attribute.as_str()).collect();
    assert_eq!(missing, ["specversion", "id", "source", "type"]);
    let old = structured(r#"{"specversion":"0.3","type":"t","source":"/s","id":"i"}"#).unwrap_err();
    assert_eq!(old[0].attribute, "specversion");
}

#[test]
fn extensions_have_their_canonical_form() {
    let body = r#"{"specversion":"1.0","type":"t","source":"/s","id":"i","a":true,"b":false,"c":-5,"d":"€","e":null,"dataref":"x"}"#;
    let mut attributes: Vec<_> = structured(body).unwrap().attributes.into_iter().collect();
    attributes.sort();
    let expected = [
        ("a", "true"),
        ("b", "false"),
        ("c", "-5"),
        ("d", "€"),
        ("dataref", "x"),
    ];
    assert_eq!(
        attributes,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn headers_are_read_by_the_rules_of_the_binding() {
    let event = binary(
        &[
            ("Ce-Subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("CE-TENANT", "\"a b\""),
        ],
        "",
    );
    let event = event.unwrap();
    assert_eq!(event.subject, "Euro € 😀");
    assert_eq!(event.attributes["tenant"], "a b");
    assert_eq!((event.data_content_type.as_str(), event.data.len()), ("", 0));
    // Nobody has said that these are JSON.
    assert_eq!(
        binary(&[], "xyz").unwrap().data_content_type,
        "application/octet-stream"
    );

    let wrong = |more| {
        let wrong = binary(more, "").unwrap_err();
        wrong.into_iter().map(|wrong| wrong.attribute).collect::<Vec<_>>()
    };
    assert_eq!(wrong(&[("ce-subject", "%C0%A0")]), ["subject"]);
    assert_eq!(wrong(&[("ce-id", "another")]), ["id"]);
    assert_eq!(
        wrong(&[("ce-datacontenttype", "text/plain")]),
        ["datacontenttype"]
    );
    assert_eq!(wrong(&[("ce-data", "{}"), ("ce-a_b", "")]), ["data", "a_b"]);
    let nothing = read(&HeaderMap::new(), Bytes::new()).unwrap();
    assert!(
        matches!(nothing, Message::One(event) if (*event).as_ref().is_err_and(|missing| missing.len() == 4))
    );
}

#[test]
fn a_batch_has_an_outcome_for_each_event_and_may_be_empty() {
    let batch = |body: &str| {
        let headers = headers(&[("content-type", "application/cloudevents-batch+json")]);
        read(&headers, Bytes::copy_from_slice(body.as_bytes()))
    };
    let good = r#"{"specversion":"1.0","type":"t","source":"/s","id":"i"}"#;
    let Message::Batch(events) = batch(&format!("[{good},{{}},{good}]")).unwrap() else {
        panic!("it is a batch")
    };
    assert_eq!(
        events.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(batch("[]").unwrap(), Message::Batch(Vec::new()));
    let many = format!("[{}]", vec![good; MAX_BATCH + 1].join(","));
    assert_eq!(batch(&many), Err(Error::TooMany));
    for no_batch in ["", good, "[1]", "[[]]", "[", "null"] {
        assert!(matches!(batch(no_batch), Err(Error::Json(_))), "{no_batch}");
    }
}

#[test]
fn formats_that_are_not_read_here_are_refused_by_name() {
    for content_type in [
        "application/cloudevents",
        "application/cloudevents+xml",
        "application/cloudevents-batch+avro",
        "Application/CloudEvents+Protobuf; charset=utf-8",
        "application/cloudevents+json; charset=utf-16",
    ] {
        let refused = read(&headers(&[("content-type", content_type)]), Bytes::new()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(refused.to_string().contains(content_type), "{refused}");
    }
}

#[test]
fn an_event_has_only_so_many_members() {
    let members: Vec<_> = (0..200).map(|n| format!("\"a{n}\":1")).collect();
    let headers = headers(&[("content-type", "application/cloudevents+json")]);
    let refused = read(&headers, format!("{{{}}}", members.join(",")).into());
    assert!(matches!(refused, Err(Error::Json(why)) if why.contains("members")));
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,19}".prop_filter("an extension's", |name| {
        !attributes::is_own(name) && name != "data"
    })
}

proptest! {
    #[test]
    fn no_body_brings_the_reader_down(body in proptest::collection::vec(any::<u8>(), 0..400), batch: bool) {
        let content_type = if batch { "application/cloudevents-batch+json" } else { "application/cloudevents+json" };
        let _ = read(&headers(&[("content-type", content_type)]), body.into());
    }

    #[test]
    fn no_json_brings_the_reader_down(value in r#"[\[\]{}":,0-9a-z\\ .-]{0,60}"#, name in "[a-z_]{0,12}") {
        let body = format!(r#"{{"specversion":"1.0","id":"i","{name}":{value}}}"#);
        let _ = read(&headers(&[("content-type", "application/cloudevents+json")]), body.into());
    }

    #[test]
    fn no_header_brings_the_reader_down(name in "ce-[a-z0-9_-]{0,20}", value in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut headers = HeaderMap::new();
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
            headers.append(name, value);
        }
        let _ = read(&headers, Bytes::new());
    }

    #[test]
    fn what_a_sender_encodes_comes_out_as_it_went_in(
        attributes in proptest::collection::btree_map(name(), "[^\\x00-\\x1f\\x7f]{1,30}", 0..6),
    ) {
        let mut pairs: Vec<(String, String)> =
            REQUIRED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // Section 3.1.3.2: space, quotes, percent, and whatever is not printable ASCII.
        const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'%');
        for (name, value) in &attributes {
            let value = percent_encoding::utf8_percent_encode(value, ENCODED).to_string();
            pairs.push((format!("ce-{name}"), value));
        }
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let Ok(Message::One(event)) = read(&headers(&pairs), Bytes::new()) else {
            return Err(TestCaseError::fail("it is one event"));
        };
        let event = event.map_err(|wrong| TestCaseError::fail(format!("{wrong:?}")))?;
        let found: BTreeMap<_, _> = event.attributes.into_iter().collect();
        prop_assert_eq!(&found, &attributes);

        let mut object = serde_json::json!({"specversion": "1.0", "type": "t", "source": "/s", "id": "i"});
        for (name, value) in &attributes {
            object[name.as_str()] = value.as_str().into();
        }
        let event = structured(&object.to_string()).map_err(|wrong| TestCaseError::fail(format!("{wrong:?}")))?;
        prop_assert_eq!(event.attributes.into_iter().collect::<BTreeMap<_, _>>(), attributes);
    }
}
