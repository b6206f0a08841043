//! Who is let in, and how many of them.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tidings_auth::token::{Expected, Keyring, Minter, Verifier};
use tidings_core::Secret;
use tokio::net::TcpListener;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest, http::HeaderValue},
};

use crate::node::{Client, Node, PATIENCE, start, start_with};

const SECRET: &str = "a secret that only this test knows, and long enough";

fn token(user: &str) -> String {
    let secret = Secret::from(SECRET.to_owned());
    let minter = Minter::hs256(&secret, Expected::default()).expect("a secret");
    minter.connection(user, &[], None, Duration::from_secs(3600), SystemTime::now())
}

async fn say_hello(node: &Node, user: &str) -> Client {
    let mut client = node.open("/connection/websocket").await;
    let token = token(user);
    client.send(&json!({"id": 1, "connect": {"token": token}})).await;
    client
}

/// A client that was let in.
async fn enter(node: &Node, user: &str) -> Client {
    let mut client = say_hello(node, user).await;
    let connected = client.next().await;
    assert!(connected["connect"]["client"].is_string(), "{connected}");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_connections_and_a_refresh_is_not_another() {
    let keys = Keyring::secret(&Secret::from(SECRET.to_owned())).expect("a secret");
    let verifier = Verifier::new(keys, Expected::default());
    let node = start_with(Some(verifier), |config| {
        config.limits.connections_per_user = 2;
        config.cores = std::num::NonZero::new(2);
    });
    let (mut first, second) = (enter(&node, "ada").await, enter(&node, "ada").await);
    assert_eq!(say_hello(&node, "ada").await.close_code().await, 3504);
    drop(enter(&node, "eve").await);
    let nobody = [node.client().await, node.client().await, node.client().await];
    first
        .send(&json!({"id": 2, "refresh": {"token": token("ada")}}))
        .await;
    let refreshed = first.next().await;
    assert!(refreshed["refresh"].is_object(), "{refreshed}");
    drop((second, nobody));
    tokio::time::timeout(PATIENCE, async {
        while node.counter.count().await.connections > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("places are given back");
    let _third = enter(&node, "ada").await;
    assert_eq!(say_hello(&node, "ada").await.close_code().await, 3504);
}

/// A handshake that a proxy passes on for this client. The answer's status and body when it is refused.
async fn connect_for(node: &Node, client: &str) -> Result<Client, (u16, String)> {
    let mut request = format!("ws://{}/connection/websocket", node.address)
        .into_client_request()
        .expect("a request");
    let forwarded = HeaderValue::from_str(client).expect("a header");
    request.headers_mut().insert("x-forwarded-for", forwarded);
    match connect_async(request).await {
        Ok((socket, _)) => Ok(Client { socket }),
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let body = String::from_utf8(body).expect("text");
            Err((response.status().as_u16(), body))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_and_a_proxy_is_believed_only_when_it_is_trusted() {
    let full = (
        429,
        r#"{"error":"there are too many connections from this address; close one, or try again later"}"#
            .to_owned(),
    );
    let node = start(|config| config.limits.connections_per_address = 1);
    let _held = connect_for(&node, "203.0.113.1").await.expect("a place");
    assert_eq!(
        connect_for(&node, "203.0.113.2").await.map(drop),
        Err(full.clone())
    );

    let node = start(|config| {
        config.limits.connections_per_address = 1;
        config.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    });
    let held = connect_for(&node, "203.0.113.1").await.expect("a place");
    assert_eq!(
        connect_for(&node, "203.0.113.1").await.map(drop),
        Err(full.clone())
    );
    assert_eq!(
        connect_for(&node, "9.9.9.9, 203.0.113.1").await.map(drop),
        Err(full)
    );
    let _other = connect_for(&node, "203.0.113.2").await.expect("another place");
    drop(held);
    tokio::time::timeout(PATIENCE, async {
        while connect_for(&node, "203.0.113.1").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the place is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_published_elsewhere_are_asked_for_before_a_client_comes() {
    let publisher = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = publisher.local_addr().expect("bound");
    let url = format!("http://{address}/jwks.json").parse().expect("a URL");
    let keys = Keyring::jwks(&url).expect("an address");
    let _node = start_with(Some(Verifier::new(keys, Expected::default())), |_| {});
    let asked = tokio::time::timeout(PATIENCE, publisher.accept()).await;
    asked.expect("asked in time").expect("a connection");
}
