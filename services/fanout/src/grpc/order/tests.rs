use std::time::{Duration, UNIX_EPOCH};

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

fn ada() -> Option<proto::Clients> {
    Some(proto::Clients {
        user: "ada".to_owned(),
        ..proto::Clients::default()
    })
}

/// The fields that are wrong.
fn fields(checked: Checked) -> Vec<String> {
    let violations = checked.map_or_else(|violations| violations, |_| Vec::new());
    violations.into_iter().map(|violation| violation.field).collect()
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

#[test]
fn an_order_is_for_somebody() {
    let check = |clients: Option<proto::Clients>, expected: &[&str]| {
        let request = proto::SendRequest {
            clients,
            data: "1".into(),
            ..proto::SendRequest::default()
        };
        assert_eq!(fields(send(request, NOW)), expected);
    };
    check(ada(), &[]);
    check(None, &["clients"]);
    check(Some(proto::Clients::default()), &["clients"]);
    check(
        Some(proto::Clients {
            client: "7".to_owned(),
            session: "s".repeat(256),
            ..proto::Clients::default()
        }),
        &["clients.client", "clients.session"],
    );
}

#[test]
fn a_code_and_a_reason_have_defaults_and_limits() {
    let check = |code: u32, reason: &str, expected: Result<(u32, &str), &[&str]>| {
        let request = proto::DisconnectRequest {
            clients: ada(),
            code,
            reason: reason.to_owned(),
            except: Vec::new(),
        };
        match (disconnect(request, NOW), expected) {
            (Ok(order), Ok((code, reason))) => {
                let expected = bus::Disconnect {
                    code,
                    reason: reason.to_owned(),
                    except: Vec::new(),
                };
                assert_eq!(order.what, What::Disconnect(expected));
            }
            (checked, expected) => assert_eq!(fields(checked), expected.unwrap_err()),
        }
    };
    check(0, "", Ok((3503, "force disconnect")));
    check(0, "bye", Ok((3503, "bye")));
    check(4000, "", Ok((4000, "")));
    check(4999, "banned", Ok((4999, "banned")));
    check(2999, "", Err(&["code"]));
    check(5000, "", Err(&["code"]));
    check(0, &"x".repeat(124), Err(&["reason"]));
    check(0, "{\"reconnect\":true}", Err(&["reason"]));
    check(0, "a\nb", Err(&["reason"]));
}

#[test]
fn clients_that_are_spared_are_clients() {
    let request = |except| proto::DisconnectRequest {
        clients: ada(),
        except,
        ..proto::DisconnectRequest::default()
    };
    let client = ClientId::random().to_string();
    assert!(disconnect(request(vec![client.clone()]), NOW).is_ok());
    let checked = disconnect(request(vec![client.clone(), "7".to_owned()]), NOW);
    assert_eq!(fields(checked), ["except[1]"]);
    assert_eq!(fields(disconnect(request(vec![client; 1001]), NOW)), ["except"]);
}

#[test]
fn a_subscribe_says_how_long_from_now_it_is_good_for() {
    let request = |expire_at| proto::SubscribeRequest {
        clients: ada(),
        channel: "news:1".to_owned(),
        expire_at,
        data: "{\n}".into(),
        info: "[\r]".into(),
        ..proto::SubscribeRequest::default()
    };
    let order = subscribe(request(at(100)), NOW + Duration::from_secs(40)).unwrap();
    assert_eq!(order.channel.unwrap().as_str(), "news:1");
    let What::Subscribe(what) = order.what else {
        panic!("{:?}", order.what)
    };
    assert_eq!(what.expiry.unwrap().after_ms, 60_000);
    assert_eq!((&what.data[..], &what.info[..]), (&b"{ }"[..], &b"[ ]"[..]));
    assert_eq!(
        fields(subscribe(request(at(100)), NOW + Duration::from_secs(100))),
        ["expire_at"]
    );
    assert_eq!(fields(subscribe(request(at(-1)), NOW)), ["expire_at"]);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let request = proto::SubscribeRequest {
        info: "{".into(),
        data: "{".into(),
        ..proto::SubscribeRequest::default()
    };
    assert_eq!(
        fields(subscribe(request, NOW)),
        ["channel", "info", "data", "clients"]
    );
    let request = proto::UnsubscribeRequest {
        clients: ada(),
        code: 1000,
        ..proto::UnsubscribeRequest::default()
    };
    assert_eq!(fields(unsubscribe(request, NOW)), ["channel", "code"]);
    assert_eq!(
        fields(send(
            proto::SendRequest {
                clients: ada(),
                ..proto::SendRequest::default()
            },
            NOW
        )),
        ["data"]
    );
}

#[test]
fn a_refresh_ends_what_has_expired_and_lasts_for_ever_without_a_time() {
    let check = |expired, expire_at, expected: Option<u64>| {
        let request = proto::RefreshRequest {
            clients: ada(),
            expire_at,
            expired,
            info: None,
        };
        let What::Refresh(what) = refresh(request, NOW + Duration::from_secs(50)).unwrap().what else {
            panic!("no refresh")
        };
        assert_eq!(what.expiry.map(|expiry| expiry.after_ms), expected);
    };
    check(false, None, None);
    check(false, at(51), Some(1000));
    check(false, at(49), Some(0));
    check(true, at(51), Some(0));
}

#[test]
fn data_that_is_no_json_is_sent_as_it_is_where_the_request_says_so() {
    let request = |content_type: &str| proto::SendRequest {
        clients: ada(),
        data: Bytes::from_static(b"\xff\n"),
        data_content_type: content_type.to_owned(),
    };
    let order = send(request("application/octet-stream"), NOW).unwrap();
    let expected = bus::Send {
        data: Bytes::from_static(b"\xff\n"),
        binary: true,
    };
    assert_eq!(order.what, What::Send(expected));
    assert_eq!(fields(send(request(""), NOW)), ["data"]);
    assert_eq!(fields(send(request("json"), NOW)), ["data_content_type"]);
}
