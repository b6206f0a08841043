//! The server API of the Centrifugo ecosystem: each method, each way to show the key, each kind of error.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tidings_broker::Broker;
use tidings_core::{Format, Namespace, Namespaces};
use tidings_fanout::Deps;
use tidings_proto::bus::{self, order::What};

use crate::{
    gateway::Gateway,
    harness::{Door, insecure, keyed, open_to_all},
    http::{Answer, send},
};

/// `chat` has history and presence, `quiet` neither.
fn namespaces() -> Namespaces {
    let quiet = Namespace {
        name: "quiet".to_owned(),
        ..Namespace::default()
    };
    Namespaces::new(vec![Namespace::open("chat"), quiet]).unwrap()
}

fn door() -> Door {
    let deps = Deps {
        namespaces: namespaces(),
        ..open_to_all(&Broker::memory())
    };
    Door::open_with(deps, &insecure(), &[])
}

async fn ask(door: &Door, method: &str, params: Value) -> Answer {
    send(
        door.address,
        &format!("POST /api/{method}"),
        &[],
        params.to_string(),
    )
    .await
}

async fn result(door: &Door, method: &str, params: Value) -> Value {
    let answer = ask(door, method, params).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut answer = answer.json();
    assert!(answer["error"].is_null(), "{answer}");
    answer["result"].take()
}

/// The error's code, and that its message begins as client libraries know it.
async fn error(door: &Door, method: &str, params: Value) -> u64 {
    let answer = ask(door, method, params).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let error = &answer.json()["error"];
    let code = error["code"]
        .as_u64()
        .unwrap_or_else(|| panic!("no error: {answer:?}"));
    let begins = match code {
        102 => "unknown channel: ",
        103 => "permission denied: ",
        104 => "method not found: ",
        107 => "bad request: ",
        108 => "not available: ",
        112 => "unrecoverable position: ",
        _ => "internal server error: ",
    };
    assert!(error["message"].as_str().unwrap().starts_with(begins), "{error}");
    code
}

#[tokio::test]
async fn what_is_published_is_the_bare_data_with_its_tags() {
    let mut door = door();
    door.listen(&["chat:1", "quiet:1"]).await;
    let params =
        json!({ "channel": "chat:1", "data": { "n": 1.5 }, "tags": { "lang": "en" }, "delta": true });
    let place = result(&door, "publish", params).await;
    assert_eq!(place["offset"], 1);
    assert!(place["epoch"].is_string());
    let params = json!({ "channel": "quiet:1", "b64data": BASE64_STANDARD.encode([0xff]), "data": {} });
    assert_eq!(result(&door, "publish", params).await, json!({}));
    let params = json!({ "channel": "chat:1", "data": 2, "skip_history": true });
    assert_eq!(result(&door, "publish", params).await, json!({}));

    let heard = door.heard();
    let (first, binary) = (&heard[0].1, &heard[1].1);
    assert_eq!(
        (&first.data[..], first.format),
        (&b"{\"n\":1.5}"[..], Format::Json)
    );
    assert_eq!((first.tags["lang"].as_str(), first.kind.as_str()), ("en", ""));
    assert_eq!((&binary.data[..], binary.format), (&b"\xff"[..], Format::Binary));
    assert_eq!(heard[2].1.position, None);
    let kept = result(&door, "history", json!({ "channel": "chat:1", "limit": -1 })).await;
    assert_eq!(kept["publications"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_broadcast_has_a_response_for_each_channel_in_order() {
    let mut door = door();
    door.listen(&["chat:1", "chat:2"]).await;
    let channels = ["chat:1", "nobody:1", "", "chat:2", "quiet:1"];
    let said = result(&door, "broadcast", json!({ "channels": channels, "data": {} })).await;
    let responses = said["responses"].as_array().unwrap();
    assert_eq!(responses[0]["result"]["offset"], 1);
    assert_eq!(responses[1]["error"]["code"], 102);
    assert_eq!(responses[2]["error"]["code"], 107);
    assert_eq!(responses[3]["result"]["offset"], 1);
    assert_eq!(responses[4], json!({ "result": {} }));
    assert_eq!(door.heard().len(), 2);
    assert_eq!(
        error(&door, "broadcast", json!({ "channels": [], "data": 1 })).await,
        107
    );
}

#[tokio::test]
async fn an_idempotency_key_publishes_once_in_each_channel() {
    let mut door = door();
    door.listen(&["chat:1", "chat:2"]).await;
    let publish = |channel: &str| json!({ "channel": channel, "data": 1, "idempotency_key": "k" });
    let first = result(&door, "publish", publish("chat:1")).await;
    assert_eq!(result(&door, "publish", publish("chat:1")).await, first);
    assert_eq!(result(&door, "publish", publish("chat:2")).await["offset"], 1);
    assert_eq!(door.heard().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_by_code_and_nobody_hears_of_it() {
    let mut door = door();
    door.listen(&["chat:1", "nobody:1"]).await;
    assert_eq!(
        error(&door, "publish", json!({ "channel": "nobody:1", "data": 1 })).await,
        102
    );
    for bad in [
        json!({ "data": 1 }),
        json!({ "channel": "a b", "data": 1 }),
        json!({ "channel": "chat:1" }),
        json!({ "channel": "chat:1", "data": null }),
        json!({ "channel": "chat:1", "b64data": "%" }),
        json!({ "channel": "chat:1", "data": 1, "tags": { "": "x" } }),
    ] {
        assert_eq!(error(&door, "publish", bad).await, 107);
    }
    let version = json!({ "channel": "chat:1", "data": 1, "version": 3, "version_epoch": "e".repeat(257) });
    assert_eq!(error(&door, "publish", version).await, 107);
    assert_eq!(door.heard(), []);
}

#[tokio::test]
async fn what_is_no_newer_than_what_a_stream_has_is_left_out() {
    let mut door = door();
    door.listen(&["chat:1"]).await;
    let publish = async |version: u64| {
        let what = json!({ "channel": "chat:1", "data": version, "version": version, "version_epoch": "a" });
        result(&door, "publish", what).await["offset"].clone()
    };
    assert_eq!(publish(3).await, 1);
    assert_eq!(publish(2).await, 1, "where the stream is");
    assert_eq!(publish(4).await, 2);
    assert_eq!(door.heard().len(), 2);
}

#[tokio::test]
async fn history_is_read_from_a_position_in_either_direction_and_removed() {
    let door = door();
    for n in 1..=3 {
        result(&door, "publish", json!({ "channel": "chat:1", "data": n })).await;
    }
    let history = async |more: Value| {
        let mut params = more;
        params["channel"] = "chat:1".into();
        result(&door, "history", params).await
    };
    let offsets = |said: &Value| -> Vec<u64> {
        let all = said["publications"].as_array().unwrap().iter();
        all.map(|publication| publication["offset"].as_u64().unwrap())
            .collect()
    };
    let top = history(json!({})).await;
    assert_eq!((offsets(&top), &top["offset"]), (vec![], &json!(3)));
    let epoch = &top["epoch"];
    assert_eq!(offsets(&history(json!({ "limit": 2 })).await), [1, 2]);
    let all = history(json!({ "limit": -1, "reverse": true })).await;
    assert_eq!(offsets(&all), [3, 2, 1]);
    assert_eq!(all["publications"][0], json!({ "data": 3, "offset": 3 }));
    let since = json!({ "limit": 10, "since": { "offset": 1, "epoch": epoch } });
    assert_eq!(offsets(&history(since).await), [2, 3]);
    let lost = json!({ "channel": "chat:1", "limit": 1, "since": { "offset": 1, "epoch": "other" } });
    assert_eq!(error(&door, "history", lost).await, 112);

    assert_eq!(
        result(&door, "history_remove", json!({ "channel": "chat:1" })).await,
        json!({})
    );
    let begun = history(json!({ "limit": -1 })).await;
    assert_eq!((offsets(&begun), begun["offset"].as_u64()), (vec![], Some(0)));
    for method in ["history", "history_remove"] {
        assert_eq!(error(&door, method, json!({ "channel": "quiet:1" })).await, 108);
        assert_eq!(error(&door, method, json!({ "channel": "nobody:1" })).await, 102);
        assert_eq!(error(&door, method, json!({})).await, 107);
    }
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let door = door();
    for (method, code) in [("connections", 108), ("map_publish", 108), ("rpc", 107)] {
        assert_eq!(error(&door, method, json!({})).await, code, "{method}");
    }
    assert_eq!(error(&door, "rpc", json!({ "method": "x" })).await, 104);
    // Nobody said where presence runs; and the other has none.
    for method in ["presence", "presence_stats"] {
        assert_eq!(error(&door, method, json!({ "channel": "chat:1" })).await, 108);
    }
    assert_eq!(
        error(&door, "disconnect", json!({ "user": "ada", "all_users": true })).await,
        108
    );
    assert_eq!(
        error(&door, "unsubscribe", json!({ "user": "ada", "label_filter": {} })).await,
        108
    );
    assert_eq!(ask(&door, "nope", json!({})).await.status, 404);
}

#[tokio::test]
async fn an_error_is_the_status_where_that_is_asked_for() {
    let door = door();
    let mode = [("X-Centrifugo-Error-Mode", "transport")];
    let ask = async |method: &str, params: Value| {
        send(
            door.address,
            &format!("POST /api/{method}"),
            &mode,
            params.to_string(),
        )
        .await
    };
    for (method, params, status, code) in [
        ("publish", json!({ "channel": "nobody:1", "data": 1 }), 404, 102),
        ("rpc", json!({ "method": "x" }), 404, 104),
        ("publish", json!({ "channel": "chat:1" }), 400, 107),
        ("presence", json!({ "channel": "chat:1" }), 400, 108),
        (
            "history",
            json!({ "channel": "chat:1", "since": { "epoch": "x" } }),
            416,
            112,
        ),
    ] {
        let answer = ask(method, params).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_u64()),
            (status, Some(code)),
            "{answer:?}"
        );
    }
    assert_eq!(
        ask("publish", json!({ "channel": "chat:1", "data": 1 }))
            .await
            .status,
        200
    );
    let broadcast = ask("broadcast", json!({ "channels": ["nobody:1"], "data": 1 })).await;
    assert_eq!(broadcast.status, 200);
}

#[tokio::test]
async fn a_key_is_taken_from_each_of_its_three_places() {
    let door = Door::open(&keyed(None, None), &[]);
    let body = r#"{"channel":"a","data":1}"#;
    let wrong = ("x-api-key", "wrong");
    for (query, headers, status) in [
        ("", &[("X-API-Key", "secret-key")][..], 200),
        ("", &[("Authorization", "apikey secret-key")], 200),
        ("?api_key=secret-key", &[], 200),
        ("?api_key=secret%2Dkey", &[wrong], 200),
        ("", &[], 401),
        ("", &[wrong], 401),
        ("", &[("authorization", "apikey")], 401),
        ("?api_key=wrong", &[], 401),
        ("?api_key=", &[], 401),
    ] {
        let answer = send(door.address, &format!("POST /api/publish{query}"), headers, body).await;
        assert_eq!(answer.status, status, "{query} {headers:?}");
        assert_eq!(answer.body.is_empty(), status == 401, "{answer:?}");
    }
    assert_eq!(send(door.address, "GET /api/info", &[], "").await.status, 401);
    let answer = send(door.address, "GET /api/info?api_key=secret-key", &[], "").await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: post"), "{answer:?}");
    assert!(
        door.metrics().contains("tidings_api_keys_refused_total 6\n"),
        "{}",
        door.metrics()
    );
}

#[tokio::test]
async fn a_key_reaches_as_far_as_its_scopes() {
    let key = [("x-api-key", "secret-key")];
    let code = async |door: &Door, method: &str, params: Value| {
        let answer = send(
            door.address,
            &format!("POST /api/{method}"),
            &key,
            params.to_string(),
        )
        .await;
        assert!(!answer.body.contains("secret-key"), "{answer:?}");
        answer.json()["error"]["code"].as_u64()
    };
    let publish = |channel: &str| json!({ "channel": channel, "data": 1 });
    let narrow = Door::open(&keyed(None, Some(&["news:*"])), &[]);
    assert_eq!(code(&narrow, "publish", publish("news:1")).await, None);
    for (method, params) in [
        ("publish", publish("other:1")),
        ("history", json!({ "channel": "other:1" })),
        ("history_remove", json!({ "channel": "other:1" })),
        ("presence", json!({ "channel": "other:1" })),
        ("subscribe", json!({ "channel": "other:1", "user": "ada" })),
        ("disconnect", json!({ "user": "ada" })),
    ] {
        assert_eq!(code(&narrow, method, params).await, Some(103), "{method}");
    }
    // What is published so has no type, so a key for some types of events is not one for it.
    let typed = Door::open(&keyed(Some(&["task.*"]), None), &[]);
    assert_eq!(code(&typed, "publish", publish("news:1")).await, Some(103));
    let any = Door::open(&keyed(Some(&["**"]), None), &[]);
    assert_eq!(code(&any, "publish", publish("news:1")).await, None);
}

#[tokio::test]
async fn what_is_no_request_is_400_in_plain_text() {
    let door = door();
    for body in [
        &b""[..],
        b"{",
        b"\xff",
        b"[]",
        b"{\"channel\":1}",
        b"{\"channel\":\"a\",\"channel\":\"b\"}",
    ] {
        let answer = send(door.address, "POST /api/publish", &[], body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.head.contains("content-type: text/plain"), "{answer:?}");
    }
    let large = format!(r#"{{"channel":"chat:1","data":"{}"}}"#, "a".repeat(2 << 20));
    assert_eq!(
        send(door.address, "POST /api/publish", &[], large).await.status,
        413
    );
}

#[tokio::test]
async fn a_batch_has_a_reply_for_each_command() {
    let door = door();
    let commands = json!([
        { "publish": { "channel": "chat:1", "data": 1 } },
        { "publish": { "channel": "nobody:1", "data": 1 } },
        { "history": { "channel": "chat:1", "limit": 1 } },
        { "publish": { "channel": 7 } },
        { "batch": {} },
        { "nope": {} },
        { "info": {} },
        {},
        { "publish": {}, "info": {} },
    ]);
    for parallel in [false, true] {
        let answer = ask(
            &door,
            "batch",
            json!({ "commands": commands, "parallel": parallel }),
        )
        .await;
        let said = answer.json();
        assert!(said["replies"][0]["publish"]["offset"].is_u64(), "{said}");
        assert_eq!(said["replies"][2]["history"]["publications"][0]["data"], 1);
        let codes: Vec<_> = said["replies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reply| reply["error"]["code"].as_u64())
            .collect();
        let some = |code| Some(code);
        assert_eq!(
            codes,
            [
                None,
                some(102),
                None,
                some(107),
                some(107),
                some(104),
                None,
                some(107),
                some(107)
            ]
        );
    }
    assert_eq!(
        ask(&door, "batch", json!({})).await.json(),
        json!({ "replies": [] })
    );
    let many = vec![json!({ "info": {} }); 1001];
    assert_eq!(ask(&door, "batch", json!({ "commands": many })).await.status, 400);
}

#[tokio::test]
async fn the_old_form_names_the_method_in_the_body() {
    let door = door();
    let ask = async |body: Value| send(door.address, "POST /api", &[], body.to_string()).await;
    let said = ask(json!({ "method": "publish", "params": { "channel": "chat:1", "data": 1 } }))
        .await
        .json();
    assert_eq!(said["result"]["offset"], 1);
    assert_eq!(
        ask(json!({ "method": "info" })).await.json(),
        json!({ "result": { "nodes": [] } })
    );
    assert_eq!(ask(json!({ "method": "nope" })).await.status, 404);
    assert_eq!(ask(json!({ "params": {} })).await.status, 400);
}

#[tokio::test]
async fn orders_about_connections_reach_gateways_in_their_words() {
    let broker = Broker::memory();
    let door = Door::open_with(open_to_all(&broker), &insecure(), &[]);
    let mut gateway = Gateway::start(&broker).await;
    let client = "7a1e9c5a-7d4e-4f0e-9c43-6c3c1d1f0a11";
    let mut ordered = async |method: &str, params: Value| {
        let (said, order) = tokio::join!(result(&door, method, params), gateway.answer(1));
        assert_eq!(said, json!({}));
        assert_eq!(order.clients.as_ref().unwrap().user, "ada");
        order
    };

    let order = ordered(
        "disconnect",
        json!({ "user": "ada", "client": client, "session": "s", "whitelist": [client] }),
    )
    .await;
    let clients = order.clients.unwrap();
    assert_eq!((clients.client.as_str(), clients.session.as_str()), (client, "s"));
    assert!(
        matches!(order.what, Some(What::Disconnect(what)) if what.code == 3503 && what.except == [client])
    );
    let custom = json!({ "user": "ada", "disconnect": { "code": 4100, "reason": "moved" } });
    let order = ordered("disconnect", custom).await;
    assert!(
        matches!(order.what, Some(What::Disconnect(what)) if what.code == 4100 && what.reason == "moved")
    );

    let subscribe = json!({
        "user": "ada", "channel": "chat:1", "info": { "a": 1 }, "b64data": "/w==", "expire_at": 99_999_999_999_i64,
        "override": { "presence": { "value": true }, "force_recovery": { "value": false } },
    });
    let order = ordered("subscribe", subscribe).await;
    let Some(What::Subscribe(what)) = order.what else {
        panic!("no subscribe")
    };
    assert_eq!(
        (what.channel.as_str(), &what.info[..], &what.data[..], what.binary),
        ("chat:1", &b"{\"a\":1}"[..], &b"\xff"[..], true)
    );
    assert!(what.expiry.is_some());
    let overrides = what.overrides.unwrap();
    assert_eq!(
        (overrides.presence, overrides.join_leave, overrides.force_recovery),
        (Some(true), None, Some(false))
    );

    let order = ordered("unsubscribe", json!({ "user": "ada", "channel": "chat:1" })).await;
    assert!(matches!(order.what, Some(What::Unsubscribe(what)) if what.code == 2000));
    let order = ordered("refresh", json!({ "user": "ada", "expired": true })).await;
    assert!(
        matches!(order.what, Some(What::Refresh(what)) if what.expiry == Some(bus::Expiry { after_ms: 0 }) && what.info.is_none())
    );
    let order = ordered("refresh", json!({ "user": "ada", "b64info": "e30=" })).await;
    assert!(
        matches!(order.what, Some(What::Refresh(what)) if what.expiry.is_none() && what.info.as_deref() == Some(b"{}"))
    );

    for (method, params) in [
        ("disconnect", json!({})),
        ("disconnect", json!({ "user": "ada", "client": "x" })),
        (
            "disconnect",
            json!({ "user": "ada", "disconnect": { "code": 7 } }),
        ),
        ("subscribe", json!({ "user": "ada" })),
        ("unsubscribe", json!({ "user": "ada", "channel": "" })),
        ("refresh", json!({ "user": "ada", "expire_at": -1 })),
        ("refresh", json!({ "user": "ada", "b64info": "/w==" })),
    ] {
        assert_eq!(error(&door, method, params).await, 107, "{method}");
    }
    assert_eq!(
        error(
            &door,
            "subscribe",
            json!({ "user": "ada", "channel": "chat:1", "recover_since": {} })
        )
        .await,
        108
    );
}
