//! The user's backend decides: real ones, over HTTP and over gRPC, each with the same opinions.

mod server;

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tidings_core::{Namespace, Namespaces};
use tidings_gateway::{Config, Proxies, ProxyConfig};
use tokio_tungstenite::{connect_async, tungstenite::client::IntoClientRequest};

use self::server::{Speaks, start as backend};
use crate::node::{Client, Node, start_in};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A node that leaves everything to the backend.
fn node(config: Proxies, change: impl FnOnce(&mut Config)) -> Node {
    let namespace = Namespace {
        name: "asked".to_owned(),
        subscribe_proxy_enabled: true,
        publish_proxy_enabled: true,
        sub_refresh_proxy_enabled: config.sub_refresh.is_some(),
        ..Namespace::default()
    };
    let plain = Namespace {
        name: "plain".to_owned(),
        ..Namespace::default()
    };
    start_in(
        Namespaces::new(vec![namespace, plain]).expect("namespaces"),
        None,
        |it| {
            it.insecure = false;
            it.allow_anonymous = false;
            it.proxy = config;
            change(it);
        },
    )
}

async fn open(node: &Node) -> Client {
    let mut request = format!("ws://{}/connection/websocket", node.address)
        .into_client_request()
        .expect("a URL");
    let headers = request.headers_mut();
    headers.insert("cookie", "session=1".parse().expect("a header"));
    headers.insert("x-other", "2".parse().expect("a header"));
    headers.insert("x-fixed", "from the client".parse().expect("a header"));
    headers.insert("traceparent", TRACEPARENT.parse().expect("a header"));
    let (socket, _) = connect_async(request).await.expect("a handshake");
    Client { socket }
}

async fn connected(node: &Node) -> Client {
    let mut client = open(node).await;
    let reply = ask(&mut client, json!({"id": 1, "connect": {"data": {"room": 1}}})).await;
    assert_eq!(reply["connect"]["data"], json!({"hello": 1}), "{reply}");
    client
}

async fn ask(client: &mut Client, command: Value) -> Value {
    client.send(&command).await;
    client.next().await
}

/// One to two seconds from now, in the whole seconds that the protocol has: the next second may begin in an instant.
fn soon() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
        + 2
}

/// What both backends say, unless a test has another opinion.
fn kind(event: &str, question: &Value) -> Option<Value> {
    Some(match (event, question["channel"].as_str().unwrap_or_default()) {
        ("connect", _) => {
            json!({"result": {"user": "42", "info": {"name": "Ann"}, "data": {"hello": 1}, "b64info": null}})
        }
        ("subscribe", "asked:no") => {
            json!({"error": {"code": 1000, "message": "full", "temporary": true}})
        }
        ("subscribe" | "publish", "asked:out") => json!({"disconnect": {"code": 4001, "reason": "out"}}),
        ("subscribe", _) => json!({"result": {"data": {"welcome": question["data"]}}}),
        ("publish", "asked:odd") => json!({"result": {"b64data": "AQ=="}}),
        ("publish", "asked:read") => json!({"error": {"code": 1001, "message": "read only"}}),
        ("publish", _) => json!({"result": {"data": ["clean"], "tags": {"by": question["user"]}}}),
        ("rpc", _) => match question["method"].as_str().unwrap_or_default() {
            "sum" => json!({"result": {"data": {"sum": 3}}}),
            "odd" => json!({"error": {"code": 7, "message": "not an application's"}}),
            "nothing" => json!({}),
            "bye" => json!({"disconnect": {"code": 12, "reason": "no close code"}}),
            "slow" => return None,
            _ => json!({"result": {}}),
        },
        _ => json!({"result": {"expired": true}}),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_says_who_a_client_without_a_token_is() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let mut backend = backend(speaks, kind).await;
        let node = node(backend.proxies(|_, _| {}), |_| {});
        let mut client = open(&node).await;
        let connect = json!({"data": {"room": 1}, "name": "js", "version": "5"});
        let reply = ask(&mut client, json!({"id": 1, "connect": connect})).await;
        assert_eq!(reply["connect"]["data"], json!({"hello": 1}), "{reply}");
        let (event, headers, mut question) = backend.asked().await;
        assert_eq!(event, "connect");
        let id = question["client"].take();
        assert_eq!(id, reply["connect"]["client"]);
        assert_eq!(
            question,
            json!({"client": null, "transport": "websocket", "protocol": "json", "encoding": "json",
                "data": {"room": 1}, "name": "js", "version": "5"})
        );
        assert_eq!(headers["cookie"], "session=1");
        assert_eq!(headers["x-fixed"], "from the gateway");
        assert_eq!(headers["traceparent"], TRACEPARENT);
        assert!(!headers.contains_key("x-other"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_backend_does_not_let_in_hears_why() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        for (answer, error, close) in [
            (
                json!({"error": {"code": 1002, "message": "pay"}}),
                Some(1002),
                None,
            ),
            (json!({"error": {"code": 3, "message": "?"}}), Some(100), None),
            (json!({"result": {"user": "1", "expire_at": 1}}), Some(110), None),
            (json!({"disconnect": {"code": 4500}}), None, Some(4500)),
            (json!({"disconnect": {"code": 0}}), None, Some(3503)),
            (json!({}), None, Some(3501)),
        ] {
            let shown = answer.to_string();
            let backend = backend(speaks, move |_, _| Some(answer.clone())).await;
            let node = node(backend.proxies(|_, _| {}), |_| {});
            let mut client = open(&node).await;
            let connect = json!({"id": 1, "connect": {}});
            match (error, close) {
                (Some(code), _) => {
                    assert_eq!(ask(&mut client, connect).await["error"]["code"], code, "{shown}");
                }
                (None, code) => {
                    client.send(&connect).await;
                    assert_eq!(Some(client.close_code().await), code, "{shown}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_says_who_may_subscribe_and_what_is_published() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let mut backend = backend(speaks, kind).await;
        let node = node(backend.proxies(|_, _| {}), |_| {});
        let mut client = connected(&node).await;
        let subscribe = json!({"id": 2, "subscribe": {"channel": "asked:1", "data": {"a": 1}}});
        let reply = ask(&mut client, subscribe).await;
        assert_eq!(
            reply["subscribe"]["data"],
            json!({"welcome": {"a": 1}}),
            "{reply}"
        );
        let (_, headers, question) = backend.asked_about("subscribe").await;
        assert_eq!(question["user"], "42");
        assert_eq!(headers["cookie"], "session=1");

        let publish = json!({"id": 3, "publish": {"channel": "asked:1", "data": ["raw"]}});
        let heard = [ask(&mut client, publish).await, client.next().await];
        let push = heard.iter().find(|it| it["push"].is_object()).expect("a push");
        let publication = &push["push"]["pub"];
        assert_eq!(publication["data"], json!(["clean"]));
        assert_eq!(publication["tags"], json!({"by": "42"}));
        assert_eq!(publication["info"]["conn_info"], json!({"name": "Ann"}));

        let refused = ask(
            &mut client,
            json!({"id": 4, "subscribe": {"channel": "asked:no"}}),
        )
        .await;
        let error = json!({"code": 1000, "message": "full", "temporary": true});
        assert_eq!(refused["error"], error);
        let publish = json!({"id": 5, "publish": {"channel": "asked:read", "data": 1}});
        assert_eq!(ask(&mut client, publish).await["error"]["code"], 1001);
        client
            .send(&json!({"id": 6, "publish": {"channel": "asked:out", "data": 1}}))
            .await;
        assert_eq!(client.close_code().await, 4001);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_no_json_reaches_the_backend_as_base64() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let mut backend = backend(speaks, kind).await;
        let node = node(backend.proxies(|_, _| {}), |_| {});
        let mut plain = node.open("/ws/asked:1").await;
        plain.say("not json").await;
        let (_, _, question) = backend.asked_about("publish").await;
        assert_eq!(question["b64data"], "bm90IGpzb24=");
        assert_eq!(
            (&question["encoding"], &question["data"]),
            (&json!("binary"), &Value::Null)
        );
        assert_eq!(plain.text().await, r#"["clean"]"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_makes_of_a_publication_has_to_be_json_where_the_namespace_asks_for_it() {
    let backend = backend(Speaks::Http, kind).await;
    let node = node(backend.proxies(|_, _| {}), |_| {});
    let mut client = connected(&node).await;
    let publish = json!({"id": 2, "publish": {"channel": "asked:odd", "data": 1}});
    let error = &ask(&mut client, publish).await["error"];
    assert_eq!(error["code"], 107, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_answers_calls() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let mut backend = backend(speaks, kind).await;
        let node = node(backend.proxies(|_, _| {}), |_| {});
        let mut client = connected(&node).await;
        let rpc = |method| json!({"id": 2, "rpc": {"method": method, "data": [1, 2]}});
        let reply = ask(&mut client, rpc("sum")).await;
        assert_eq!(reply["rpc"]["data"], json!({"sum": 3}), "{reply}");
        let (_, _, question) = backend.asked_about("rpc").await;
        assert_eq!(
            (&question["method"], &question["data"]),
            (&json!("sum"), &json!([1, 2]))
        );
        assert!(ask(&mut client, rpc("other")).await["rpc"].is_object());
        for method in ["odd", "nothing"] {
            let error = &ask(&mut client, rpc(method)).await["error"];
            assert_eq!((&error["code"], &error["temporary"]), (&json!(100), &json!(true)));
        }
        client.send(&rpc("bye")).await;
        assert_eq!(client.close_code().await, 3503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_takes_too_long_or_is_away_is_a_temporary_error() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let backend = backend(speaks, kind).await;
        let quick = |key: &str, proxy: &mut ProxyConfig| {
            if key == "rpc" {
                proxy.timeout = Duration::from_millis(50);
            }
        };
        let node = node(backend.proxies(quick), |_| {});
        let mut client = connected(&node).await;
        let rpc = json!({"id": 2, "rpc": {"method": "slow"}});
        assert_eq!(ask(&mut client, rpc).await["error"]["code"], 100);
        assert!(node.metric("proxy_questions_total{question=\"connect\",result=\"answered\"} 1"));
        assert!(node.metric("proxy_questions_total{question=\"rpc\",result=\"late\"} 1"));
        assert!(node.metric("proxy_duration_seconds_count{question=\"rpc\"} 1"));
        drop(backend);
        let refused = ask(&mut client, json!({"id": 3, "subscribe": {"channel": "asked:1"}})).await;
        let error = json!({"code": 100, "message": "internal server error", "temporary": true});
        assert_eq!(refused["error"], error);
        assert!(node.metric("proxy_questions_total{question=\"subscribe\",result=\"failed\"} 1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_is_felt_only_by_those_who_wait_for_it_and_only_so_many_may() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let mut backend = backend(speaks, kind).await;
        let one = |key: &str, proxy: &mut ProxyConfig| {
            if key == "rpc" {
                proxy.concurrency = 1;
                proxy.timeout = Duration::from_secs(600);
            }
        };
        let node = node(backend.proxies(one), |_| {});
        let mut waiting = Vec::new();
        // One is under way, four wait for their turn, and one is too many: it hears so at once.
        for _ in 0..6 {
            let mut client = connected(&node).await;
            client.send(&json!({"id": 2, "rpc": {"method": "slow"}})).await;
            waiting.push(client);
        }
        let replies = waiting.iter_mut().map(|client| Box::pin(client.next()));
        let (reply, ..) = futures_util::future::select_all(replies).await;
        assert_eq!(reply["error"]["code"], 100);
        assert!(node.metric("proxy_questions_total{question=\"rpc\",result=\"busy\"} 1"));
        backend.asked_about("rpc").await;
        let mut client = connected(&node).await;
        // Whoever asks something else has no part in it.
        let subscribe = json!({"id": 3, "subscribe": {"channel": "asked:1"}});
        assert!(ask(&mut client, subscribe).await["subscribe"].is_object());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_says_whether_a_connection_goes_on() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let renewals = AtomicU32::new(0);
        let mut backend = backend(speaks, move |event, question| {
            let first = || renewals.fetch_add(1, Relaxed) == 0;
            match event {
                "connect" => {
                    Some(json!({"result": {"user": "42", "expire_at": soon(), "data": {"hello": 1}}}))
                }
                "refresh" if first() => Some(json!({"result": {"expire_at": soon()}})),
                _ => kind(event, question),
            }
        })
        .await;
        let node = node(backend.proxies(|_, _| {}), |_| {});
        let client = connected(&node).await;
        for _ in 0..2 {
            let (_, _, question) = backend.asked_about("refresh").await;
            assert_eq!(question["user"], "42");
        }
        assert_eq!(client.close_code().await, 3005);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_says_whether_a_subscription_goes_on() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let mut backend = backend(speaks, |event, question| match event {
            "subscribe" => Some(json!({"result": {"expire_at": soon()}})),
            _ => kind(event, question),
        })
        .await;
        let node = node(backend.proxies(|_, _| {}), |_| {});
        let mut client = connected(&node).await;
        let reply = ask(&mut client, json!({"id": 2, "subscribe": {"channel": "asked:1"}})).await;
        assert_eq!(reply, json!({"id": 2, "subscribe": {}}));
        let (_, _, question) = backend.asked_about("sub_refresh").await;
        assert_eq!(question["channel"], "asked:1");
        let push = client.next().await;
        assert_eq!(push["push"]["unsubscribe"]["code"], 2501, "{push}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_speaks_something_else_is_a_temporary_error() {
    let answers: [(u16, String); 4] = [
        (500, "{\"result\":{}}".to_owned()),
        (204, String::new()),
        (200, "<html>".to_owned()),
        (
            200,
            format!("{{\"result\":{{\"user\":\"{}\"}}}}", "x".repeat(1 << 20)),
        ),
    ];
    for (status, body) in answers {
        let said = (axum::http::StatusCode::from_u16(status).expect("a status"), body);
        let router = axum::Router::new().fallback(async move || said.clone());
        let (address, _backend) = server::serve(router);
        let proxy = ProxyConfig {
            endpoint: format!("http://{address}/"),
            timeout: crate::node::PATIENCE,
            ..ProxyConfig::default()
        };
        let proxies = Proxies {
            connect: Some(proxy),
            ..Proxies::default()
        };
        let node = start_in(Namespaces::default(), None, |it| {
            (it.insecure, it.proxy) = (false, proxies);
        });
        let mut client = open(&node).await;
        let error = ask(&mut client, json!({"id": 1, "connect": {}})).await["error"].take();
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!(100), &json!(true)),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_says_what_is_not_kept_and_what_is_published_once() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let backend = backend(speaks, |event, question| match (event, &question["data"]) {
            ("publish", data) if data == "unkept" => Some(json!({"result": {"skip_history": true}})),
            ("publish", data) if data == "once" => Some(json!({"result": {"idempotency_key": "k"}})),
            ("publish", _) => Some(json!({"result": {}})),
            _ => kind(event, question),
        })
        .await;
        let namespace = Namespace {
            name: "asked".to_owned(),
            publish_proxy_enabled: true,
            history_size: 10,
            history_ttl: Duration::from_secs(600),
            allow_history_for_client: true,
            ..Namespace::default()
        };
        let proxies = backend.proxies(|_, _| {});
        let node = start_in(
            Namespaces::new(vec![namespace]).expect("namespaces"),
            None,
            |it| {
                (it.insecure, it.proxy) = (false, proxies);
            },
        );
        let mut client = connected(&node).await;
        for data in ["kept", "unkept", "once", "once"] {
            let publish = json!({"id": 2, "publish": {"channel": "asked:1", "data": data}});
            assert!(ask(&mut client, publish).await["publish"].is_object(), "{data}");
        }
        let history = json!({"id": 3, "history": {"channel": "asked:1", "limit": -1}});
        let reply = ask(&mut client, history).await;
        let kept = reply["history"]["publications"]
            .as_array()
            .expect("a list")
            .iter();
        let kept: Vec<_> = kept.map(|it| it["data"].clone()).collect();
        assert_eq!(kept, ["kept", "once"]);
    }
}
