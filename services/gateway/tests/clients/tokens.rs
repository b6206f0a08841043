//! Tokens that let a client into one channel.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tidings_auth::token::{Config as Keys, Minter};
use tidings_core::{Namespace, Namespaces};

use crate::node::{Client, Node, start_in};

const HOUR: Duration = Duration::from_secs(3600);

fn keys() -> Keys {
    Keys {
        hmac_secret: Some("a secret for tests, of 32 bytes or more".to_owned().into()),
        ..Keys::default()
    }
}

fn minter() -> Minter {
    keys().minter().expect("a usable secret").expect("a secret")
}

/// Nobody may subscribe here without a token for it.
fn node() -> Node {
    let namespace = Namespace {
        name: "plain".to_owned(),
        ..Namespace::default()
    };
    let namespaces = Namespaces::new(vec![namespace]).expect("a namespace");
    start_in(namespaces, keys().verifier().expect("a usable secret"), |it| {
        it.insecure = false;
    })
}

async fn connected(node: &Node) -> Client {
    let token = minter().connection("42", &[], None, HOUR, SystemTime::now());
    let mut client = node.open("/connection/websocket").await;
    let reply = ask(&mut client, json!({"id": 1, "connect": {"token": token}})).await;
    assert!(reply["connect"].is_object(), "{reply}");
    client
}

async fn ask(client: &mut Client, command: Value) -> Value {
    client.send(&command).await;
    client.next().await
}

fn subscribe(channel: &str, token: &str) -> Value {
    json!({"id": 2, "subscribe": {"channel": channel, "token": token}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_channel_lets_its_user_in_and_a_newer_one_keeps_it_there() {
    let node = node();
    let now = SystemTime::now();
    let mut client = connected(&node).await;
    for channel in ["plain:1", "$plain:2"] {
        let refused = ask(&mut client, json!({"id": 2, "subscribe": {"channel": channel}})).await;
        assert_eq!(refused["error"]["code"], 103, "{channel}");
        let token = minter().subscription("42", channel, None, HOUR, now);
        let reply = ask(&mut client, subscribe(channel, &token)).await;
        assert_eq!(reply["subscribe"]["expires"], true, "{reply}");
        let newer = minter().subscription("42", channel, None, HOUR * 2, now);
        let refresh = json!({"id": 3, "sub_refresh": {"channel": channel, "token": newer}});
        let ttl = ask(&mut client, refresh).await["sub_refresh"]["ttl"].as_u64();
        assert!(ttl.is_some_and(|ttl| ttl > 3600), "{ttl:?}");
    }
    node.publish("$plain:2", "1").await;
    assert_eq!(client.next().await["push"]["pub"]["data"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_user_or_channel_ends_the_connection_and_one_that_expired_asks_for_a_newer() {
    let node = node();
    let now = SystemTime::now();
    for (user, channel) in [("43", "plain:1"), ("42", "plain:2"), ("", "plain:1")] {
        let mut client = connected(&node).await;
        let token = minter().subscription(user, channel, None, HOUR, now);
        client.send(&subscribe("plain:1", &token)).await;
        assert_eq!(client.close_code().await, 3500, "{user} {channel}");
    }
    let mut client = connected(&node).await;
    let old = minter().subscription("42", "plain:1", None, HOUR, now - 2 * HOUR);
    let reply = ask(&mut client, subscribe("plain:1", &old)).await;
    assert_eq!(reply["error"]["code"], 109, "{reply}");
    let connection = minter().connection("42", &[], None, HOUR, now);
    for forged in ["no token", &format!("{old}x")] {
        let reply = ask(&mut client, subscribe("plain:1", forged)).await;
        assert_eq!(reply["error"]["code"], 103, "{reply}");
    }
    client.send(&subscribe("plain:1", &connection)).await;
    assert_eq!(
        client.close_code().await,
        3500,
        "a connection token is for no channel"
    );
}
