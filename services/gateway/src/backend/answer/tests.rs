use proptest::prelude::*;
use prost::Message;
use serde_json::json;
use tidings_proto::proxy::{
    ConnectResponse, PublishResponse, RefreshResponse, RpcResponse, SubRefreshResponse, SubscribeResponse,
};

use super::{super::http, *};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_500)
}

fn answer<A: Answer>(text: &serde_json::Value) -> Result<Option<A::Result>, No> {
    result(http::read::<A>(text.to_string().as_bytes()).map_err(No::Failed)?)
}

fn refused<T: std::fmt::Debug>(result: Result<T, No>) -> Refusal {
    match result.unwrap_err() {
        No::Refused(refusal) => refusal,
        No::Failed(failure) => panic!("{failure}"),
    }
}

fn failed<T: std::fmt::Debug>(result: Result<T, No>) -> String {
    match result.unwrap_err() {
        No::Refused(refusal) => panic!("{refusal:?}"),
        No::Failed(failure) => failure.to_string(),
    }
}

fn connect(result: &serde_json::Value) -> Result<Identity, No> {
    let result = answer::<ConnectResponse>(&json!({"result": result}))?.expect("a result");
    let in_channel = |_: &Channel| RenewedBy::Client;
    identity(result, RenewedBy::Backend, in_channel, now())
}

#[test]
fn a_disconnect_counts_before_an_error_and_an_error_before_a_result() {
    let error = json!({"code": 1000, "message": "no", "temporary": true});
    let close = json!({"code": 4000, "reason": "out"});
    let mut all = json!({"result": {}, "error": error, "disconnect": close});
    let closed = CloseReason::Application {
        code: 4000,
        text: "out".into(),
    };
    assert_eq!(refused(answer::<RpcResponse>(&all)), Refusal::Close(closed));
    all["disconnect"].take();
    let no = Error {
        code: 1000,
        message: "no".into(),
        temporary: true,
    };
    assert_eq!(refused(answer::<RpcResponse>(&all)), Refusal::Error(no));
    all["error"].take();
    assert!(answer::<RpcResponse>(&all).unwrap().is_some());
    assert!(answer::<RpcResponse>(&json!({})).unwrap().is_none());
}

#[test]
fn errors_have_the_codes_of_applications_and_closes_those_that_close() {
    for (code, passes) in [
        (0, false),
        (103, false),
        (399, false),
        (400, true),
        (1999, true),
        (2000, false),
    ] {
        let outcome = answer::<RpcResponse>(&json!({"error": {"code": code}})).unwrap_err();
        assert_eq!(
            matches!(outcome, No::Refused(Refusal::Error(_))),
            passes,
            "{code}"
        );
    }
    for (code, closes) in [
        (0, 3503),
        (2999, 3503),
        (3000, 3000),
        (4999, 4999),
        (5000, 3503),
        (70_000, 3503),
    ] {
        let outcome = refused(answer::<RpcResponse>(&json!({"disconnect": {"code": code}})));
        let Refusal::Close(reason) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(reason.code(), closes, "{code}");
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_between_letters() {
    let long = "é".repeat(100);
    let outcome = refused(answer::<RpcResponse>(
        &json!({"disconnect": {"code": 4000, "reason": long}}),
    ));
    let Refusal::Close(reason) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(reason.text(), "é".repeat(61));
}

#[test]
fn an_identity_has_everything_that_the_backend_said() {
    let identity = connect(&json!({
        "user": "42", "expire_at": 1010, "info": {"a": 1}, "b64data": "AQI=", "channels": ["b", "a"],
        "subs": {"a": {"data": [1], "override": {"presence": {"value": true}, "join_leave": {}}}},
    }))
    .unwrap();
    assert_eq!((&*identity.user, &identity.info[..]), ("42", &b"{\"a\":1}"[..]));
    let expiry = Expiry {
        after: Duration::from_millis(9500),
        renewed_by: RenewedBy::Backend,
    };
    assert_eq!(identity.expiry, Some(expiry));
    assert_eq!(
        (&identity.data.data[..], identity.data.format),
        (&[1, 2][..], Format::Binary)
    );
    let [(a, grant), (b, plain)] = &identity.channels[..] else {
        panic!("{:?}", identity.channels);
    };
    assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
    assert_eq!(
        (&grant.data.data[..], *plain == Grant::default()),
        (&b"[1]"[..], true)
    );
    let overrides = grant.overrides;
    assert_eq!(
        (overrides.presence, overrides.join_leave),
        (Some(true), Some(false))
    );
    assert_eq!(overrides.force_recovery, None);
}

#[test]
fn what_is_over_before_it_begins_is_refused_and_what_has_expired_does_not_go_on() {
    assert_eq!(
        refused(connect(&json!({"expire_at": 1000}))),
        Refusal::Error(Error::EXPIRED)
    );
    assert_eq!(
        refused(connect(&json!({"expire_at": -1}))),
        Refusal::Error(Error::EXPIRED)
    );
    let refresh = |text: serde_json::Value| {
        let result = answer::<RefreshResponse>(&json!({"result": text}))?.expect("a result");
        renewal(result, now())
    };
    assert_eq!(refused(refresh(json!({"expired": true}))), Refusal::Expired);
    assert_eq!(refused(refresh(json!({"expire_at": 1000}))), Refusal::Expired);
    assert_eq!(
        refresh(json!({})).unwrap(),
        Renewal::default(),
        "for ever, as it was"
    );
    let on = refresh(json!({"expire_at": 1001, "info": {}})).unwrap();
    assert_eq!(on.expires_in, Some(Duration::from_millis(500)));
    assert_eq!(on.info, Some("{}".into()));
}

#[test]
fn what_cannot_be_meant_is_named() {
    assert!(failed(connect(&json!({"subs": {"a\u{0}": {}}}))).contains("`subs` names a channel"));
    assert!(failed(connect(&json!({"b64info": "?"}))).contains("`info` has a twin that is not base64"));
    assert!(failed(connect(&json!({"user": 42}))).contains("line 1, column"));
    let publish = |text: &serde_json::Value| {
        edit(answer::<PublishResponse>(&json!({"result": text}))?.expect("a result"))
    };
    assert!(failed(publish(&json!({"idempotency_key": "k".repeat(256)}))).contains("`idempotency_key`"));
    let tags: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), json!("v"))).collect();
    assert!(failed(publish(&json!({"tags": tags}))).contains("`tags` are more than 64"));
}

#[test]
fn json_that_is_nested_too_deeply_is_passed_on_as_bytes() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let payload = payload("data", deep.into(), "").unwrap();
    assert_eq!(payload.format, Format::Binary);
}

/// Everything that is done with an answer.
fn take_in<A: Answer>(answer: Result<A, Failure>, read: impl FnOnce(A::Result) -> Result<(), No>) {
    let result = answer.map_err(No::Failed).and_then(result);
    let _ = result.and_then(|result| result.map_or(Ok(()), read));
}

proptest! {
    #[test]
    fn no_answer_does_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..512), at in any::<i64>()) {
        let grpc = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let decode = |_| Failure::Empty;
        take_in(http::read::<ConnectResponse>(&bytes), |_| Ok(()));
        take_in(ConnectResponse::decode(grpc(&bytes)).map_err(decode), |it| {
            identity(it, RenewedBy::Client, |_| RenewedBy::Client, now()).map(drop)
        });
        take_in(RefreshResponse::decode(grpc(&bytes)).map_err(decode), |it| renewal(it, now()).map(drop));
        take_in(SubscribeResponse::decode(grpc(&bytes)).map_err(decode), |it| {
            grant(it, RenewedBy::Client, now()).map(drop)
        });
        take_in(SubRefreshResponse::decode(grpc(&bytes)).map_err(decode), |it| prolonged(it, now()).map(drop));
        take_in(PublishResponse::decode(grpc(&bytes)).map_err(decode), |it| edit(it).map(drop));
        let _ = payload("data", grpc(&bytes), "");
        let _ = payload("data", Bytes::new(), &String::from_utf8_lossy(&bytes));
        let _ = until(at, now());
    }
}
