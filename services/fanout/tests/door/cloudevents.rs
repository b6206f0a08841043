//! CloudEvents over HTTP, in each of their modes.

use serde_json::{Value, json};
use tidings_broker::{
    Broker,
    redis::{self, RedisUrl},
};
use tidings_core::{Namespace, Namespaces};
use tidings_fanout::{Deps, Payload};

use crate::{
    harness::{Door, insecure, keyed, open_to_all, route},
    http::{Answer, send},
};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn door() -> Door {
    Door::open(
        &insecure(),
        &[route(
            "task.*",
            &["tasks:{tenant}", "user:{data.assignee}"],
            Payload::Event,
        )],
    )
}

fn task(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/task-service", "type": "task.created", "time": "2024-01-02T03:04:05Z",
        "tenant": "acme", "data": { "assignee": "ada" },
    })
}

async fn post(door: &Door, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    send(door.address, "POST /v1/events", headers, body).await
}

#[tokio::test]
async fn an_event_in_each_mode_reaches_the_channels_that_its_routes_give() {
    let mut door = door();
    door.listen(&["tasks:acme", "user:ada"]).await;
    let answer = post(&door, &[STRUCTURED], task("e1").to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = answer.json();
    assert_eq!((&said["id"], &said["duplicate"]), (&json!("e1"), &json!(false)));
    assert_eq!(
        (&said["channels"][0]["channel"], &said["channels"][0]["offset"]),
        (&json!("tasks:acme"), &json!(1))
    );
    assert_eq!(said["channels"][1]["channel"], "user:ada");

    let headers = [
        ("Ce-Specversion", "1.0"),
        ("Ce-Id", "e2"),
        ("Ce-Source", "/task-service"),
        ("Ce-Type", "task.created"),
        ("Ce-Time", "2024-01-02T03:04:05Z"),
        ("Ce-Tenant", "%61cme"),
        ("Content-Type", "application/json"),
    ];
    let answer = post(&door, &headers, r#"{"assignee":"ada"}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = post(&door, &[BATCH], json!([task("e3"), task("e4")]).to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["results"][1]["id"], "e4");

    let heard = door.heard();
    let of_tasks: Vec<_> = heard
        .iter()
        .filter(|(channel, _)| channel == "tasks:acme")
        .collect();
    assert_eq!((heard.len(), of_tasks.len()), (8, 4));
    for ((_, publication), id) in of_tasks.into_iter().zip(["e1", "e2", "e3", "e4"]) {
        let data: Value = serde_json::from_slice(&publication.data).unwrap();
        let expected = json!({
            "id": id, "type": "task.created", "source": "/task-service", "time": "2024-01-02T03:04:05.000Z",
            "data": { "assignee": "ada" },
        });
        assert_eq!(data, expected);
    }
}

#[tokio::test]
async fn a_repeat_is_published_once_whatever_its_mode() {
    let mut door = door();
    door.listen(&["tasks:acme"]).await;
    let first = post(&door, &[STRUCTURED], task("e1").to_string()).await.json();
    let again = post(&door, &[BATCH], json!([task("e1"), task("e1")]).to_string())
        .await
        .json();
    assert_eq!(again["results"][1]["duplicate"], true);
    assert_eq!(again["results"][0]["channels"], first["channels"]);
    assert_eq!(door.heard().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_is_named_by_attribute_and_nothing_is_published() {
    let mut door = door();
    door.listen(&["tasks:acme", "user:ada"]).await;
    let refused = async |change: Value, attribute: &str| {
        let mut event = task("e1");
        for (name, value) in change.as_object().unwrap() {
            event[name] = value.clone();
        }
        let answer = post(&door, &[STRUCTURED], event.to_string()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let said = answer.json();
        assert_eq!(said["attributes"][0]["attribute"], attribute, "{said}");
        assert!(
            said["error"]
                .as_str()
                .unwrap()
                .starts_with(&format!("{attribute}: ")),
            "{said}"
        );
    };
    refused(json!({ "id": null }), "id").await;
    refused(json!({ "specversion": "0.3" }), "specversion").await;
    refused(json!({ "time": "noon" }), "time").await;
    // These are rules of ours, in the words of CloudEvents.
    refused(json!({ "type": "task..created" }), "type").await;
    refused(
        json!({ "datacontenttype": "word", "data": "x" }),
        "datacontenttype",
    )
    .await;
    refused(json!({ "tenant": "x".repeat(1025) }), "tenant").await;
    refused(json!({ "time": "1969-12-31T23:59:59Z" }), "time").await;
    refused(json!({ "data": null, "data_base64": "e30" }), "data_base64").await;
    // What the routes need.
    refused(json!({ "tenant": null }), "tenant").await;
    refused(json!({ "data": {} }), "data.assignee").await;

    for (headers, body, status) in [
        (&[STRUCTURED][..], "{", 400),
        (&[STRUCTURED], "[]", 400),
        (&[("content-type", "application/cloudevents+avro")], "", 415),
        (&[STRUCTURED, ("content-encoding", "gzip")], "{}", 415),
        (&[("content-type", "application/json")], "{}", 400),
        (&[], "", 400),
    ] {
        let answer = post(&door, headers, body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.json()["error"].is_string());
    }
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let body = task("e1").to_string().replace(r#"{"assignee":"ada"}"#, &deep);
    assert_eq!(
        post(&door, &[STRUCTURED], body).await.json()["attributes"][0]["attribute"],
        "data"
    );
    let large = task("e1").to_string().replace("ada", &"a".repeat(2 << 20));
    assert_eq!(post(&door, &[STRUCTURED], large).await.status, 413);
    assert_eq!(send(door.address, "GET /v1/events", &[], "").await.status, 405);
    assert_eq!(door.heard(), []);
}

#[tokio::test]
async fn the_events_of_a_batch_have_their_own_answers_and_its_status_is_the_worst() {
    let mut door = door();
    door.listen(&["tasks:acme"]).await;
    let mut bad = task("e2");
    bad["subject"] = "".into();
    let mut unrouted = task("e3");
    unrouted["type"] = "bill.paid".into();
    let answer = post(&door, &[BATCH], json!([task("e1"), bad, unrouted]).to_string()).await;
    assert_eq!(answer.status, 400);
    let results = answer.json()["results"].clone();
    let statuses: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["status"].clone())
        .collect();
    assert_eq!(statuses, [200, 400, 200]);
    assert_eq!(results[1]["attributes"][0]["attribute"], "subject");
    assert_eq!(results[2]["channels"], json!([]));
    assert_eq!(door.heard().len(), 1);
    let empty = post(&door, &[BATCH], "[]").await;
    assert_eq!((empty.status, empty.json()), (200, json!({ "results": [] })));
}

#[tokio::test]
async fn an_event_goes_on_in_its_own_trace_or_in_that_of_its_request() {
    let mut door = door();
    door.listen(&["tasks:acme"]).await;
    let other = TRACE.replace("0af7", "ffff");
    let mut own = task("e1");
    own["traceparent"] = TRACE.into();
    post(&door, &[STRUCTURED, ("traceparent", &other)], own.to_string()).await;
    post(
        &door,
        &[STRUCTURED, ("traceparent", &other)],
        task("e2").to_string(),
    )
    .await;
    let heard = door.heard();
    let traces: Vec<_> = heard
        .iter()
        .map(|(_, publication)| publication.trace.clone().unwrap().traceparent)
        .collect();
    assert_eq!(traces, [TRACE.to_owned(), other]);
}

#[tokio::test]
async fn a_key_is_asked_for_and_reaches_as_far_as_its_scopes() {
    let route = [route("**", &["tasks:{tenant}"], Payload::Event)];
    let mut door = Door::open(&keyed(Some(&["task.*"]), Some(&["tasks:acme"])), &route);
    door.listen(&["tasks:acme", "tasks:other"]).await;
    let body = task("e1").to_string();
    for headers in [&[STRUCTURED][..], &[STRUCTURED, ("x-api-key", "wrong")]] {
        let answer = post(&door, headers, &body).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let by_query = send(
        door.address,
        "POST /v1/events?api_key=secret-key",
        &[STRUCTURED],
        &body,
    )
    .await;
    assert_eq!(by_query.status, 401);
    for (name, value) in [("type", "bill.paid"), ("tenant", "other")] {
        let mut event = task("e1");
        event[name] = value.into();
        let answer = post(
            &door,
            &[STRUCTURED, ("x-api-key", "secret-key")],
            event.to_string(),
        )
        .await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.body.contains("\\\"tasks\\\" may not"), "{answer:?}");
    }
    assert_eq!(door.heard(), []);
    let good = post(
        &door,
        &[STRUCTURED, ("authorization", "Bearer secret-key")],
        &body,
    )
    .await;
    assert_eq!(good.status, 200);
}

#[tokio::test]
async fn what_a_sender_should_try_again_is_503_and_what_nobody_configured_404() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = RedisUrl::parse(&format!("redis://{nobody}")).unwrap();
    let broker = Broker::redis(&redis::Config::new(url)).unwrap();
    let routes = [route("task.*", &["tasks:{tenant}"], Payload::Event)];
    let door = Door::open_with(open_to_all(&broker), &insecure(), &routes);
    let away = post(&door, &[STRUCTURED], task("e1").to_string()).await;
    assert_eq!(away.status, 503, "{away:?}");
    assert!(away.head.contains("retry-after: 1"), "{away:?}");

    let news = Namespace {
        name: "news".to_owned(),
        ..Namespace::default()
    };
    let deps = Deps {
        namespaces: Namespaces::new(vec![news]).unwrap(),
        ..open_to_all(&Broker::memory())
    };
    let door = Door::open_with(
        deps,
        &insecure(),
        &[route("task.*", &["{tenant}:1"], Payload::Event)],
    );
    let unknown = post(&door, &[STRUCTURED], task("e1").to_string()).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
    assert!(unknown.body.contains("[[namespace]]"), "{unknown:?}");
}
