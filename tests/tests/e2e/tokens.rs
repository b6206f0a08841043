//! Who is let in: clients with a token, backends with a key, pages of a known origin.

use serde_json::json;
use tidings_tests::{
    Backend, CONFIG, Client, Launch, Tidings, command, event, expired_token, handshake, token,
};
use tonic::Code;

async fn node() -> Tidings {
    Launch::new("standalone").start().await
}

#[tokio::test]
async fn a_client_without_a_token_is_closed_with_the_protocols_code() {
    let node = node().await;
    let mut client = Client::open(&node.websocket()).await;
    client.send(r#"{"id":1,"connect":{}}"#).await;
    assert_eq!(client.closed().await, (3501, "bad request".to_owned()));
}

#[tokio::test]
async fn a_token_that_is_not_ours_ends_the_connection_for_good() {
    let node = node().await;
    // Signed with another key, for no algorithm, and no token at all.
    let foreign = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlIG9mIHNvbWVib2R5IGVsc2UsIGV2ZW4gc28";
    for bad in [foreign, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.", "nonsense"] {
        let mut client = Client::open(&node.websocket()).await;
        client
            .send(&json!({ "id": 1, "connect": { "token": bad } }).to_string())
            .await;
        assert_eq!(client.closed().await, (3500, "invalid token".to_owned()), "{bad}");
    }
    assert!(!node.logs().contains(foreign), "tokens are not logged");
}

#[tokio::test]
async fn an_expired_token_is_answered_with_the_error_that_makes_a_client_get_another() {
    let node = node().await;
    let mut client = Client::open(&node.websocket()).await;
    let reply = client
        .ask("connect", json!({ "token": expired_token("ada") }))
        .await;
    assert_eq!(reply["error"]["code"], 109, "{reply}");
}

#[tokio::test]
async fn tidings_token_mints_one_that_is_good_for_a_running_node() {
    let node = node().await;
    let secret = [(
        "TIDINGS_CLIENTS__TOKEN__HMAC_SECRET",
        "a secret of the tests, long enough",
    )];
    let minted = command(&["token", "--user", "ada", "--ttl", "10m"], &secret).await;
    assert_eq!(minted.code, Some(0), "{minted:?}");
    let mut client = Client::open(&node.websocket()).await;
    let reply = client
        .ask("connect", json!({ "token": minted.output.trim() }))
        .await;
    assert_eq!(reply["connect"]["expires"], true, "{reply}");
    let ttl = reply["connect"]["ttl"].as_u64().unwrap();
    assert!((1..=600).contains(&ttl), "{reply}");
}

#[tokio::test]
async fn a_client_may_do_only_what_its_namespace_allows() {
    let node = node().await;
    let mut client = Client::connect(&node.websocket(), &token("ada")).await;
    let code = async |client: &mut Client, command, parameters| {
        client.ask(command, parameters).await["error"]["code"].as_u64()
    };
    // Not configured; configured, but not for clients; only for subscribers; keeps no presence.
    assert_eq!(
        code(&mut client, "subscribe", json!({ "channel": "secrets:1" })).await,
        Some(102)
    );
    assert_eq!(
        code(&mut client, "publish", json!({ "channel": "news:1", "data": 1 })).await,
        Some(103)
    );
    assert_eq!(
        code(&mut client, "publish", json!({ "channel": "tasks:1", "data": 1 })).await,
        Some(103)
    );
    assert_eq!(
        code(&mut client, "presence", json!({ "channel": "news:1" })).await,
        Some(108)
    );
    client.subscribe("tasks:1").await;
    assert_eq!(
        code(&mut client, "publish", json!({ "channel": "tasks:1", "data": 1 })).await,
        None
    );
    assert_eq!(client.hear().await.1, json!(1));
}

#[tokio::test]
async fn a_backend_without_a_key_or_with_a_wrong_one_is_refused() {
    let node = node().await;
    for key in [None, Some("wrong")] {
        let backend = Backend::new(&node.backends()).with_key(key);
        let refused = backend
            .publish(event("task.created", "1", &["tasks:1"]))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(refused.message().contains("x-api-key"), "{refused}");
        assert_eq!(
            backend.list("tasks:1").await.unwrap_err().code(),
            Code::Unauthenticated
        );
    }
}

#[tokio::test]
async fn a_key_is_good_for_its_scopes_only() {
    let scopes = "name = \"tests\"\nevents = [\"task.*\"]\nchannels = [\"tasks:*\"]";
    let scoped = CONFIG.replace("name = \"tests\"", scopes);
    let node = Launch::new("standalone").config(&scoped).start().await;
    let backend = Backend::new(&node.backends());
    backend
        .publish(event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
    for (kind, channel) in [("invoice.paid", "tasks:1"), ("task.created", "news:1")] {
        let refused = backend.publish(event(kind, "1", &[channel])).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
}

#[tokio::test]
async fn a_page_of_an_origin_that_is_not_listed_is_refused_and_one_that_is_may_connect() {
    let config = format!("clients.allowed_origins = [\"https://app.example.com\"]\n{CONFIG}");
    let node = Launch::new("standalone").config(&config).start().await;
    let (status, why) = handshake(&node.websocket(), &[("origin", "https://evil.example.com")]).await;
    assert_eq!(status, 403);
    assert!(why.contains("allowed_origins"), "{why}");
}

#[tokio::test]
async fn only_dev_is_open_a_node_for_production_does_not_start_without_keys() {
    for (config, key) in [
        ("", "clients.token.hmac_secret"),
        ("clients.token.hmac_secret = 'short'", "clients.token.hmac_secret"),
        (
            "clients.token.hmac_secret = 'a secret of the tests, long enough'",
            "backends.key",
        ),
    ] {
        let exit = Launch::new("standalone").config(config).exit().await;
        assert_eq!(exit.code, Some(64), "{exit:?}");
        assert!(exit.output.contains(key), "{exit:?}");
    }
}
