//! The user's application decides: who a client is, where it may be, what it says.

use serde_json::{Value, json};
use tidings_tests::{Application, Launch, Sdk, in_every_way, token};

use crate::node::configured;

/// A node that asks the application about these, in the namespace `asked` where it is one's choice.
fn asking(application: &Application, about: &[&str]) -> Launch {
    let mut proxies = String::new();
    let mut asked = String::new();
    for about in about {
        let endpoint = application.endpoint(about);
        proxies += &format!("[clients.proxy.{about}]\nendpoint = \"{endpoint}\"\n");
        if matches!(*about, "subscribe" | "publish" | "sub_refresh") {
            asked += &format!("{about}_proxy_enabled = true\n");
        }
    }
    let namespace =
        "[[namespace]]\nname = \"asked\"\npresence = true\nallow_presence_for_subscriber = true\n";
    configured(&format!("{proxies}{namespace}{asked}"))
}

/// Seconds since 1970, so much later than now.
fn in_seconds(seconds: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs() + seconds
}

#[tokio::test]
async fn it_says_who_a_client_without_a_token_is() {
    let mut application =
        Application::start(async |_, question| match question["data"]["password"].as_str() {
            Some("right") => json!({ "result": {
            "user": "ada", "info": { "name": "Ada" }, "data": { "hello": question["name"] },
        } }),
            Some("later") => json!({ "error": { "code": 1100, "message": "try later", "temporary": true } }),
            _ => json!({ "disconnect": { "code": 4501, "reason": "wrong password" } }),
        })
        .await;
    let server = asking(&application, &["connect"]).start().await;
    in_every_way(async |way| {
        let connect = async |password: &str| {
            let claims = json!({ "x-claims": "anything" });
            let options = json!({ "data": { "password": password }, "name": "tests", "headers": claims });
            Sdk::connecting(way, &server.address(), options).await
        };
        let mut ada = connect("right").await;
        assert_eq!(ada.event("connected").await["data"], json!({ "hello": "tests" }));
        let mut eve = connect("wrong").await;
        assert_eq!(eve.event("disconnected").await["code"], 4501);
        let mut bob = connect("later").await;
        assert_eq!(bob.event("error").await["code"], 1100, "and it tries again");
        bob.event("error").await;
    })
    .await;
    let asked = application.asked().await;
    assert_eq!(asked.about, "connect");
    assert!(
        !asked.headers.contains_key("x-claims"),
        "a header is what the network says, not the client"
    );
    assert!(
        asked.body["client"].is_string() && asked.body["transport"].is_string(),
        "{asked:?}"
    );
}

#[tokio::test]
async fn it_lets_a_connection_go_on_that_would_expire_or_not() {
    let application =
        Application::start(
            async |about, question| match (about.as_str(), question["user"].as_str()) {
                ("connect", _) => {
                    let user = &question["data"]["user"];
                    json!({ "result": { "user": user, "expire_at": in_seconds(2) } })
                }
                (_, Some("ada")) => json!({ "result": { "expire_at": in_seconds(3600) } }),
                _ => json!({ "result": { "expired": true } }),
            },
        )
        .await;
    let server = asking(&application, &["connect", "refresh"]).start().await;
    in_every_way(async |way| {
        let connect = async |user: &str| {
            let options = json!({ "data": { "user": user } });
            Sdk::connecting(way, &server.address(), options).await
        };
        let (mut ada, mut eve) = (connect("ada").await, connect("eve").await);
        ada.event("connected").await;
        eve.event("connected").await;
        eve.forget();
        assert_eq!(eve.event("connecting").await["code"], 3005);
        let stats = ada.ask(&json!({ "do": "rpc", "method": "", "data": 1 })).await;
        assert_eq!(
            stats["code"], 108,
            "it is still there, and nobody answers rpc: {stats}"
        );
        assert!(!ada.had("disconnected"));
    })
    .await;
}

#[tokio::test]
async fn it_decides_who_may_be_in_a_channel_and_what_is_said_there() {
    let application = Application::start(async |about, question| match about.as_str() {
        "subscribe" if question["user"] == "ada" => {
            json!({ "result": { "data": { "topic": question["data"] }, "info": { "role": "owner" } } })
        }
        "subscribe" => json!({ "error": { "code": 403, "message": "not yours" } }),
        _ if question["data"] == json!("rude") => json!({ "error": { "code": 422, "message": "rude" } }),
        _ => json!({ "result": { "data": { "checked": question["data"] } } }),
    })
    .await;
    let server = asking(&application, &["subscribe", "publish"]).start().await;
    in_every_way(async |way| {
        let channel = way.channel("asked");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let subscribed = ada.subscribe(&channel, json!({ "data": { "n": 1 } })).await;
        assert_eq!(subscribed["data"], json!({ "topic": { "n": 1 } }));
        let said = ada
            .ask(&json!({ "do": "publish", "channel": channel, "data": "kind" }))
            .await;
        assert_eq!(said["result"], json!({}), "{said}");
        let heard: Value = ada.hear().await;
        assert_eq!(heard, json!({ "checked": "kind" }));
        let said = ada
            .ask(&json!({ "do": "publish", "channel": channel, "data": "rude" }))
            .await;
        assert_eq!(said["code"], 422, "{said}");
        let present = ada.ask(&json!({ "do": "presence", "channel": channel })).await;
        assert_eq!(
            present["result"]["clients"][0]["chanInfo"],
            json!({ "role": "owner" }),
            "{present}"
        );

        let mut eve = Sdk::connect(way, &server.address(), &token("eve")).await;
        eve.subscribing(&channel, json!({})).await;
        assert_eq!(eve.event("unsubscribed").await["code"], 403);
    })
    .await;
}

#[tokio::test]
async fn it_lets_a_subscription_go_on_that_would_expire_or_not() {
    let application =
        Application::start(
            async |about, question| match (about.as_str(), question["user"].as_str()) {
                ("subscribe", _) => json!({ "result": { "expire_at": in_seconds(2) } }),
                (_, Some("ada")) => json!({ "result": { "expire_at": in_seconds(3600) } }),
                _ => json!({ "result": { "expired": true } }),
            },
        )
        .await;
    let server = asking(&application, &["subscribe", "sub_refresh"]).start().await;
    in_every_way(async |way| {
        let channel = way.channel("asked");
        let mut ada = Sdk::connect(way, &server.address(), &token("ada")).await;
        let mut eve = Sdk::connect(way, &server.address(), &token("eve")).await;
        ada.subscribe(&channel, json!({})).await;
        eve.subscribe(&channel, json!({})).await;
        ada.forget();
        eve.forget();
        // The SDK subscribes again by itself, and is asked about anew.
        assert_eq!(eve.event("subscribing").await["code"], 2501);
        eve.event("subscribed").await;
        let present = ada.ask(&json!({ "do": "presence", "channel": channel })).await;
        assert!(present["result"].is_object(), "{present}");
        assert!(!ada.had("subscribing"), "{}", ada.rest());
    })
    .await;
}
