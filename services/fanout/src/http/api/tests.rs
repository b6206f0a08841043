//! What is taken for a request, and what is not.

use proptest::prelude::*;
use tidings_core::Format;

use super::{
    batch, connections, decode, look,
    method::{Method, Name},
    publish::{self, optional},
};

#[test]
fn every_method_is_known_by_its_name_and_has_a_route_of_its_own() {
    for name in [
        "publish",
        "broadcast",
        "subscribe",
        "unsubscribe",
        "disconnect",
        "refresh",
        "presence",
        "presence_stats",
        "history",
        "history_remove",
        "info",
        "channels",
        "rpc",
        "batch",
    ] {
        let known = Name::parse(name).unwrap();
        assert_eq!(known.route(), format!("POST /api/{name}"));
        if let Name::One(method) = known {
            assert_eq!(method.name(), name);
        }
    }
    assert_eq!(Name::parse("publish"), Some(Name::One(Method::Publish)));
    assert_eq!(Name::parse("connections"), Some(Name::NotOffered("connections")));
    assert_eq!(Name::parse("Publish"), None);
    assert_eq!(Name::parse(""), None);
}

#[test]
fn null_is_nothing_and_unknown_fields_are_skipped() {
    let all = br#"{"channel":null,"channels":null,"data":null,"b64data":null,"skip_history":null,"tags":null,
        "idempotency_key":null,"version":null,"version_epoch":null,"delta":true,"more":[{}]}"#;
    assert!(decode::<publish::Request>(all).is_ok());
    let all = br#"{"user":null,"client":null,"label_filter":null,"all_users":null,"disconnect":null,"whitelist":null,
        "expired":null,"expire_at":null,"info":null,"override":{"presence":null,"join_leave":{"value":null}}}"#;
    assert!(decode::<connections::Request>(all).is_ok());
    assert!(decode::<look::History>(br#"{"limit":-1,"since":{"offset":null},"reverse":null}"#).is_ok());
}

#[test]
fn what_is_not_of_its_type_or_there_twice_is_refused_with_its_place() {
    for body in [
        &br#"{"channel":1}"#[..],
        br#"{"channel":"a","channel":"b"}"#,
        br#"{"tags":{"a":1}}"#,
        br#"{"version":-1}"#,
        b"[]1",
        b"",
        b"\xff",
        b"{\"data\":}",
        b"nul",
    ] {
        assert!(
            decode::<publish::Request>(body).is_err(),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let super::Malformed(why) = decode::<publish::Request>(br#"{"channel":1}"#)
        .map(drop)
        .unwrap_err();
    assert!(why.contains("line 1"), "{why}");
}

#[test]
fn base64_comes_first_and_may_be_json() {
    let data = |text: &str| Some(serde_json::from_str(text).unwrap());
    let of = |data, encoded: Option<&str>| optional(data, encoded.map(str::to_owned), "b64data");
    assert_eq!(
        of(data("{\n}"), None).unwrap(),
        (b"{ }".as_slice().into(), Format::Json)
    );
    assert_eq!(
        of(data("1"), Some("")).unwrap(),
        (b"1".as_slice().into(), Format::Json)
    );
    assert_eq!(
        of(data("1"), Some("eyJhIjoxfQ==")).unwrap(),
        (b"{\"a\":1}".as_slice().into(), Format::Json)
    );
    assert_eq!(
        of(None, Some("/w==")).unwrap(),
        (b"\xff".as_slice().into(), Format::Binary)
    );
    assert_eq!(of(None, Some("?")).unwrap_err().code, 107);
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    assert_eq!(of(data(&deep), None).unwrap_err().code, 107);
}

proptest! {
    #[test]
    fn no_body_brings_a_decoder_down(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<publish::Request>(&body);
        let _ = decode::<connections::Request>(&body);
        let _ = decode::<look::History>(&body);
        let _ = decode::<batch::Batch>(&body);
    }

    #[test]
    fn no_field_brings_a_decoder_down(
        field in "(channel|channels|data|b64data|tags|version|user|disconnect|whitelist|expire_at|info|override|limit|since|commands)",
        value in r#"[\[\]{}":,0-9a-z\\ .-]{0,40}"#,
    ) {
        let body = format!(r#"{{"{field}":{value}}}"#).into_bytes();
        let _ = decode::<publish::Request>(&body);
        let _ = decode::<connections::Request>(&body);
        let _ = decode::<look::History>(&body);
        let _ = decode::<batch::Batch>(&body);
    }
}
